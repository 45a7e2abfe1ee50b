// What `[auth] channel_binding` can say. SlimtaConfiguration reads it, SlimtaEdge's BackEnds obeys it.

/// Whether SCRAM is bound to the TLS session (RFC 5802 section 6).
package enum ChannelBindingMode: String, Sendable, CaseIterable {
    /// No -PLUS is listed.
    case off
    /// It is listed where it can be had.
    case offer
    /// SCRAM is listed with -PLUS only.
    case require
}
