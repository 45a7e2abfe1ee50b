// What the daemon asks of the helper that runs commands, and the octets that it is asked by. PipeRelay writes it,
// PipeConnection reads it; the message itself goes as a descriptor beside it.

internal import SlimtaHelper
package import SlimtaMail

/// A command to be run for one recipient of one message.
///
/// As octets: the length of what follows (4 octets, most significant first), a version, then texts and numbers in the order
/// below, each text and list behind its length.
package struct PipeRequest: Hashable, Sendable {
    /// A pipe as slimta.conf has it: the helper, which reads that file itself, runs no other.
    package struct Pipe: Hashable, Sendable {
        /// Its words as they are written; the first is the program's path.
        package var command: [String]
        /// Lines NAME=VALUE as they are written.
        package var environment: [String]
        /// Who runs it; nil: whoever the helper is.
        package var user: String?
        /// How long it may take, in milliseconds.
        package var timeout: Int64

        /// What one relay of type "pipe" says.
        package init(command: [String], environment: [String], user: String?, timeout: Int64) {
            self.command = command
            self.environment = environment
            self.user = user
            self.timeout = timeout
        }
    }

    /// Which command.
    package var pipe: Pipe
    /// What is put into it.
    package var values: CommandValues

    private static let version: UInt8 = 1
    /// The most octets of a request: more than addresses and a command need.
    package static let limit = 96 * 1024

    /// A request of the daemon's.
    package init(_ pipe: Pipe, _ values: CommandValues) {
        self.pipe = pipe
        self.values = values
    }

    /// As octets; nil: there are more than ``limit``.
    package var octets: [UInt8]? {
        var writer = OctetWriter()
        writer.octets.append(Self.version)
        writer.list(pipe.command)
        writer.list(pipe.environment)
        writer.text(pipe.user ?? "")
        writer.number(pipe.timeout)
        writer.list(values.all)
        guard writer.octets.count <= Self.limit else { return nil }
        return writer.frame
    }

    /// What octets say that have come so far.
    package enum Reading: Hashable, Sendable {
        /// Not all of it.
        case more
        /// All of it.
        case request(PipeRequest)
        /// What is no request.
        case malformed
    }

    /// Reads what has come of a request.
    package static func read(_ octets: [UInt8]) -> Reading {
        var reader: OctetReader
        switch Frame(octets, limit: limit) {
        case .more: return .more
        case .malformed: return .malformed
        case .whole(let whole): reader = whole
        }
        guard reader.octet() == version,
            let command = reader.list(), let environment = reader.list(), let user = reader.text(),
            let timeout = reader.number(), let values = reader.list().flatMap(CommandValues.init), reader.isAtEnd
        else { return .malformed }
        let pipe = Pipe(
            command: command, environment: environment, user: user.isEmpty ? nil : user, timeout: timeout)
        return .request(PipeRequest(pipe, values))
    }
}
