// A TOML text, parsed as far as it can be: what is broken is reported and taken out, the rest is there, each key path
// with its line. Used by `Configuration.parse`.

import TOMLKit

/// What is left of a text once its broken statements are out.
struct TOMLDocument {
    /// The tree; nil if nothing could be saved.
    let root: TOMLTable?
    /// What is not TOML, by line.
    let problems: [TOMLProblem]
    /// Top-level keys that stand for tables whose header is broken: what is in them is not to be judged.
    let ignored: Set<String>

    let lineOf: [String: Int]
    /// Key paths that were in broken statements: they are not missing.
    private let broken: Set<String>
    /// Tables in which a broken statement's key is not known, so that nothing in them can be called missing.
    private let vague: Set<String>
    /// Whether a broken statement may have hidden a table.
    private let mayMissTables: Bool

    init(_ text: String) {
        var recovery = Recovery(text)
        let root = recovery.run()
        self.root = root
        problems = recovery.problems.sorted { $0.line < $1.line }
        ignored = recovery.ignored
        broken = recovery.broken
        vague = recovery.vague
        mayMissTables = recovery.mayMissTables
        lineOf = recovery.lineOf
    }

    /// The line of a key path; where it has none, that of what it is in; at last 1.
    func line(of path: String) -> Int { Self.line(of: path, in: lineOf) }

    /// As ``line(of:)``, from a document's lines alone.
    static func line(of path: String, in lineOf: [String: Int]) -> Int {
        var path = Substring(path)
        while !path.isEmpty {
            if let line = lineOf[String(path)] { return line }
            // Cuts in a quoted key do no harm: they name nothing and are cut again.
            guard let end = path.lastIndex(where: { $0 == "." || $0 == "[" }) else { break }
            path = path[..<end]
        }
        return 1
    }

    /// Whether the absence of `key` in the table at `table` means that the file does not say it.
    func isTellingAbsence(of key: String, in table: String) -> Bool {
        !vague.contains(table) && !broken.contains(KeyPath.joining(table, key))
    }

    /// Whether the absence of a table means that the file does not have it.
    func isTellingAbsence(ofTable path: String) -> Bool { !mayMissTables && !broken.contains(path) }

    /// Longer texts are no configuration.
    static let maximumSize = 1 << 20
}

/// Parses again and again, each time without the statement that was wrong.
private struct Recovery {
    var problems: [TOMLProblem] = []
    var ignored: Set<String> = []
    var broken: Set<String> = []
    var vague: Set<String> = []
    var mayMissTables = false
    var lineOf: [String: Int] = [:]

    private var lines: [[UInt8]]
    /// Headers that were completed by a guess: the second time they are given up.
    private var completed: Set<Int> = []

    init(_ text: String) {
        lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map(Array.init)
        // A C string ends there: nothing behind it would be seen.
        for index in lines.indices where lines[index].contains(0) {
            report(index + 1, "a NUL octet is in the text")
            lines[index] = []
            mayMissTables = true
        }
    }

    /// More mistakes than that are not worth a try.
    private static let maximumTries = 64

    /// The tree of what is left.
    mutating func run() -> TOMLTable? {
        for _ in 0..<Self.maximumTries {
            // With a line's end at the end: the parser lets "key =" pass if nothing at all follows.
            let text = Array(lines.joined(separator: [UInt8(ascii: "\n")])) + [UInt8(ascii: "\n")]
            let scanner = TOMLScanner(text)
            lineOf = scanner.lineOf
            if let statement = scanner.statements.first(where: { $0.poison != nil }), let poison = statement.poison {
                report(poison.line, poison.text)
                takeOut(statement)
                continue
            }
            do {
                return try TOMLTable(string: String(decoding: text, as: UTF8.self))
            } catch let error as TOMLParseError {
                let line = min(max(error.source.begin.line, 1), lineCount)
                let message = error.description
                guard takeOut(line, message, scanner.statements) else { return nil }
            } catch {
                report(1, "\(error)")  // it throws nothing else
                return nil
            }
        }
        return nil
    }

    /// The lines of the file: what is behind the last line's end is none.
    private var lineCount: Int { max(1, lines.last?.isEmpty == true ? lines.count - 1 : lines.count) }

    private mutating func report(_ line: Int, _ text: String) {
        let hint = lines.indices.contains(line - 1) ? TOMLHint.text(for: lines[line - 1]) : ""
        problems.append(TOMLProblem(line: line, text: text + hint))
    }

    /// Takes out what the parser stumbled over in `line`; false if there is nothing to take out.
    private mutating func takeOut(_ line: Int, _ message: String, _ statements: [TOMLStatement]) -> Bool {
        // What has no end swallows what follows, and the parser notices only there.
        let unended = statements.first { $0.problem != nil && $0.lines.lowerBound <= line }
        guard let statement = unended ?? statements.first(where: { $0.lines.contains(line) }) else {
            report(line, message)
            guard !lines[line - 1].isEmpty else { return false }
            lines[line - 1] = []
            return true
        }
        if let problem = statement.problem {
            report(problem.line, problem.text)
        } else if !completed.contains(statement.lines.lowerBound) {
            report(line, TOMLHint.again(statement, message, lineOf) ?? message)
        }
        takeOut(statement)
        return true
    }

    private mutating func takeOut(_ statement: TOMLStatement) {
        let first = statement.lines.lowerBound
        var replacement: [UInt8] = []
        switch statement.kind {
        case .header(let isArray, let keys):
            let guess = (isArray ? "[[" : "[") + keys.joined(separator: ".") + (isArray ? "]]" : "]")
            let isGuessable =
                !keys.isEmpty && keys.allSatisfy { !$0.isEmpty && $0.utf8.allSatisfy(KeyPath.isBareOctet) }
            if isGuessable, completed.insert(first).inserted, Array(guess.utf8) != lines[first - 1] {
                replacement = Array(guess.utf8)
            } else {
                // Its keys must not fall to the table before, so they get one of their own.
                let name = "(line \(first))"
                ignored.insert(name)
                replacement = Array("[\"\(name)\"]".utf8)
                mayMissTables = true
            }
        case .value(let path?): markBroken(path)
        case .value(nil): vague.insert(statement.table)
        }
        if statement.problem != nil {
            // What the guessed end cut off is not known.
            vague.insert(statement.table)
            if statement.lines.upperBound >= lineCount { mayMissTables = true }
        }
        for line in statement.lines { lines[line - 1] = [] }
        lines[first - 1] = replacement
    }

    /// The path and the tables on the way to it.
    private mutating func markBroken(_ path: String) {
        broken.insert(path)
        for index in path.indices where path[index] == "." || path[index] == "[" {
            broken.insert(String(path[..<index]))
        }
    }
}
