// Reads the answers on a connection to a policy server, octets as they come: attributes, one a line, up to an empty line.
// Used by the handler of PolicyServiceClient.

package import NIOCore
internal import SlimtaMail

/// The answers on one connection. A machine without I/O; bounded, whatever comes.
package struct PolicyAnswerParser: Hashable, Sendable {
    /// What is there after some octets.
    package enum Progress: Hashable, Sendable {
        /// The answer has not ended.
        case more
        /// It has. Octets behind it are left in the buffer: there should be none.
        case answer(PolicyAnswer)
        /// This is no answer, and nobody knows where the next one begins. Nothing can be read from the connection any more.
        case malformed(Fault)
    }

    /// What is wrong.
    package enum Fault: Hashable, Sendable, CustomStringConvertible {
        /// An empty line where an attribute was due.
        case noAttribute
        /// A line without "=": its beginning, made visible.
        case noName(String)
        /// Attributes, and none of them is an action. The name of the first one.
        case noAction(String)
        /// More octets than an answer has.
        case tooLong

        /// For logs.
        package var description: String {
            switch self {
            case .noAttribute: "an empty line where action= was due"
            case .noName(let line): "the line \"\(line)\", which is no attribute"
            case .noAction(let name): "no action=, but \(name)="
            case .tooLong: "more than \(PolicyAnswerParser.limit) octets"
            }
        }
    }

    /// Octets of an answer, its empty line counted.
    package static let limit = 8192

    /// Whether a line has ended with CRLF. Harmless, and not what the protocol says.
    package private(set) var hasSeenCRLF = false
    private var line: [UInt8] = []
    private var count = 0
    private var firstName: String?
    private var action: String?
    private var fault: Fault?

    /// The beginning of a connection.
    package init() {}

    /// Whether octets of an answer have come that has not ended.
    package var isWithinAnswer: Bool { count > 0 }

    /// Reads from `octets` what belongs to the answer.
    package mutating func read(_ octets: inout ByteBuffer) -> Progress {
        if let fault { return .malformed(fault) }
        while let octet = octets.readInteger(as: UInt8.self) {
            count += 1
            guard count <= Self.limit else { return failed(.tooLong) }
            guard octet == UInt8(ascii: "\n") else {
                line.append(octet)
                continue
            }
            if let progress = lineEnded() { return progress }
        }
        return .more
    }

    private mutating func lineEnded() -> Progress? {
        if line.last == UInt8(ascii: "\r") {
            line.removeLast()
            hasSeenCRLF = true
        }
        defer { line.removeAll(keepingCapacity: true) }
        guard !line.isEmpty else { return answerEnded() }
        guard let equals = line.firstIndex(of: UInt8(ascii: "=")) else {
            return failed(.noName(String(decoding: line, as: UTF8.self).visible.cut(toOctets: 64)))
        }
        let name = String(decoding: line[..<equals], as: UTF8.self).trimmed
        // The first action counts; what else a server says is for others.
        if action == nil, name.utf8.elementsEqual("action".utf8) {
            let value = line[line.index(after: equals)...].map { $0 == 0 ? UInt8(ascii: "?") : $0 }
            action = String(decoding: value, as: UTF8.self)
        }
        if firstName == nil { firstName = name.visible.cut(toOctets: 64) }
        return nil
    }

    private mutating func answerEnded() -> Progress {
        guard let action else { return failed(firstName.map { .noAction($0) } ?? .noAttribute) }
        (self.action, firstName, count) = (nil, nil, 0)
        return .answer(PolicyAnswer(action))
    }

    private mutating func failed(_ fault: Fault) -> Progress {
        self.fault = fault
        return .malformed(fault)
    }
}
