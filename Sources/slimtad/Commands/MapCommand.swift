// `slimtad map`: makes the GDBM file of a large list that rules look things up in.

import ArgumentParser
import Glibc
import SlimtaMail
import SlimtaRules
import SlimtaStorage
import SlimtaSystem

struct MapCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "map", abstract: "Make the GDBM file of a large list for rules.",
        discussion: """
            FILE has one entry a line: an address, a name, @domain, @.domain (all below it), a login, an IP address or a \
            network. Empty lines and those that begin with # do not count. The list is FILE.gdbm, which a rule names with \
            sender_file and its like. It takes the place of the old one when it is whole, with that one's owner and mode, \
            or with those of FILE; slimtad reload has the daemon use it. Exit status 78: FILE has mistakes, and nothing \
            was made.
            """)

    @Argument(help: "The list, in text.")
    var file: String

    @Option(help: "The file to make; FILE.gdbm without this.")
    var output: String?

    func run() {
        orExit { () throws(Failure) in
            let output = SecureFile.target(of: self.output ?? file + ".gdbm")
            do throws(SystemError) {
                guard let lock = try FileLock.ifFree(output) else {
                    throw SystemError(.locked, "somebody else is making \(output) just now; nothing was done")
                }
                defer { withExtendedLifetime(lock) {} }
                let temporary = "\(output).new-\(getpid())"
                let made = try make(temporary)
                try SecureFile.replace(output, byRenaming: temporary, model: file)
                print("\(output): \(made); slimtad reload has a running slimtad use it".visible)
            } catch {
                throw Failure(error)
            }
        }
    }

    /// Makes the file under the name that it has for now; what it is.
    private func make(_ temporary: String) throws(SystemError) -> String {
        let octets = try SecureFile.read(file, maximum: 2 << 30, mustNotBeReadableByOthers: false)
        guard !MapFile.isGDBM(octets.prefix(4)) else {
            throw SystemError(.invalid, "\(file) is a GDBM file: slimtad map wants the text that one is made of")
        }
        guard String(validating: octets, as: UTF8.self) != nil else {
            throw SystemError(.invalid, "\(file):\(Lists.line(ofBrokenText: octets)): is not UTF-8; nothing was made")
        }
        unlink(temporary)
        do throws(SystemError) {
            do throws(MapFileError) {
                let builder = try MapFileBuilder(temporary)
                var filling = Filling(builder)
                try filling.add(octets)
                guard filling.mistakes.isEmpty else {
                    let lines = Lists.lines(of: filling.mistakes, in: file)
                    throw MapFileError((lines + ["\(file): nothing was made"]).joined(separator: "\n"))
                }
                try builder.seal(note: filling.note.octets)
                return filling.description
            } catch {
                throw SystemError(.invalid, error.description)
            }
        } catch {
            unlink(temporary)
            throw error
        }
    }
}

/// The entries of a text on their way into a GDBM file.
private struct Filling {
    private let builder: MapFileBuilder
    var note = ListNote()
    var mistakes: [(line: Int, error: RuleError)] = []
    private var doubles = 0

    init(_ builder: MapFileBuilder) { self.builder = builder }

    /// Each entry as a text, and what is an address or a network as such too: a rule says which of them it wants.
    mutating func add(_ octets: [UInt8]) throws(MapFileError) {
        var number = 0
        for line in octets.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            guard let entry = TextSet.entry(line) else { continue }
            let key: String
            do throws(RuleError) {
                key = try TextSet.key(of: entry, .texts)
            } catch {
                mistakes.append((number, error))
                continue
            }
            if try builder.add(ListFile.key(key, .texts)) { note.entries += 1 } else { doubles += 1 }
            if let network = try? TextSet.key(of: entry, .networks) {
                _ = try builder.add(ListFile.key(network, .networks))
                if let length = ListFile.length(ofNetwork: network) { note.lengths.insert(length) }
            } else if note.firstText == nil {
                note.firstText = (number, entry)
            }
        }
    }

    var description: String {
        let kind = note.firstText == nil ? " of addresses and networks" : ""
        return (note.entries == 1 ? "1 entry" : "\(note.entries) entries") + kind
            + (doubles > 0 ? ", \(doubles) twice" : "")
    }
}
