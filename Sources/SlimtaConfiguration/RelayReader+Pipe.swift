// The keys of a relay of type "pipe": which command, and what it gets. Called by RelayReader.

import SlimtaMail
import TOMLKit

extension Configuration {
    /// The commands that mail may go into, each once.
    package var pipes: [PipeSettings] {
        var pipes: [PipeSettings] = []
        for relay in [relay] + routes.map(\.relay) {
            guard case .pipe(let pipe) = relay.type, !pipes.contains(pipe) else { continue }
            pipes.append(pipe)
        }
        return pipes
    }
}

extension RelayReader {
    /// Reports the first relay whose commands are more than run at once with those of the relays before it: they would wait for
    /// the helper, and their time would run meanwhile.
    static func checkProcesses(_ relays: [(table: Section, relay: Configuration.Relay)]) {
        var sum = 0
        for (table, relay) in relays {
            guard case .pipe(let pipe) = relay.type else { continue }
            sum += pipe.processes
            guard sum > PipeSettings.mostProcesses else { continue }
            return table.report(
                "processes", "found \(pipe.processes), which makes \(sum) of all relays",
                "allowed are \(PipeSettings.mostProcesses) in [relay] and all of [[route]] together")
        }
    }
}

/// What one table says of a command.
struct PipeKeys {
    /// The keys, for which there is no other type of relay.
    static let names = ["command", "user", "processes", "timeout", "eol", "environment"]

    private var pipe: PipeSettings

    /// - Parameter base: what holds where the table says nothing.
    init(_ table: Section, base: PipeKeys?) {
        var pipe = base?.pipe ?? PipeSettings()
        if let setting = table["command"] {
            pipe.command = Self.template(setting, "words", mayBeEmpty: false) ?? pipe.command
            if let program = pipe.command.words.first, !Self.isProgram(program) || !pipe.command.isFixed(0) {
                setting.mistakes.report(
                    KeyPath.element(setting.path, 0), "found \(KeyPath.quoted(program))",
                    "allowed is the absolute path of a program, without placeholders")
            }
        }
        if let setting = table["environment"] {
            pipe.environment = Self.template(setting, "lines NAME=VALUE", mayBeEmpty: true) ?? pipe.environment
            for (index, line) in pipe.environment.words.enumerated() where !Self.isVariable(line) {
                setting.mistakes.report(
                    KeyPath.element(setting.path, index), "found \(KeyPath.quoted(line))",
                    "allowed is a line such as \"FOLDER={extension}\"")
            }
        }
        pipe.user = table["user"]?.account("user") ?? pipe.user
        pipe.processes = table["processes"]?.integer(1...PipeSettings.mostProcesses) ?? pipe.processes
        pipe.timeout = table["timeout"]?.duration(.seconds(1) ... .days(1)) ?? pipe.timeout
        pipe.lineEnd = table["eol"]?.choice() ?? pipe.lineEnd
        self.pipe = pipe
    }

    /// nil: there is no command.
    var whole: PipeSettings? { pipe.command.words.isEmpty ? nil : pipe }

    private static func template(_ setting: Setting, _ what: String, mayBeEmpty: Bool) -> CommandTemplate? {
        let words = setting.list(of: what, mayBeEmpty: mayBeEmpty) { $0.text("text") { $0 } }
        guard let words, words.count == setting.value.array?.count else { return nil }
        do throws(CommandTemplate.Mistake) {
            return try CommandTemplate(words)
        } catch {
            setting.mistakes.report(
                KeyPath.element(setting.path, error.index), "found \(error.found)", "allowed is \(error.allowed)")
            return nil
        }
    }

    private static func isProgram(_ path: String) -> Bool {
        path.utf8.first == UInt8(ascii: "/") && path.utf8.count > 1 && path.utf8.last != UInt8(ascii: "/")
    }

    private static func isVariable(_ line: String) -> Bool {
        guard let equals = line.utf8.firstIndex(of: UInt8(ascii: "=")), equals > line.startIndex else { return false }
        return line.utf8[..<equals].allSatisfy { octet in
            octet.isASCIILetterOrDigit || octet == UInt8(ascii: "_")
        }
    }
}
