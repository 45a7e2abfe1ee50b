// What a configuration may ask of a TLS session: values for edges and relays.

/// The oldest version of TLS that is spoken. What is older than 1.2 is never spoken (RFC 8996 sections 4 and 5).
package enum TLSMinimum: Sendable {
    // swift-format-ignore: AlwaysUseLowerCamelCase
    case v1_2
    // swift-format-ignore: AlwaysUseLowerCamelCase
    case v1_3
}

/// What a client asks of the server's certificate.
package enum TLSVerification: Hashable, Sendable {
    /// Nothing: opportunistic TLS encrypts without knowing towards whom (RFC 7435 section 3).
    case none
    /// A chain up to a certificate that the context trusts, and this host name or IP address in it (RFC 6125 section 6).
    case system(host: String)
}
