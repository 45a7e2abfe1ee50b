// What HTTPClient is given and gives: a question and whom to ask, what that may take, and an answer or why there is none.

package import NIOCore
import NIOHTTP1
package import SlimtaTLS

/// What a server may take of memory and time.
package struct HTTPClientLimits: Hashable, Sendable {
    /// Octets of what comes that is no content: status line, fields, framing, and informational answers.
    package var head = 16 << 10
    /// Octets of the answer's body, without the framing of chunks. More is an error; nothing is cut.
    package var body = 64 << 10
    /// To connect to one address.
    package var connectTimeout = TimeAmount.seconds(10)
    /// For the whole, from the first address to the last octet of the answer.
    package var timeout = TimeAmount.seconds(60)

    /// Those of MTA-STS policies (RFC 8461 section 3.3).
    package init() {}
}

/// Why there is no answer.
package enum HTTPClientError: Error, Hashable, Sendable {
    /// The request cannot be sent as it is: nothing was.
    case invalidRequest(String)
    /// No address took the connection; why, for each of them.
    case cannotConnect([String])
    /// The handshake failed, a certificate that was not accepted included; or what came later is no TLS.
    case tls(TLSError)
    /// The time for the whole is over.
    case timedOut
    /// The answer has more octets than it may.
    case tooLarge
    /// What came is no HTTP/1.1 answer, or one of which nobody knows where it ends.
    case malformed(String)
    /// The connection ended before the answer did.
    case endedEarly
    /// The task was cancelled.
    case cancelled
}

/// Whom a request goes to.
package struct HTTPOrigin: Sendable {
    /// The host name or IP address: of the Host field, and whom the certificate must be for.
    package let host: String
    /// Tried in this order until one takes a connection; what goes wrong after that is final.
    package let addresses: [SocketAddress]
    /// A context that verifies; nil: without TLS.
    package let tls: TLSClientContext?

    /// All addresses have the same port, which Host tells if it is not the usual one.
    package init(host: String, addresses: [SocketAddress], tls: TLSClientContext?) {
        self.host = host
        self.addresses = addresses
        self.tls = tls
    }

    /// RFC 9110 section 7.2.
    fileprivate var authority: String {
        let name = host.contains(":") ? "[\(host)]" : host
        guard let port = addresses.first?.port, port != (tls == nil ? 80 : 443) else { return name }
        return "\(name):\(port)"
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

    /// A request of any kind.
    package init(
        _ method: String, _ target: String, _ fields: [(name: String, value: String)] = [], body: ByteBuffer? = nil
    ) {
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body
    }

    private static let reserved: Set<String> = [
        "host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer",
    ]

    /// The head as it is sent. Parts of it may come from elsewhere, as the target of a report does (RFC 8460 section 3):
    /// nothing in them begins a line of its own.
    func head(to origin: HTTPOrigin) throws(HTTPClientError) -> HTTPRequestHead {
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
        var headers = HTTPHeaders([("Host", origin.authority), ("Connection", "close")])
        headers.add(contentsOf: fields.map { ($0.name, $0.value) })
        if let body { headers.add(name: "Content-Length", value: "\(body.readableBytes)") }
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

/// What the server said, informational answers aside. A redirect is an answer like any other.
package struct HTTPAnswer: Sendable {
    /// The status code (RFC 9110 section 15).
    package let status: Int
    /// The whole body, without framing; empty where there is none.
    package internal(set) var body = ByteBuffer()
    private let fields: HTTPHeaders

    init(_ head: HTTPResponseHead) {
        status = Int(head.status.code)
        fields = head.headers
    }

    /// The values of all fields of a name, which is the same in both cases, in their order; none is split at commas.
    package func values(_ name: String) -> [String] { fields[name] }
}
