// What HTTPClient is given: a question, whom to ask, and what that may take of memory and time.

package import NIOCore
import NIOHTTP1
package import SlimtaTLS

/// What one request may take of memory and time.
package struct HTTPClientLimits: Hashable, Sendable {
    /// Octets of what comes that is no content: status line, fields, framing, and informational answers.
    package var head = 16 << 10
    /// Octets of the answer's body, without the framing of chunks. More is an error; nothing is cut.
    package var body = 64 << 10
    /// To connect to one address, and after that for the TLS handshake.
    package var connectTimeout = TimeAmount.seconds(10)
    /// From the call to the last octet of the request: a place among the connections and the connection are part of it.
    package var requestTimeout = TimeAmount.seconds(60)
    /// How the request has to go out; unless nothing of it moves for so long, within ``requestTimeout``.
    package var transfer = TransferWatch.Limits(leastRate: 0, stallTimeout: .seconds(60))
    /// From the last octet of the request to the last one of the answer.
    package var answerTimeout = TimeAmount.seconds(60)
    /// For the whole, from the call to the last octet of the answer.
    package var timeout = TimeAmount.seconds(60)
    /// How long an answer is still waited for when the task is cancelled behind the end of a request: who gives up then
    /// does not know what came of it.
    package var cancelledTimeout = TimeAmount.zero

    /// Those of MTA-STS policies (RFC 8461 section 3.3).
    package init() {}
}

/// How many connections there may be, and how long one is kept.
package struct HTTPConnectionLimits: Hashable, Sendable {
    /// Connections of the client. Requests beyond wait, within their time.
    package var total = 64
    /// Connections to one origin.
    package var perOrigin = 16
    /// How long a connection is kept for the next request; zero: every request has one of its own.
    package var idleTimeout = TimeAmount.zero
    /// How long a connection is given new requests: longer, and what DNS said of the host would never count again.
    package var lifetime = TimeAmount.minutes(10)

    /// Connections are not kept.
    package init() {}
}

/// Whom a request goes to.
package struct HTTPOrigin: Sendable {
    /// The host name or IP address: of the Host field, and whom the certificate must be for.
    package let host: String
    /// Tried in this order until one takes a connection; what goes wrong after that is final. UNIX sockets too.
    package let addresses: [SocketAddress]
    /// One that verifies has the certificate looked at; nil: without TLS.
    package let tls: TLSClientContext?
    private let port: Int?

    /// - Parameter port: what Host tells, if it is not the usual one; nil: that of the addresses, which all have the same.
    package init(host: String, port: Int? = nil, addresses: [SocketAddress], tls: TLSClientContext?) {
        self.host = host
        self.port = port ?? addresses.first?.port
        self.addresses = addresses
        self.tls = tls
    }

    /// RFC 9110 section 7.2.
    fileprivate var authority: String {
        let name = host.contains(":") ? "[\(host)]" : host
        guard let port, port != (tls == nil ? 80 : 443) else { return name }
        return "\(name):\(port)"
    }

    /// What requests must have in common to share a connection. Not the addresses: DNS may give others each time.
    var key: HTTPClientKey { HTTPClientKey(authority: authority, socket: addresses.first?.pathname, tls: tls) }
}

/// See ``HTTPOrigin``.
struct HTTPClientKey: PoolDestination {
    let authority: String
    /// The path of a UNIX socket.
    let socket: String?
    let tls: TLSClientContext?

    var group: HTTPClientKey { self }
}

/// The end of a body that is not kept in memory.
package struct HTTPRequestStream: Sendable {
    /// Octets that come.
    package let length: Int
    /// Begins to read, once for each connection that is tried. What it gives is called until it returns nil, or throws
    /// because the rest cannot be had; no sooner than there is room for more.
    package let open: @Sendable () -> @Sendable () async throws -> ByteBuffer?

    /// With the meaning of its properties.
    package init(length: Int, open: @escaping @Sendable () -> @Sendable () async throws -> ByteBuffer?) {
        self.length = length
        self.open = open
    }
}

/// What is asked.
package struct HTTPQuestion: Sendable {
    /// "GET"; CONNECT cannot be asked.
    package var method: String
    /// Path and query as they are sent (RFC 9112 section 3.2.1).
    package var target: String
    /// Fields, without those of host, framing and connection, which are the client's.
    package var fields: [(name: String, value: String)]
    /// nil: no body, and no length either.
    package var body: ByteBuffer?
    /// What follows on ``body``. The length is told in advance, so that no server has to understand chunks.
    package var stream: HTTPRequestStream?
    /// Asking twice does no more than asking once, though the method does not say so: such as where a POST only asks.
    package var mayBeRepeated = false

    /// A request of any kind.
    package init(
        _ method: String, _ target: String, _ fields: [(name: String, value: String)] = [], body: ByteBuffer? = nil,
        stream: HTTPRequestStream? = nil
    ) {
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body
        self.stream = stream
    }

    private static let reserved: Set<String> = [
        "host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer",
    ]
    private static let idempotent: Set<String> = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]

    /// Whether asking twice does no more than asking once (RFC 9110 section 9.2.2): by the method, because we know it, or
    /// because the server is told how to know a repeated request (draft-ietf-httpapi-idempotency-key-header).
    var isIdempotent: Bool {
        mayBeRepeated || Self.idempotent.contains(method)
            || fields.contains { $0.name.lowercased() == "idempotency-key" }
    }

    /// The head as it is sent. Parts of it may come from elsewhere, as the target of a report does (RFC 8460 section 3):
    /// nothing in them begins a line of its own.
    func head(to origin: HTTPOrigin, isKept: Bool) throws(HTTPClientError) -> HTTPRequestHead {
        guard Self.isToken(method), method != "CONNECT" else { throw .invalidRequest("method") }
        guard target.hasPrefix("/"), target.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw .invalidRequest("target")
        }
        guard !origin.host.isEmpty, origin.host.utf8.allSatisfy({ Self.isAlphanumeric($0) || "-._:".utf8.contains($0) })
        else { throw .invalidRequest("host") }
        for field in fields {
            let isText = field.value.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }
            guard Self.isToken(field.name), isText, !Self.reserved.contains(field.name.lowercased()) else {
                throw .invalidRequest("field \(field.name)")
            }
        }
        var headers = HTTPHeaders([("Host", origin.authority)])
        if !isKept { headers.add(name: "Connection", value: "close") }
        headers.add(contentsOf: fields.map { ($0.name, $0.value) })
        if body != nil || stream != nil {
            let length = (body?.readableBytes ?? 0) + (stream?.length ?? 0)
            headers.add(name: "Content-Length", value: "\(length)")
        }
        return HTTPRequestHead(version: .http1_1, method: HTTPMethod(rawValue: method), uri: target, headers: headers)
    }

    private static func isAlphanumeric(_ octet: UInt8) -> Bool {
        (0x30...0x39).contains(octet) || (0x41...0x5A).contains(octet & 0xDF)
    }

    /// RFC 9110 section 5.6.2.
    private static func isToken(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { isAlphanumeric($0) || "!#$%&'*+-.^_`|~".utf8.contains($0) }
    }
}
