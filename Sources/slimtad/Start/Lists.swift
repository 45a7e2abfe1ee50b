// The lists of rules (`sender_file` and its like), read at start, before rights are dropped, and at each reload, as secrets
// are: what is wrong with one is found before anything has changed. `slimtad check` reads them too.

import Glibc
import SlimtaConfiguration
import SlimtaMail
import SlimtaRules
import SlimtaStorage
import SlimtaSystem

/// The lists of a configuration's rules.
struct Lists: Sendable {
    /// Text beyond that takes too long to read at each reload, and too much memory.
    static let longestText = 64 << 20
    /// As many mistakes of one list are told.
    private static let mistakesTold = 10

    /// Why a list cannot be used: lines that are to be read behind the rule's key.
    struct Problem: Error {
        var lines: [String]
        /// errno, if it could not be read at all.
        var number: Int32?

        init(_ lines: [String], number: Int32? = nil) {
            self.lines = lines
            self.number = number
        }
    }

    /// By what rules call them.
    private(set) var all: [ListReference: any TextList] = [:]

    /// Reads all lists of a configuration; what is wrong with any of them is told at once, with the key that names it.
    static func load(_ file: ConfigurationFile) throws(Failure) -> Lists {
        var lists = Lists()
        var problems: [String] = []
        for (key, reference) in references(of: file.values.rules) where lists.all[reference] == nil {
            do throws(Problem) {
                lists.all[reference] = try read(reference).list
            } catch {
                problems += error.lines.map { "\(file.path):\(file.line(of: key)): \(key): \($0)" }
            }
        }
        guard problems.isEmpty else { throw Failure(.configuration, problems.joined(separator: "\n")) }
        return lists
    }

    /// The lists that rules name, each with the key that does, in the file's order.
    static func references(of rules: [Rule]) -> [(key: String, reference: ListReference)] {
        rules.enumerated().flatMap { index, rule in
            rule.conditions.flatMap { condition in
                condition.lists.map { ("rule[\(index)].\(condition.name)_file", $0) }
            }
        }
    }

    /// One list: a GDBM file of `slimtad map` is opened, text is read into memory.
    static func read(
        _ reference: ListReference
    ) throws(Problem) -> (list: any TextList, count: Int, isMap: Bool) {
        let path = reference.path
        if MapFile.isGDBM(try beginning(of: path)) {
            do throws(MapFileError) {
                let map = try ListFile(path, reference.kind)
                return (map, map.count, true)
            } catch {
                throw Problem([error.description])
            }
        }
        let octets: [UInt8]
        do throws(SystemError) {
            octets = try SecureFile.read(path, maximum: longestText, mustNotBeReadableByOthers: false)
        } catch {
            guard error.code == .invalid else { throw Problem([error.description], number: error.number) }
            throw Problem(["\(error): make a GDBM file of it with slimtad map \(path)"])
        }
        guard let text = String(validating: octets, as: UTF8.self) else {
            throw Problem(["\(path):\(line(ofBrokenText: octets)): is not UTF-8"])
        }
        var mistakes: [(line: Int, error: RuleError)] = []
        let set = TextSet(text, reference.kind, mistakes: &mistakes)
        guard mistakes.isEmpty else { throw Problem(self.lines(of: mistakes, in: path)) }
        return (set, set.count, false)
    }

    /// What is said of mistakes in a list: file and line of each, and how many more there are.
    static func lines(of mistakes: [(line: Int, error: RuleError)], in path: String) -> [String] {
        var lines = mistakes.prefix(mistakesTold).map {
            "\(path):\($0.line): found \($0.error.found), allowed is \($0.error.allowed)"
        }
        if mistakes.count > mistakesTold {
            lines.append("\(path): \(counted(mistakes.count - mistakesTold, "more mistake"))")
        }
        return lines
    }

    /// The first line that is not UTF-8.
    static func line(ofBrokenText octets: [UInt8]) -> Int {
        let lines = octets.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        return (lines.firstIndex { String(validating: $0, as: UTF8.self) == nil } ?? 0) + 1
    }

    /// The first octets of a file, which may be short; one that is no file is told when it is read.
    private static func beginning(of path: String) throws(Problem) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        guard descriptor >= 0 else {
            let number = errno
            throw Problem([SystemError("cannot read \(path)", number: number).description], number: number)
        }
        defer { close(descriptor) }
        var octets = [UInt8](repeating: 0, count: 4)
        let count = octets.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
        return Array(octets.prefix(max(0, count)))
    }
}
