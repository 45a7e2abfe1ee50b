// Whose a client's certificate is, by what it says of itself (SASL EXTERNAL): `[auth] certificate_login` chooses, back ends look
// whether such a user exists.

/// What of a certificate is its user's login.
package enum CertificateLogin: String, CaseIterable, Sendable {
    /// A mail address of it: rfc822Name (RFC 5280 section 4.2.1.6) or SmtpUTF8Mailbox (RFC 9598).
    case email
    /// A host name of it: for machines.
    case host
    /// What its subject is called, if it has no alternative names.
    case commonName = "common_name"
    /// Nothing: the users file has the digest of the certificate or of its key.
    case fingerprint

    /// The logins that it may be for, none twice; none if nobody who is trusted has issued it.
    package func names(in certificate: CertificateIdentity) -> [String] {
        guard certificate.isVerified else { return [] }
        let names: [String] =
            switch self {
            case .email: certificate.emailAddresses
            case .host: certificate.hostNames
            // RFC 6125 section 6.4.4.
            case .commonName: certificate.hasAlternativeNames ? [] : [certificate.commonName]
            case .fingerprint: []
            }
        return Set(names.filter { !$0.isEmpty }).sorted()
    }
}

extension CertificateIdentity {
    /// A digest as `openssl x509 -fingerprint -sha256` shows it, "A8:DA:...", or without colons; nil: it is none.
    package static func digest(_ text: some StringProtocol) -> [UInt8]? {
        let digits = text.utf8.filter { $0 != UInt8(ascii: ":") }
        guard digits.count == 64, text.utf8.count == 64 || text.utf8.count == 95 else { return nil }
        var octets: [UInt8] = []
        for place in stride(from: 0, to: 64, by: 2) {
            guard let high = digits[place].hexadecimalValue, let low = digits[place + 1].hexadecimalValue else {
                return nil
            }
            octets.append(high << 4 | low)
        }
        return octets
    }
}
