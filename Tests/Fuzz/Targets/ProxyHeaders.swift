// PROXY headers, as a proxy or whoever is taken for one sends them.

import NIOCore
import SlimtaMail

@testable import SlimtaNet

extension FuzzTarget {
    /// A header is the same however it comes, no part of it is taken for the whole or refused, and what is behind it is
    /// left alone.
    static let proxy = FuzzTarget(name: "proxy", maximumLength: 700) { octets in
        let read = try anyCut(octets) { chunks in
            var (read, buffer) = (ReadHeader(), ByteBuffer())
            for var chunk in chunks {
                buffer.writeBuffer(&chunk)
                guard read.header == nil, read.error == nil else { continue }
                do throws(ProxyHeader.Malformed) { read.header = try ProxyHeader.parse(&buffer) } catch {
                    read.error = error
                }
            }
            if read.header != nil { read.rest = Array(buffer.readableBytesView) }
            return read
        }
        if let header = read.header {
            let length = octets.count - read.rest.count
            try hold(length <= (octets[0] == 0x50 ? 107 : 16 + ProxyHeader.limit), "\(length) octets of a header")
            try same(Array(octets[length...]), read.rest, "what is behind the header")
            try check(header)
            for end in octets.indices.prefix(length) {
                var part = ByteBuffer(bytes: octets[..<end])
                try same(try ProxyHeader.parse(&part), nil, "\(end) octets of the header")
                try same(part.readableBytes, end, "what is left of no header")
            }
            var more = ByteBuffer(bytes: octets + [0])
            try same(try ProxyHeader.parse(&more), header, "the header with more behind it")
        } else if let error = read.error {
            var more = ByteBuffer(bytes: octets + [0x0D, 0x0A])
            var found: ProxyHeader.Malformed?
            do throws(ProxyHeader.Malformed) { _ = try ProxyHeader.parse(&more) } catch { found = error }
            try same(found, error, "the mistake with more behind it")
        } else {
            // What is not whole can be longer than this, and not without end.
            try hold(octets.count < 16 + ProxyHeader.limit, "\(octets.count) octets are not enough")
        }
    }

    /// All texts are fit for a line of the log, and the client is an address.
    private static func check(_ header: ProxyHeader) throws {
        let texts = [
            header.uniqueID, header.authority, header.tls?.commonName, header.tls?.session.version,
            header.tls?.session.cipher,
        ].compactMap { $0 }
        for text in texts {
            try hold(text.isVisible && (1...256).contains(text.utf8.count), "the text \(text.visible)")
        }
        let unknown = ConnectionFacts(peer: nil, local: nil)
        let facts = header.facts(of: unknown)
        try same(facts.isClientKnown, header.addresses != nil, "whether the client is known")
        if header.addresses != nil {
            try hold(facts.peer.address != nil && facts.local.address != nil, "\(facts.peer) \(facts.local)")
        }
    }
}

private struct ReadHeader: Equatable {
    var header: ProxyHeader?
    var error: ProxyHeader.Malformed?
    var rest: [UInt8] = []
}
