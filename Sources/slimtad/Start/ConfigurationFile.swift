// Phase parseConfiguration: slimta.conf from its file to typed values, and the values that the machine has to supply.

import Glibc
import SlimtaConfiguration
import SlimtaMail
import SlimtaSystem

/// A configuration and where it is from.
struct ConfigurationFile: Sendable {
    let path: String
    let values: Configuration
    /// What is in the file, and when it was read.
    let content: [UInt8]
    let time = Timestamp.now()
    /// For a command: what is wrong with the file, as long as nobody needs it whole.
    var failure: Failure?

    /// More than any sane configuration, and little enough to read whole.
    private static let maximumSize = 4 << 20

    /// What is in the file.
    static func read(_ path: String) throws(SystemError) -> [UInt8] {
        try SecureFile.read(path, maximum: maximumSize, mustNotBeReadableByOthers: false)
    }

    /// Reads and checks the file.
    static func parse(_ path: String) throws(Failure) -> ConfigurationFile {
        let (file, _) = try understand(path)
        if let failure = file.failure { throw failure }
        return file
    }

    /// For a command that asks the running daemon, which does not care what the file says by now: it is as much of it as
    /// is understood, and what is wrong is said in a line. Whoever finds no daemon there has ``failure``.
    static func find(_ path: String) throws(Failure) -> ConfigurationFile {
        let (file, _) = try understand(path)
        if file.failure != nil { sayMistakes(path) }
        return file
    }

    /// What the users file needs: where it is, whose, and which keys users have in it.
    static let settingsOfUsers: [(table: String, key: String)] = [
        ("auth", "users"), ("auth", "mechanisms"), ("auth", "scram_iterations"),
        ("daemon", "user"), ("daemon", "group"),
    ]

    /// For a command that needs these settings and no others: mistakes elsewhere do no harm.
    static func find(_ path: String, for settings: [(table: String, key: String)]) throws(Failure) -> ConfigurationFile
    {
        let (file, understood) = try understand(path)
        guard let failure = file.failure else { return file }
        guard settings.allSatisfy({ understood.isCertain($0.table, $0.key) }) else { throw failure }
        sayMistakes(path)
        return file
    }

    private static func sayMistakes(_ path: String) {
        say("warning: \(path) has mistakes, a reload or start would refuse it: see slimtad check")
    }

    private static func understand(_ path: String) throws(Failure) -> (ConfigurationFile, Configuration.Understood) {
        let octets: [UInt8]
        do throws(SystemError) { octets = try read(path) } catch {
            throw Failure(.configuration, "\(error); --config names another file")
        }
        let text = String(decoding: octets, as: UTF8.self)
        let understood = Configuration.Understood(text, file: path)
        var file = ConfigurationFile(path: path, values: understood.configuration, content: octets)
        if String(validating: octets, as: UTF8.self) == nil {
            file.failure = Failure(.configuration, "\(path):\(Lists.line(ofBrokenText: octets)): is not UTF-8")
        } else if !understood.mistakes.errors.isEmpty {
            let mistakes = understood.mistakes
            file.failure = Failure(
                .configuration,
                "\(mistakes.description(with: text))\n\(path): \(counted(mistakes.errors.count, "error")), nothing was done"
            )
        }
        return (file, understood)
    }

    /// The line of a key path such as "edge[0].listen", or of what it is in.
    func line(of key: String) -> Int {
        Configuration.Understood(String(decoding: content, as: UTF8.self), file: path).line(of: key)
    }

    /// `hostname`, or the machine's.
    var hostname: String { values.hostname ?? Hostname.fullyQualified() }

    /// The id of `daemon.user`, who may own secrets; nil if there is no such user.
    var serviceUser: UInt32? { Privileges.userID(values.daemon.user) }

    var stateDirectory: String {
        values.daemon.stateDirectory ?? Self.environment("STATE_DIRECTORY")
            ?? Configuration.Daemon.defaultStateDirectory
    }

    var runtimeDirectory: String {
        values.daemon.runtimeDirectory ?? Self.usualRuntimeDirectory
    }

    /// Without a word of the file: systemd's, or the default.
    static var usualRuntimeDirectory: String {
        environment("RUNTIME_DIRECTORY") ?? Configuration.Daemon.defaultRuntimeDirectory
    }

    /// systemd's list of directories, separated by colons: the first is ours.
    private static func environment(_ name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        let first = String(cString: value).split(separator: ":").first
        return first.map(String.init)
    }
}
