// The header that a proxy puts before everything else on a connection: who the client is (proxy-protocol.txt of HAProxy,
// versions 1 and 2). A pure parser; ProxyHandler gives it what has come. Version 2 is in ProxyHeader+Binary.swift.

package import NIOCore
package import SlimtaMail

/// What a PROXY header says.
package struct ProxyHeader: Hashable, Sendable {
    /// Both ends of the connection that the proxy took.
    package struct Addresses: Hashable, Sendable {
        /// The client.
        package let source: ConnectionFacts.Endpoint
        /// Where the client connected to.
        package let destination: ConnectionFacts.Endpoint
    }

    /// nil: the proxy speaks for itself (LOCAL), does not know (UNKNOWN), or has a client without an IP address.
    package internal(set) var addresses: Addresses?
    /// How the proxy names the connection; nil: it does not say.
    package internal(set) var uniqueID: String?
    /// The host that the client asked the proxy for (SNI); nil: it does not say.
    package internal(set) var authority: String?
    /// nil: the client spoke in clear with the proxy, or it does not say.
    package internal(set) var tls: ProxyFacts.TLS?

    init() {}

    /// Octets that are no header, and cannot become one by what comes behind them.
    package enum Malformed: Error, Hashable, Sendable, CustomStringConvertible {
        /// It begins like neither version.
        case otherBeginning
        /// A line of version 1 that is not ended by CRLF, or not within 107 octets.
        case line
        /// Something but TCP4, TCP6 and UNKNOWN.
        case family
        /// Addresses or ports that are none, or not of the family.
        case addresses
        /// A version or command that there is not.
        case command
        /// Longer than ``ProxyHeader/limit``.
        case tooLong
        /// A field that is longer than what it is in, or too short for what it is.
        case field
        /// A checksum that is wrong, or two of them.
        case checksum

        /// For logs.
        package var description: String {
            switch self {
            case .otherBeginning: "does not begin with a PROXY header"
            case .line: "a line of version 1 without CRLF in its place"
            case .family: "not one of TCP4, TCP6 and UNKNOWN"
            case .addresses: "addresses or ports that cannot be read"
            case .command: "an unknown version or command"
            case .tooLong: "longer than \(ProxyHeader.limit) octets"
            case .field: "a field of the wrong length"
            case .checksum: "a wrong checksum"
            }
        }
    }

    /// The most octets of a header of version 2 behind its first 16. The protocol has room for more, which nobody needs.
    package static let limit = 4096

    /// Takes the header from the beginning of `octets`, and nothing behind it.
    ///
    /// - Returns: nil if it is not whole yet; `octets` are as they were then.
    package static func parse(_ octets: inout ByteBuffer) throws(Malformed) -> ProxyHeader? {
        let view = octets.readableBytesView
        guard let first = view.first else { return nil }
        let signature = first == signature[0] ? signature : keyword
        guard view.starts(with: signature.prefix(view.count)) else { throw .otherBeginning }
        guard view.count >= signature.count else { return nil }
        return first == Self.signature[0] ? try parseBinary(&octets) : try parseLine(&octets)
    }

    /// The facts of a connection whose first octets were this header.
    package func facts(of connection: ConnectionFacts) -> ConnectionFacts {
        ConnectionFacts(
            peer: addresses?.source ?? connection.peer, local: addresses?.destination ?? connection.local,
            proxy: ProxyFacts(endpoint: connection.peer, uniqueID: uniqueID, authority: authority, tls: tls))
    }

    // MARK: Version 1 (section 2.1)

    private static let keyword = Array("PROXY ".utf8)
    /// Section 2.2.
    private static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
    /// The longest line there can be, CRLF included.
    private static let longestLine = 107

    private static func parseLine(_ octets: inout ByteBuffer) throws(Malformed) -> ProxyHeader? {
        let view = octets.readableBytesView.prefix(longestLine)
        // Whichever is first of CR and LF has to be the CR of CRLF.
        guard let end = view.firstIndex(where: { $0 == 0x0D || $0 == 0x0A }) else {
            guard view.count < longestLine else { throw .line }
            return nil
        }
        guard view[end] == 0x0D else { throw .line }
        let next = view.index(after: end)
        guard next < view.endIndex else {
            guard view.count < longestLine else { throw .line }
            return nil
        }
        guard view[next] == 0x0A else { throw .line }
        let header = try ProxyHeader(line: view[..<end].dropFirst(keyword.count))
        octets.moveReaderIndex(forwardBy: next + 1 - view.startIndex)
        return header
    }

    /// `line` is what is behind "PROXY ".
    private init(line: ByteBufferView) throws(Malformed) {
        let words = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
            .map { String(decoding: $0, as: UTF8.self) }
        switch words[0] {
        case "UNKNOWN": return
        case "TCP4", "TCP6":
            guard words.count == 5, let source = Self.endpoint(words[0], words[1], port: words[3]),
                let destination = Self.endpoint(words[0], words[2], port: words[4])
            else { throw .addresses }
            addresses = Addresses(source: source, destination: destination)
        default: throw .family
        }
    }

    private static func endpoint(_ family: String, _ text: String, port: String) -> ConnectionFacts.Endpoint? {
        // An IPv4 address within IPv6 is one of TCP6.
        guard text.contains(":") == (family == "TCP6"), let address = IPAddress(text),
            (1...5).contains(port.utf8.count), port.utf8.allSatisfy(\.isASCIIDigit),
            port == "0" || !port.hasPrefix("0"), let number = UInt16(port)
        else { return nil }
        return .ip(address, port: Int(number))
    }
}
