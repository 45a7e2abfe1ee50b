// What a host's zone says of its certificates (RFC 6698 section 2): read from DNS, judged, written. Looked up by relays,
// compared by CertificateChain and by OpenSSL within a handshake.

import COpenSSL
internal import SlimtaMail

/// A TLSA record (RFC 6698 section 2.1).
package struct TLSARecord: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Certificate usage: 0 and 1 are PKIX's, 2 is DANE-TA, 3 is DANE-EE (RFC 7218 section 2.1).
    package let usage: UInt8
    /// What of the certificate: 0 all of it, 1 its public key.
    package let selector: UInt8
    /// As it is (0), or its SHA-256 (1) or SHA-512 (2).
    package let matching: UInt8
    /// The certificate association data.
    package let data: [UInt8]

    /// The four fields as they are; whether they are of use is for ``isUsable``.
    package init(usage: UInt8, selector: UInt8, matching: UInt8, data: [UInt8]) {
        (self.usage, self.selector, self.matching, self.data) = (usage, selector, matching, data)
    }

    /// Reads the record's data as DNS has it; nil if it is too short to have any.
    package init?(rdata: some Collection<UInt8>) {
        let octets = Array(rdata)
        guard octets.count > 3 else { return nil }
        self.init(usage: octets[0], selector: octets[1], matching: octets[2], data: Array(octets[3...]))
    }

    /// Whether it can authenticate a mail host at all (RFC 7672 sections 3.1.3 and 3.1.4): PKIX usages never count, not even
    /// beside others; what nobody knows, what has the wrong length, or is no certificate or key where it is to be
    /// one (matching type 0), matches nothing.
    package var isUsable: Bool {
        guard usage == Self.trustAnchor || usage == Self.endEntity, selector <= 1 else { return false }
        return switch matching {
        case 0: selector == 0 ? Self.isCertificate(data) : Self.isKey(data)
        case 1: data.count == 32
        case 2: data.count == 64
        default: false
        }
    }

    private static func isCertificate(_ octets: [UInt8]) -> Bool {
        defer { ERR_clear_error() }
        guard let certificate = Self.certificate(octets) else { return false }
        X509_free(certificate)
        return true
    }

    /// The certificate that these octets are, to be freed; nil: they are none, or more.
    static func certificate(_ octets: [UInt8]) -> OpaquePointer? {
        octets.withUnsafeBufferPointer { octets in
            // It moves the pointer to the end of what it read.
            var start = octets.baseAddress
            guard let certificate = d2i_X509(nil, &start, octets.count) else { return nil }
            guard start == octets.baseAddress.map({ $0 + octets.count }) else {
                X509_free(certificate)
                return nil
            }
            return certificate
        }
    }

    private static func isKey(_ octets: [UInt8]) -> Bool {
        octets.withUnsafeBufferPointer { octets in
            defer { ERR_clear_error() }
            // It moves the pointer to the end of what it read.
            var start = octets.baseAddress
            guard let key = d2i_PUBKEY(nil, &start, octets.count) else { return false }
            EVP_PKEY_free(key)
            return start == octets.baseAddress.map { $0 + octets.count }
        }
    }

    /// DANE-TA(2): the chain leads to this certificate or key, and the certificate has one of the names.
    package static let trustAnchor: UInt8 = 2
    /// DANE-EE(3): it is the server's own. Its names and dates mean nothing (RFC 7672 section 3.1.1).
    package static let endEntity: UInt8 = 3

    /// As in a zone file and in TLS reports (RFC 6698 section 2.2): "3 1 1 AB12".
    package var description: String {
        let digits = data.map { String(hexadecimal: $0, digits: 2, uppercase: true) }.joined()
        return "\(usage) \(selector) \(matching) \(digits)"
    }

    /// Any order, and always the same: a set of records is compared and written by it.
    package static func < (a: TLSARecord, b: TLSARecord) -> Bool {
        let (left, right) = ([a.usage, a.selector, a.matching], [b.usage, b.selector, b.matching])
        return left == right ? a.data.lexicographicallyPrecedes(b.data) : left.lexicographicallyPrecedes(right)
    }
}
