// What the HTTP server asks of who uses it: who may ask, what a request is answered, and what of that is logged. The
// control socket implements it; anything else that is spoken over HTTP does too.

package import NIOCore
import NIOHTTP1
package import SlimtaMail
import SlimtaTLS

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
    /// A request could be read in two ways, or asks for what there is not: it was answered with this status and text.
    case malformed(HTTPPeer, Int, String)
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
    private let channel: any Channel
    private let abandonment: HTTPAbandonment
    private let fields: HTTPHeaders

    init(
        _ head: HTTPRequestHead, length: Int?, peer: HTTPPeer, channel: any Channel, _ abandonment: HTTPAbandonment
    ) {
        self.channel = channel
        self.abandonment = abandonment
        method = head.method.rawValue
        target = head.uri
        fields = head.headers
        self.length = length
        self.peer = peer
    }

    /// Where the request is answered.
    package var eventLoop: any EventLoop { channel.eventLoop }

    /// Has `action` done, on any thread, if the client goes away before it is answered. The last one counts.
    package func whenAbandoned(_ action: @escaping @Sendable () -> Void) { abandonment.set(action) }

    /// Whom the client's certificate is for, for whoever wants to know; to be called on the channel's event loop.
    package var certificate: @Sendable () -> CertificateIdentity? {
        { [channel] in (try? channel.pipeline.syncOperations.handler(type: TLSHandler.self))?.peerIdentity }
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
