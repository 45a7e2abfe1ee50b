// What the daemon asks of the helper that runs commands, and the octets that it is asked by. PipeRelay writes it, PipeHelper
// reads it; the message itself goes as a descriptor beside it.

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
        return PipeRequest.length(of: writer.octets.count) + writer.octets
    }

    private static func length(of count: Int) -> [UInt8] {
        withUnsafeBytes(of: UInt32(count).bigEndian) { Array($0) }
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
        guard octets.count >= 4 else { return .more }
        let length = octets[..<4].reduce(0) { $0 << 8 | Int($1) }
        guard length <= limit else { return .malformed }
        guard octets.count >= 4 + length else { return .more }
        var reader = OctetReader(octets[4...])
        guard octets.count == 4 + length, reader.octet() == version,
            let command = reader.list(), let environment = reader.list(), let user = reader.text(),
            let timeout = reader.number(), let values = reader.list().flatMap(CommandValues.init), reader.isAtEnd
        else { return .malformed }
        let pipe = Pipe(
            command: command, environment: environment, user: user.isEmpty ? nil : user, timeout: timeout)
        return .request(PipeRequest(pipe, values))
    }
}

/// Writes texts behind their lengths.
struct OctetWriter {
    var octets: [UInt8] = []

    mutating func number(_ number: Int64) {
        withUnsafeBytes(of: number.bigEndian) { octets.append(contentsOf: $0) }
    }

    mutating func text(_ text: String) {
        withUnsafeBytes(of: UInt32(text.utf8.count).bigEndian) { octets.append(contentsOf: $0) }
        octets.append(contentsOf: text.utf8)
    }

    mutating func list(_ texts: [String]) {
        withUnsafeBytes(of: UInt32(texts.count).bigEndian) { octets.append(contentsOf: $0) }
        for text in texts { self.text(text) }
    }
}

/// Reads what ``OctetWriter`` has written; each reading is nil where there is not enough, or not UTF-8.
struct OctetReader {
    private var rest: ArraySlice<UInt8>

    init(_ octets: ArraySlice<UInt8>) { rest = octets }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func octet() -> UInt8? { rest.popFirst() }

    mutating func number() -> Int64? { take(8)?.reduce(0) { $0 << 8 | Int64($1) } }

    mutating func text() -> String? {
        guard let count = length() else { return nil }
        return take(count).flatMap { String(validating: $0, as: UTF8.self) }
    }

    mutating func list() -> [String]? {
        // Each has a length of its own: no more than that many are there, whatever is said.
        guard let count = length(), count <= rest.count / 4 else { return nil }
        var texts: [String] = []
        for _ in 0..<count {
            guard let text = text() else { return nil }
            texts.append(text)
        }
        return texts
    }

    private mutating func length() -> Int? { take(4)?.reduce(0) { $0 << 8 | Int($1) } }

    private mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
        guard count <= rest.count else { return nil }
        defer { rest = rest.dropFirst(count) }
        return rest.prefix(count)
    }
}
