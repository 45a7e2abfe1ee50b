// PROXY headers: the recorded ones, every field, every mistake, and each of them cut in every way.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaNet

@Suite struct ProxyHeaderTests {
    // MARK: Recorded headers

    struct Vector: Decodable, Sendable, CustomTestStringConvertible {
        let id: String
        let hex: String
        let expect: String
        let src: String?
        let dst: String?
        var testDescription: String { id }
    }

    static let vectors: [Vector] =
        SharedFiles.areThere ? ((try? SharedFiles.vector([Vector].self, "proxy-protocol/vectors.json")) ?? []) : []

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there"))
    func theVectorsAreWhole() { #expect(Self.vectors.count == 41) }

    /// What the specification leaves open: no leading zeros; who comes by a UNIX socket keeps the real address.
    private static let open = [
        "v1-port-leading-zero": "reject", "v1-ip-leading-zero": "reject", "v2-unix": "accept-unknown",
    ]

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there"), arguments: vectors)
    func vector(_ vector: Vector) throws {
        let octets = Self.octets(vector.hex)
        let result = try Self.read(octets)
        switch Self.open[vector.id] ?? vector.expect {
        case "accept", "accept-first":
            let header = try #require(result.header, "\(result)")
            let addresses = try #require(header.addresses)
            #expect(Self.text(addresses.source) == vector.src)
            if let destination = vector.dst { #expect(Self.text(addresses.destination) == destination) }
            #expect(result.rest.isEmpty == (vector.expect == "accept"))
        case "accept-unknown": #expect(result.header != nil && result.header?.addresses == nil && result.rest.isEmpty)
        case "reject":
            // Of what is cut off, the end of the connection is the mistake.
            #expect(result.header == nil && (result.error != nil) == (vector.id != "v2-truncated"))
        default: Issue.record("unknown: \(vector.expect)")
        }
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there")) func whatIsOpenIsDecided() {
        #expect(Set(Self.vectors.filter { $0.expect.contains("-or-") }.map(\.id)) == Set(Self.open.keys))
    }

    // MARK: Version 1

    private static let tcp4 = "PROXY TCP4 192.0.2.7 192.0.2.8 56324 587\r\n"

    private static let goodLines: [(String, String)] = [
        ("PROXY TCP4 192.0.2.7 192.0.2.8 0 65535\r\n", "192.0.2.7:0 192.0.2.8:65535"),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535 255.255.255.255:65535"),
        ("PROXY TCP6 2001:db8::7 ::1 1 2\r\n", "[2001:db8::7]:1 [::1]:2"),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.8 1 2\r\n", "192.0.2.7:1 192.0.2.8:2"),
        ("PROXY UNKNOWN\r\n", "-"), ("PROXY UNKNOWN \r\n", "-"), ("PROXY UNKNOWN \u{0}\u{7F}ü x\r\n", "-"),
        ("PROXY UNKNOWN " + String(repeating: "x", count: 91) + "\r\n", "-"),
    ]

    @Test(arguments: goodLines)
    func lines(_ line: String, _ addresses: String) throws {
        for behind in ["", "EHLO c\r\n", "PROXY UNKNOWN\r\n", "\r\n\r\n"] {
            let result = try Self.read(Array((line + behind).utf8))
            #expect(result.error == nil && result.rest == Array(behind.utf8))
            let told = result.header?.addresses.map { "\(Self.text($0.source)) \(Self.text($0.destination))" }
            #expect(result.header != nil && (told ?? "-") == addresses)
        }
    }

    private static let badLines: [(String, ProxyHeader.Malformed?)] = [
        ("EHLO c\r\n", .otherBeginning), ("\u{16}\u{3}\u{1}", .otherBeginning),
        ("PROXY\r\n", .otherBeginning), ("Proxy TCP4", .otherBeginning), ("PROXY\tTCP4", .otherBeginning),
        ("\r\n", nil), ("\r\nP", .otherBeginning), ("\r\n\r\n\0\r\nQUIT\r", .otherBeginning),
        ("PROXY UNKNOWN\n", .line), ("PROXY UNKNOWN\r\r\n", .line), ("PROXY UNKNOWN\rx\r\n", .line),
        ("PROXY " + String(repeating: "x", count: 101), .line),
        ("PROXY " + String(repeating: "x", count: 100) + "\r", .line),
        ("PROXY UNKNOWN " + String(repeating: "x", count: 92) + "\r\n", .line),
        ("PROXY \r\n", .family), ("PROXY UNKNOWNS\r\n", .family), ("PROXY  TCP4 192.0.2.7 192.0.2.8 1 2\r\n", .family),
        ("PROXY UDP4 192.0.2.7 192.0.2.8 1 2\r\n", .family),
        ("PROXY TCP4\r\n", .addresses), ("PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n", .addresses),
        ("PROXY TCP4 192.0.2.7 192.0.2.8 1 2 3\r\n", .addresses),
        ("PROXY TCP4 192.0.2.7  192.0.2.8 1 2\r\n", .addresses),
        ("PROXY TCP4 192.0.2.7 192.0.2 1 2\r\n", .addresses), ("PROXY TCP4 192.0.2.07 192.0.2.8 1 2\r\n", .addresses),
        ("PROXY TCP4 192.0.2.7 192.0.2.8 +1 2\r\n", .addresses),
        ("PROXY TCP4 192.0.2.7 192.0.2.8 01 2\r\n", .addresses),
        ("PROXY TCP4 192.0.2.7 192.0.2.8 1 65536\r\n", .addresses),
        ("PROXY TCP4 192.0.2.7 192.0.2.8 1 999999\r\n", .addresses),
        ("PROXY TCP4 192.0.2.7 192.0.2.8 1 \r\n", .addresses),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", .addresses), ("PROXY TCP6 192.0.2.7 192.0.2.8 1 2\r\n", .addresses),
        ("PROXY TCP6 [::1] [::1] 1 2\r\n", .addresses), ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", .addresses),
        ("PROXY TCP6 ::1\u{0} ::1 1 2\r\n", .addresses), ("PROXY TCP4 192.0.2.7 localhost 1 2\r\n", .addresses),
    ]

    @Test(arguments: badLines)
    func badLine(_ line: String, _ error: ProxyHeader.Malformed?) throws {
        let result = try Self.read(Array(line.utf8))
        #expect(result.header == nil && result.error == error)
    }

    /// Incomplete is not malformed: no beginning of a header is refused, and none is taken for the whole.
    @Test func beginnings() throws {
        let binary = Self.binary(family: 0x11, Self.four + Self.field(0x05, Array("id".utf8)))
        for whole in [Array(Self.tcp4.utf8), Array("PROXY UNKNOWN\r\n".utf8), binary] {
            for length in whole.indices {
                var octets = ByteBuffer(bytes: whole[..<length])
                #expect(try ProxyHeader.parse(&octets) == nil)
                #expect(octets.readableBytes == length)
            }
        }
    }

    // MARK: Version 2

    private static let four: [UInt8] = [192, 0, 2, 7, 192, 0, 2, 8, 0xDC, 0x04, 2, 0x4B]

    private static func field(_ type: UInt8, _ value: [UInt8]) -> [UInt8] {
        [type, UInt8(value.count >> 8), UInt8(value.count & 0xFF)] + value
    }

    private static func binary(command: UInt8 = 0x21, family: UInt8, _ rest: [UInt8], length: Int? = nil) -> [UInt8] {
        let length = length ?? rest.count
        return [0x0D, 0x0A, 0x0D, 0x0A, 0, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, command, family]
            + [UInt8(length >> 8), UInt8(length & 0xFF)] + rest
    }

    /// With the checksum computed bit by bit, as in no code of ours.
    private static func summed(command: UInt8 = 0x21, family: UInt8, _ before: [UInt8], _ behind: [UInt8] = [])
        -> [UInt8]
    {
        var octets = binary(command: command, family: family, before + field(0x03, [0, 0, 0, 0]) + behind)
        var crc = UInt32.max
        for octet in octets {
            crc ^= UInt32(octet)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
        }
        let place = 16 + before.count + 3
        for number in 0..<4 { octets[place + number] = UInt8(truncatingIfNeeded: ~crc >> (24 - 8 * number)) }
        return octets
    }

    @Test func families() throws {
        let six = Array(repeating: UInt8(0), count: 15) + [7] + Array(repeating: 0, count: 15) + [8, 0, 1, 0, 2]
        let unix = Array(repeating: UInt8(0x2F), count: 216)
        let table: [(UInt8, UInt8, [UInt8], String?)] = [
            (0x21, 0x11, Self.four, "192.0.2.7:56324 192.0.2.8:587"), (0x21, 0x21, six, "[::7]:1 [::8]:2"),
            // Datagrams, no protocol, UNIX sockets, and what is unknown: the real peer.
            (0x21, 0x12, Self.four, nil), (0x21, 0x22, six, nil), (0x21, 0x10, Self.four, nil),
            (0x21, 0x1F, Self.four, nil),
            (0x21, 0x31, unix, nil), (0x21, 0x32, unix, nil), (0x21, 0x00, [], nil), (0x21, 0x01, [], nil),
            (0x21, 0x41, [1, 2, 3], nil), (0x21, 0xFF, [], nil),
            // LOCAL: whatever it has of addresses is none.
            (0x20, 0x00, [], nil), (0x20, 0x11, Self.four, nil), (0x20, 0x11, [1], nil), (0x20, 0x41, [1, 2, 3], nil),
            (0x20, 0x00, [1, 2], nil), (0x20, 0x21, six + [5, 0, 9, 1], nil),
        ]
        for (command, family, rest, addresses) in table {
            for behind in [[], Array("EHLO".utf8)] {
                let result = try Self.read(Self.binary(command: command, family: family, rest) + behind)
                #expect(result.error == nil && result.rest == behind, "\(command) \(family) \(rest)")
                let told = try #require(result.header).addresses
                #expect(told.map { "\(Self.text($0.source)) \(Self.text($0.destination))" } == addresses)
            }
        }
    }

    @Test func badBinaries() throws {
        let table: [([UInt8], ProxyHeader.Malformed)] = [
            (Self.binary(command: 0x11, family: 0x11, Self.four), .command),
            (Self.binary(command: 0x30, family: 0, []), .command),
            (Self.binary(command: 0x22, family: 0, []), .command),
            (Self.binary(command: 0x2F, family: 0, []), .command),
            (Self.binary(family: 0x11, Array(Self.four.dropLast())), .addresses),
            (Self.binary(family: 0x21, Self.four), .addresses), (Self.binary(family: 0x31, Self.four), .addresses),
            (Self.binary(family: 0x11, Self.four, length: 4097), .tooLong),
            (Self.binary(family: 0x11, [], length: 65535), .tooLong),
            (Self.binary(family: 0x11, Self.four + [4]), .field),
            (Self.binary(family: 0x11, Self.four + [4, 0]), .field),
            (Self.binary(family: 0x11, Self.four + [4, 0, 1]), .field),
            (Self.binary(family: 0, [4, 0xFF, 0xFF, 0]), .field),
            (Self.binary(family: 0, Self.field(0x20, [1, 0, 0, 0])), .field),
            (Self.binary(family: 0, Self.field(0x20, [1, 0, 0, 0, 0, 0x21, 0, 1])), .field),
            (Self.binary(family: 0, Self.field(0x03, [0, 0, 0, 0])), .checksum),
            (Self.binary(command: 0x20, family: 0, Self.field(0x03, [0, 0, 0, 0])), .checksum),
            (Self.binary(family: 0, Self.field(0x03, [0, 0, 0])), .checksum),
            (Self.binary(family: 0, Self.field(0x03, [])), .checksum),
            (Self.summed(family: 0, [], Self.field(0x03, [0, 0, 0, 0])), .checksum),
        ]
        for (octets, error) in table {
            let result = try Self.read(octets)
            #expect(result.header == nil && result.error == error, "\(octets)")
        }
    }

    @Test func checksums() throws {
        for octets in [
            Self.summed(family: 0x11, Self.four), Self.summed(command: 0x20, family: 0, []),
            Self.summed(family: 0x11, Self.four + Self.field(4, [1, 2, 3]), Self.field(0x05, [65])),
        ] {
            #expect(try Self.read(octets).header != nil)
            // Behind the signature, command and length every bit counts. (A checksum that is no field any more is none.)
            let place = try #require((16..<octets.count).first { octets[$0...].starts(with: [0x03, 0, 4]) })
            for index in Array(16..<octets.count) where !(place..<place + 3).contains(index) {
                var flipped = octets
                flipped[index] ^= 0x10
                let result = try Self.read(flipped)
                // A flipped length or type of LOCAL's fields makes them none, which are not read.
                #expect(result.header == nil || octets[12] == 0x20, "\(index) of \(octets)")
            }
        }
        // As HAProxy sends it with its health checks.
        #expect(Self.summed(command: 0x20, family: 0, []).prefix(19).suffix(7) == [0x20, 0, 0, 7, 3, 0, 4])
    }

    @Test func longest() throws {
        let padding = Self.field(0x04, Array(repeating: 0, count: 4096 - 12 - 3))
        let result = try Self.read(Self.binary(family: 0x11, Self.four + padding) + [1])
        #expect(result.header?.addresses != nil && result.rest == [1])
    }

    // MARK: Fields

    private static let identifiers: [([UInt8], String?)] = [
        (Array("abc".utf8), "abc"), (Array("ü \u{20AC}".utf8), "ü \u{20AC}"), ([0, 1, 0xFF], "0001ff"),
        (Array("a\r\nb".utf8), "610d0a62"), ([], nil),
        (Array(repeating: 65, count: 128), String(repeating: "A", count: 128)),
        (Array(repeating: 65, count: 129), nil), (Array("a\u{202E}b".utf8), "61e280ae62"),
    ]

    @Test(arguments: identifiers)
    func uniqueIDs(_ value: [UInt8], _ id: String?) throws {
        let header = try Self.read(Self.binary(family: 0x11, Self.four + Self.field(0x05, value))).header
        #expect(header != nil && header?.uniqueID == id)
    }

    private static let names: [([UInt8], String?)] = [
        (Array("mx.example.org".utf8), "mx.example.org"), ([0x6D, 0], nil), ([0xFF], nil), ([], nil),
        (Array(repeating: 65, count: 256), nil),
    ]

    @Test(arguments: names)
    func authorities(_ value: [UInt8], _ authority: String?) throws {
        let header = try Self.read(Self.binary(family: 0x00, Self.field(0x02, value))).header
        #expect(header != nil && header?.authority == authority)
    }

    @Test func tls() throws {
        let version = Self.field(0x21, Array("TLSv1.3".utf8))
        let cipher = Self.field(0x23, Array("TLS_AES_256_GCM_SHA384".utf8))
        let name = Self.field(0x22, Array("alice".utf8))
        let table: [([UInt8], String?)] = [
            // HAProxy sends it with zeros where the client has no TLS.
            ([0, 0, 0, 0, 0], nil), ([6, 0, 0, 0, 0] + version, nil),
            ([1, 0, 0, 0, 0], "unknown unknown"), ([1, 0, 0, 0, 0] + version, "TLSv1.3 unknown"),
            ([1, 0, 0, 0, 0] + version + cipher, "TLSv1.3 TLS_AES_256_GCM_SHA384"),
            // Zero says that a certificate is good only if there was one.
            ([1, 0, 0, 0, 0] + version + name, "TLSv1.3 unknown alice"),
            ([3, 0, 0, 0, 0] + version + name, "TLSv1.3 unknown alice verified"),
            ([5, 0, 0, 0, 0] + name + version, "TLSv1.3 unknown alice verified"),
            ([7, 0, 0, 0, 1] + version + name, "TLSv1.3 unknown alice"),
            ([7, 1, 0, 0, 0] + version + name, "TLSv1.3 unknown alice"),
            ([1, 0, 0, 0, 0] + Self.field(0x21, [10]) + Self.field(0x24, [1]), "unknown unknown"),
        ]
        for (value, text) in table {
            let header = try Self.read(Self.binary(family: 0x11, Self.four + Self.field(0x20, value))).header
            let tls = try #require(header, "\(value)").tls
            let words = tls.map { tls in
                ["\(tls.session)", tls.commonName, tls.isClientVerified ? "verified" : nil].compactMap { $0 }
                    .joined(separator: " ")
            }
            #expect(words == text, "\(value)")
        }
    }

    /// All at once, in any order, with fields that are skipped; the first of two counts.
    @Test func allFields() throws {
        let fields = [
            Self.field(0x01, Array("h2".utf8)), Self.field(0x02, Array("a.example".utf8)), Self.field(0x04, [0, 0]),
            Self.field(0x05, Array("one".utf8)), Self.field(0x20, [1, 0, 0, 0, 0]), Self.field(0x30, Array("ns".utf8)),
            Self.field(0xEA, [1, 2]),
        ]
        for order in [fields, fields.reversed()] {
            let rest = order.flatMap { $0 } + Self.field(0x05, Array("two".utf8)) + Self.field(0x02, Array("b".utf8))
            let header = try #require(try Self.read(Self.binary(family: 0x11, Self.four + rest)).header)
            #expect(header.uniqueID == "one" && header.authority == "a.example" && header.tls != nil)
        }
        // LOCAL has no client that they could be of.
        let local = try Self.read(Self.binary(command: 0x20, family: 0, fields.flatMap { $0 })).header
        #expect(local == ProxyHeader())
    }

    @Test func facts() throws {
        let connection = ConnectionFacts(
            peer: try SocketAddress(ipAddress: "10.0.0.1", port: 4000),
            local: try SocketAddress(ipAddress: "10.0.0.2", port: 25))
        let named = try #require(try Self.read(Array(Self.tcp4.utf8)).header).facts(of: connection)
        #expect("\(named.peer) \(named.local)" == "192.0.2.7 192.0.2.8" && named.clientAddress == "192.0.2.7")
        #expect(named.proxy == ProxyFacts(endpoint: connection.peer) && named.isClientKnown)
        let local = ProxyHeader().facts(of: connection)
        #expect(local.peer == connection.peer && local.local == connection.local && !local.isClientKnown)
        #expect(connection.proxy == nil && connection.isClientKnown)
    }

    // MARK: Reading

    struct Result: Equatable {
        var header: ProxyHeader?
        var error: ProxyHeader.Malformed?
        var rest: [UInt8] = []
    }

    /// Cut in every way, with the same result.
    static func read(_ octets: [UInt8]) throws -> Result {
        try ChunkVerifier.verify(octets) { chunks in
            var (result, buffer) = (Result(), ByteBuffer())
            for var chunk in chunks {
                buffer.writeBuffer(&chunk)
                guard result.header == nil, result.error == nil else { continue }
                do throws(ProxyHeader.Malformed) { result.header = try ProxyHeader.parse(&buffer) } catch {
                    result.error = error
                }
            }
            if result.header != nil { result.rest = Array(buffer.readableBytesView) }
            return result
        }
    }

    private static func octets(_ hex: String) -> [UInt8] {
        let digits = hex.utf8.compactMap(\.hexadecimalValue)
        return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }

    private static func text(_ end: ConnectionFacts.Endpoint) -> String {
        guard case .ip(let address, let port) = end else { return "\(end)" }
        return address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)"
    }
}
