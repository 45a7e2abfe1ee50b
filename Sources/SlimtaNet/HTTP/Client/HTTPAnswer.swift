// What HTTPClient gives: an answer, or why there is none.

package import NIOCore
import NIOHTTP1
package import SlimtaMail
package import SlimtaTLS

/// Why there is no answer.
package enum HTTPClientError: Error, Hashable, Sendable {
    /// How far a request has come.
    package enum Phase: Hashable, Sendable {
        /// Nothing was sent: it waits for its turn, or for the connection.
        case connecting
        /// Not all was sent.
        case sending
        /// All was sent.
        case answering
    }

    /// The request cannot be sent as it is: nothing was.
    case invalidRequest(String)
    /// No address took the connection; why, for each of them.
    case cannotConnect([String])
    /// The handshake failed, a certificate that was not accepted included; or what came later is no TLS.
    case tls(TLSError)
    /// There is no time left for this phase, or for the whole.
    case timedOut(Phase)
    /// The answer has more octets than it may.
    case tooLarge
    /// What came is no HTTP/1.1 answer, or one of which nobody knows where it ends.
    case malformed(String)
    /// The connection ended before the answer did.
    case endedEarly
    /// What was to be sent could not be had, or is not as long as was said: why. The server has not got all of it.
    case noBody(String)
    /// The task was cancelled, or the client shut down.
    case cancelled

    /// For an operator.
    package var words: String {
        switch self {
        case .invalidRequest(let what): "the request cannot be sent: \(what)"
        case .cannotConnect(let reasons): "no connection: \(reasons.joined(separator: "; "))"
        case .tls(let error): "\(error)"
        case .timedOut: "no answer in time"
        case .tooLarge: "its answer is too long"
        case .malformed(let what): "its answer is no HTTP: \(what)"
        case .endedEarly: "the connection ended before the answer"
        case .noBody(let why): "the request cannot be sent: \(why)"
        case .cancelled: "cancelled"
        }
    }
}

/// What the server said, informational answers aside. A redirect is an answer like any other.
package struct HTTPAnswer: Sendable {
    /// The status code (RFC 9110 section 15).
    package let status: Int
    /// What stands behind it on the line: for people, and of any length up to the limit of a head.
    package let reason: String
    /// The whole body, without framing; empty where there is none.
    package internal(set) var body = ByteBuffer()
    /// Whether it began before the whole request was sent: then the server cannot have all of it.
    package internal(set) var isEarly = false
    /// TLS of the connection; nil in clear.
    package internal(set) var tls: TLSDescription?
    private let fields: HTTPHeaders

    init(_ head: HTTPResponseHead) {
        status = Int(head.status.code)
        reason = head.status.reasonPhrase
        fields = head.headers
    }

    /// The values of all fields of a name, which is the same in both cases, in their order; none is split at commas.
    package func values(_ name: String) -> [String] { fields[name] }

    /// What the body is (RFC 9110 section 8.3), in lower case and without parameters; nil if that is not said once.
    package var mediaType: String? {
        let values = values("content-type")
        guard values.count == 1, let value = values.first else { return nil }
        let type = value.prefix { $0 != ";" }.drop { $0 == " " || $0 == "\t" }
        return String(type.prefix { $0 != " " && $0 != "\t" }).asciiLowercased()
    }

    /// How long the server wants not to be asked again (RFC 9110 section 10.2.3); nil if it does not say, or not clearly.
    ///
    /// - Parameter now: a date is compared with the server's own clock, where it tells that in Date, else with this.
    package func retryAfter(now: Timestamp) -> Duration? {
        let values = values("retry-after")
        guard values.count == 1, let value = values.first else { return nil }
        if !value.isEmpty, value.utf8.allSatisfy(\.isASCIIDigit) {
            // More than fits is for ever.
            return .seconds(min(Int64(value) ?? .max, 1 << 32))
        }
        guard let end = Timestamp(httpDate: value) else { return nil }
        return max(.zero, end - (self.values("date").first.flatMap { Timestamp(httpDate: $0) } ?? now))
    }
}
