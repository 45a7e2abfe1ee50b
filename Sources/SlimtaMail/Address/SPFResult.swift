// What SPF says of a client: made by SlimtaSPF, named in slimta.conf and in rules.

/// The result of `check_host()` (RFC 7208 section 2.6), in the words of Received-SPF.
package enum SPFResult: String, CaseIterable, Sendable {
    /// The domain says nothing, or there is no domain to ask (section 2.6.1).
    case none
    /// The domain says that it says nothing of this client (section 2.6.2).
    case neutral
    /// The client may send for the domain (section 2.6.3).
    case pass
    /// It may not (section 2.6.4).
    case fail
    /// It probably may not (section 2.6.5).
    case softfail
    /// It could not be found out now (section 2.6.6).
    case temperror
    /// What the domain has published cannot be understood (section 2.6.7).
    case permerror
}
