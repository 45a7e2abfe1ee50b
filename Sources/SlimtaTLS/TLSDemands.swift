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
    /// A chain up to a certificate that the context trusts, and this host name or IP address in it, or one of the others (RFC
    /// 6125 section 6).
    case system(host: String, others: [String] = [])
    /// What the host's own zone says of it.
    case dane(DANEDemand)
}

/// What DANE demands of a server's certificate (RFC 7672 section 3), with a context that compares records.
package struct DANEDemand: Hashable, Sendable {
    /// The name at which the records are: the first that a certificate below a DANE-TA record may have.
    package let base: String
    /// Its further names.
    package let names: [String]
    /// The usable ones.
    package let records: [TLSARecord]
    /// The certificate must have this name as well, and lead to a root that the context's own trust has; nil: neither is
    /// looked at.
    package let pkixName: String?

    /// With the meaning of its properties.
    package init(base: String, names: [String], records: [TLSARecord], pkixName: String? = nil) {
        (self.base, self.names, self.records, self.pkixName) = (base, names, records, pkixName)
    }
}
