// What the HTTP server asks of who uses it: who may ask, what a request is answered, and what of that is logged. The
// control socket implements it; anything else that is spoken over HTTP does too.

package import NIOCore
import NIOHTTP1
package import SlimtaMail

/// Who is at the other end of a connection.
package struct HTTPPeer: Sendable {
    /// A process at the other end of a UNIX socket: as the kernel says, not as the client does.
    package struct Process: Hashable, Sendable {
        /// The effective user when it connected.
        package var uid: UInt32
        /// It may have ended since, and the number be another's.
        package var pid: Int32
        /// The groups that it has: with more than 64 only its own, and the superuser's only as its own.
        package var groups: [UInt32]

        /// One that is known otherwise than from a socket: in tests.
        package init(uid: UInt32, pid: Int32, groups: [UInt32] = []) {
            self.uid = uid
            self.pid = pid
            self.groups = groups
        }
    }

    /// Addresses of both ends.
    package let connection: ConnectionFacts
    /// Who has the other end of a UNIX socket; nil for a TCP connection.
    package let process: Process?
}

/// Whether a peer may ask.
package enum HTTPAdmission: Sendable {
    case admitted
    /// Its first request is answered with this, and the connection ends. Such connections are counted by themselves, so
    /// that they keep nobody out.
    case refused(HTTPResponse)
}

/// Who may ask.
package protocol HTTPAccess: Sendable {
    /// Called once for each connection, on its event loop. Must not block.
    func admit(_ peer: HTTPPeer) -> HTTPAdmission
}

/// What the server tells its user, who knows whether and how it is logged.
package enum HTTPServerEvent: Sendable {
    /// A connection was closed at accept, because there are as many as there may be.
    case tooMany(limit: Int)
    /// A peer asked that was not admitted.
    case refused(HTTPPeer)
    /// A connection ended otherwise than it should: who went away, or sent what is not HTTP; the peer if it is known. Mostly
    /// the client's own affair.
    case broken(HTTPPeer?, any Error)
}

/// Answers requests.
package protocol HTTPService: Sendable {
    /// Answers one request; those of a connection are asked one after another. Must not block.
    ///
    /// Of `body` it reads as much as it wants; it ends with this call. What is left of a long one ends the connection behind
    /// the answer. An error ends the connection without an answer, but for ``HTTPBody/TooLarge``, which is answered with 413.
    func respond(to request: HTTPRequest, body: HTTPBody) async throws -> HTTPResponse

    /// Told on an event loop or in a connection's task: must not block.
    func noticed(_ event: HTTPServerEvent)
}

/// A request, but for its body.
package struct HTTPRequest: Sendable {
    /// As it was sent: "GET".
    package let method: String
    /// The request target as it was sent (RFC 9112 section 3.2), in which ``HTTPTarget`` finds path and query.
    package let target: String
    /// Who asks.
    package let peer: HTTPPeer
    /// Octets of the body; nil if only its end will tell.
    package let length: Int?
    private let fields: HTTPHeaders

    init(_ head: HTTPRequestHead, length: Int?, peer: HTTPPeer) {
        method = head.method.rawValue
        target = head.uri
        fields = head.headers
        self.length = length
        self.peer = peer
    }

    /// The values of all fields of a name, which is the same in both cases, in their order; none is split at commas.
    package func values(_ name: String) -> [String] { fields[name] }
}

/// An answer.
package struct HTTPResponse: Sendable {
    /// The octets behind the fields.
    package enum Content: Sendable {
        case whole(ByteBuffer)
        /// Octets as they come: nil is the end. An error breaks the connection off, so that nobody takes the beginning
        /// for the whole.
        case stream(@Sendable () async throws -> ByteBuffer?)
    }

    /// The status code (RFC 9110 section 15).
    package var status: Int
    /// Fields, without those of framing and connection, which are the server's.
    package var fields: [(name: String, value: String)]
    /// What follows the fields; of a HEAD request only its framing is sent.
    package var content: Content
    /// Called when the answer is on its way: for what may end the server before it has answered.
    package var afterwards: @Sendable () -> Void = {}

    /// An answer of any kind: empty where nothing else is given.
    package init(
        _ status: Int, _ fields: [(name: String, value: String)] = [], _ content: Content = .whole(ByteBuffer())
    ) {
        self.status = status
        self.fields = fields
        self.content = content
    }

    /// JSON in one line.
    package init(_ json: JSON, status: Int = 200, afterwards: @escaping @Sendable () -> Void = {}) {
        var octets: [UInt8] = []
        json.write(to: &octets)
        octets.append(UInt8(ascii: "\n"))
        self.init(status, [("Content-Type", "application/json")], .whole(ByteBuffer(bytes: octets)))
        self.afterwards = afterwards
    }

    /// What is wrong, in words: `{"error": "..."}`.
    package static func error(_ status: Int, _ text: String) -> HTTPResponse {
        HTTPResponse(.object([.init("error", .string(text))]), status: status)
    }
}
