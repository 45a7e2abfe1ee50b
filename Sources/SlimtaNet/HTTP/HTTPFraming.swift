// Where a request's body ends: nothing is served about which another server or a proxy might think otherwise (request
// smuggling, RFC 9112 section 11.2). Called by HTTPConnection for each head that NIO's decoder let through.

import NIOHTTP1

/// Why a request is not given to the service: a status and a text.
struct HTTPRefusal: Error, Hashable {
    let status: Int
    let text: String

    init(_ status: Int, _ text: String) {
        self.status = status
        self.text = text
    }
}

/// What is read from a head about what follows it.
struct HTTPFraming: Hashable {
    /// Octets of the body; nil: in chunks.
    let length: Int?
    let awaitsContinue: Bool

    init(_ head: HTTPRequestHead) throws(HTTPRefusal) {
        let fields = head.headers
        let isOld = head.version == .http1_0
        guard isOld || head.version == .http1_1 else { throw HTTPRefusal(505, "HTTP/1.1 is spoken here") }
        let hosts = fields["host"]
        // RFC 9112 section 3.2; one that is not needed must still be the only one.
        guard hosts.count == 1 || hosts.isEmpty && isOld else {
            throw HTTPRefusal(400, "one Host field is needed")
        }
        // What is no host may have been folded into it from another line.
        guard hosts.allSatisfy({ $0.utf8.allSatisfy { (0x21...0x7E).contains($0) } }) else {
            throw HTTPRefusal(400, "Host is no host")
        }
        if let authority = Self.authority(head.uri), authority.lowercased() != hosts.first?.lowercased() {
            throw HTTPRefusal(400, "the target is at another host than Host says")
        }
        let lengths = fields["content-length"]
        let codings = fields["transfer-encoding"]
        if codings.isEmpty {
            length = try Self.length(lengths)
        } else {
            // RFC 9112 section 6.1 and 6.3: with anything else somebody else may see another end.
            guard lengths.isEmpty, codings.count == 1, codings[0].lowercased() == "chunked", !isOld
            else { throw HTTPRefusal(400, "Transfer-Encoding is chunked, alone, and without Content-Length") }
            length = nil
        }
        // RFC 9110 section 10.1.1: one of HTTP/1.0 is ignored.
        let expectations = isOld ? [] : fields["expect"]
        guard expectations.allSatisfy({ $0.lowercased() == "100-continue" }) else {
            throw HTTPRefusal(417, "only 100-continue can be expected")
        }
        awaitsContinue = !expectations.isEmpty && length != 0
    }

    /// The host of a target in absolute form, which a proxy would go by (RFC 9112 section 3.2.2).
    private static func authority(_ target: String) -> Substring? {
        guard let scheme = target.firstRange(of: "://"), !target.hasPrefix("/") else { return nil }
        return target[scheme.upperBound...].prefix { $0 != "/" && $0 != "?" }
    }

    private static func length(_ values: [String]) throws(HTTPRefusal) -> Int {
        guard let value = values.first else { return 0 }
        guard values.count == 1, !value.isEmpty, value.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let length = Int(value)
        else { throw HTTPRefusal(400, "Content-Length is one number") }
        return length
    }
}
