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

    /// More than any sane configuration, and little enough to read whole.
    private static let maximumSize = 4 << 20

    /// What is in the file.
    static func read(_ path: String) throws(SystemError) -> [UInt8] {
        try SecureFile.read(path, maximum: maximumSize, mustNotBeReadableByOthers: false)
    }

    /// Reads and checks the file.
    static func parse(_ path: String) throws(Failure) -> ConfigurationFile {
        let octets: [UInt8]
        do throws(SystemError) { octets = try read(path) } catch {
            throw Failure(.configuration, "\(error); --config names another file")
        }
        guard let text = String(validating: octets, as: UTF8.self) else {
            throw Failure(.configuration, "\(path): is not UTF-8")
        }
        do throws(ConfigurationErrors) {
            return ConfigurationFile(
                path: path, values: try Configuration.parse(text, file: path), content: octets)
        } catch {
            let count = error.errors.count
            throw Failure(
                .configuration,
                "\(error.description(with: text))\n\(path): \(counted(count, "error")), nothing was done")
        }
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
