// What a TLS session turned out to be, and what a configuration may ask of one: values for edges and relays.

/// What was agreed with the peer in a handshake.
package struct TLSInfo: Hashable, Sendable {
    /// "TLSv1.2" or "TLSv1.3".
    package let version: String
    /// OpenSSL's name of the cipher suite, such as "TLS_AES_256_GCM_SHA384".
    package let cipher: String
    /// The host that the client asked for (SNI, RFC 6066 section 3); nil if it named none, or none that is printable.
    package let serverName: String?
    /// Whether the peer's certificate was checked and found good: chain, time and host name.
    package let isPeerVerified: Bool

    package init(version: String, cipher: String, serverName: String? = nil, isPeerVerified: Bool = false) {
        self.version = version
        self.cipher = cipher
        self.serverName = serverName
        self.isPeerVerified = isPeerVerified
    }
}

/// The oldest version of TLS that is spoken. What is older than 1.2 is never spoken (RFC 8996).
package enum TLSMinimum: Sendable {
    // swift-format-ignore: AlwaysUseLowerCamelCase
    case v1_2
    // swift-format-ignore: AlwaysUseLowerCamelCase
    case v1_3
}

/// What a client asks of the server's certificate.
package enum TLSVerification: Hashable, Sendable {
    /// Nothing: opportunistic TLS encrypts without knowing towards whom (RFC 7435).
    case none
    /// A chain up to a certificate that the context trusts, and this host name or IP address in it (RFC 6125).
    case system(host: String)
}
