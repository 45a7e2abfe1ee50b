// Version 2 of the PROXY header: binary, with fields behind the addresses (proxy-protocol.txt of HAProxy, section 2.2).

internal import CLinux
internal import NIOCore
internal import SlimtaMail

extension ProxyHeader {
    /// Signature, version and command, family and protocol, length of the rest.
    private static let fixedLength = 16

    /// The upper half of the octet of family and protocol.
    private enum Family: UInt8 {
        case unspecified
        case ip4
        case ip6
        case unix

        /// The octets of both addresses with their ports.
        var length: Int {
            switch self {
            case .unspecified: 0
            case .ip4: 12
            case .ip6: 36
            case .unix: 216
            }
        }
    }

    /// The types of fields that are read (section 2.2.1); the others, such as ALPN and padding, are skipped.
    private enum FieldType {
        static let authority: UInt8 = 0x02
        static let checksum: UInt8 = 0x03
        static let uniqueID: UInt8 = 0x05
        static let tls: UInt8 = 0x20
        // Within that one.
        static let tlsVersion: UInt8 = 0x21
        static let commonName: UInt8 = 0x22
        static let cipher: UInt8 = 0x23
    }

    private struct Field {
        let type: UInt8
        let value: ArraySlice<UInt8>
    }

    static func parseBinary(_ octets: inout ByteBuffer) throws(Malformed) -> ProxyHeader? {
        let start = octets.readerIndex
        // What is wrong with the octets before the length is so whatever that is.
        if let version = octets.getInteger(at: start + 12, as: UInt8.self) {
            guard version >> 4 == 2, version & 0xF <= 1 else { throw .command }
        }
        guard let length = octets.getInteger(at: start + 14, as: UInt16.self) else { return nil }
        guard length <= limit else { throw .tooLong }
        guard octets.readableBytes >= fixedLength + Int(length) else { return nil }
        let header = try ProxyHeader(
            binary: Array(octets.readableBytesView.prefix(fixedLength + Int(length))))
        octets.moveReaderIndex(forwardBy: fixedLength + Int(length))
        return header
    }

    /// `octets` are the whole header.
    private init(binary octets: [UInt8]) throws(Malformed) {
        let isLocal = octets[12] & 0xF == 0
        let rest = octets[Self.fixedLength...]
        // Of a family that is not known nobody knows where its addresses end: all of it is skipped.
        guard let family = Family(rawValue: octets[13] >> 4) else { return }
        guard rest.count >= family.length else {
            guard isLocal else { throw .addresses }
            return
        }
        let fields = Self.fields(rest.dropFirst(family.length))
        // Also of LOCAL, of which nothing else is read: HAProxy sends a checksum with its health checks.
        try Self.check(fields ?? [], of: octets)
        if isLocal { return }
        guard let fields else { throw .field }
        if octets[13] & 0xF == 1 { addresses = Self.addresses(family, rest) }
        try read(fields)
    }

    /// Only of streams: datagrams, which no edge takes, have no peer that could be answered.
    private static func addresses(_ family: Family, _ octets: ArraySlice<UInt8>) -> Addresses? {
        let size: Int
        switch family {
        case .ip4: size = 4
        case .ip6: size = 16
        case .unspecified, .unix: return nil
        }
        let start = octets.startIndex
        func end(_ address: Int, _ port: Int) -> ConnectionFacts.Endpoint? {
            let number = Int(octets[start + port]) << 8 | Int(octets[start + port + 1])
            return IPAddress(bytes: octets[start + address..<start + address + size]).map { .ip($0, port: number) }
        }
        guard let source = end(0, 2 * size), let destination = end(size, 2 * size + 2) else { return nil }
        return Addresses(source: source, destination: destination)
    }

    /// Type, length and value after another; nil if the last one is not whole.
    private static func fields(_ octets: ArraySlice<UInt8>) -> [Field]? {
        var fields: [Field] = []
        var rest = octets
        while !rest.isEmpty {
            guard rest.count >= 3 else { return nil }
            let type = rest[rest.startIndex]
            let length = Int(rest[rest.startIndex + 1]) << 8 | Int(rest[rest.startIndex + 2])
            rest = rest.dropFirst(3)
            guard rest.count >= length else { return nil }
            fields.append(Field(type: type, value: rest.prefix(length)))
            rest = rest.dropFirst(length)
        }
        return fields
    }

    /// Section 2.2.3: over the whole header, in which the checksum itself is zero.
    private static func check(_ fields: [Field], of octets: [UInt8]) throws(Malformed) {
        var found: ArraySlice<UInt8>?
        for field in fields where field.type == FieldType.checksum {
            guard found == nil, field.value.count == 4 else { throw .checksum }
            found = field.value
        }
        guard let found else { return }
        var copy = octets
        copy.replaceSubrange(found.indices, with: [0, 0, 0, 0])
        let value = copy.withUnsafeBytes { slimta_crc32c(0, $0.baseAddress, $0.count) }
        guard found.reduce(0, { $0 << 8 | UInt32($1) }) == value else { throw .checksum }
    }

    /// Of fields that come twice the first one counts.
    private mutating func read(_ fields: [Field]) throws(Malformed) {
        for field in fields {
            switch field.type {
            case FieldType.authority: authority = authority ?? Self.text(field.value, upTo: 255)
            case FieldType.uniqueID: uniqueID = uniqueID ?? Self.identifier(field.value)
            case FieldType.tls:
                let tls = try Self.tls(field.value)
                self.tls = self.tls ?? tls
            default: break
            }
        }
    }

    /// Section 2.2.6. The field is there, with zeros, also where the client has no TLS.
    private static func tls(_ octets: ArraySlice<UInt8>) throws(Malformed) -> ProxyFacts.TLS? {
        guard octets.count >= 5, let fields = fields(octets.dropFirst(5)) else { throw .field }
        let client = octets[octets.startIndex]
        guard client & 1 != 0 else { return nil }
        func value(_ type: UInt8) -> String? {
            fields.first { $0.type == type }.flatMap { text($0.value, upTo: 255) }
        }
        // The result of the check is zero also where there was no certificate to check, in this connection or session.
        let isVerified = client & 6 != 0 && octets.dropFirst().prefix(4).allSatisfy { $0 == 0 }
        return ProxyFacts.TLS(
            TLSDescription(
                version: value(FieldType.tlsVersion) ?? "unknown", cipher: value(FieldType.cipher) ?? "unknown"),
            commonName: value(FieldType.commonName), isClientVerified: isVerified)
    }

    /// nil if it is empty, long or not to be shown: it goes into logs.
    private static func text(_ octets: ArraySlice<UInt8>, upTo limit: Int) -> String? {
        guard !octets.isEmpty, octets.count <= limit, let text = String(validating: octets.span), text.isVisible
        else { return nil }
        return text
    }

    /// Section 2.2.5: up to 128 octets of any kind.
    private static func identifier(_ octets: ArraySlice<UInt8>) -> String? {
        guard !octets.isEmpty, octets.count <= 128 else { return nil }
        return text(octets, upTo: 128) ?? octets.map { String(hexadecimal: $0, digits: 2) }.joined()
    }
}
