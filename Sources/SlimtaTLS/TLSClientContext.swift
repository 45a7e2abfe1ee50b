// What a client needs to speak TLS: which versions, and which certificates it trusts. Made by a relay's SessionPolicy.

import COpenSSL

/// A client's side of TLS, for connections that verify the server's certificate or for ones that do not.
package final class TLSClientContext: Hashable, Sendable {
    /// The same only if it is one context: what two others are made of is not compared.
    package static func == (a: TLSClientContext, b: TLSClientContext) -> Bool { a === b }

    /// By identity, as they are compared.
    package func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }

    let context: TLSContext
    /// Whether certificates to trust were loaded.
    package let verifies: Bool
    /// Where certificates are compared with TLSA records: what those must lead to that have to be trusted as well.
    let beside: TLSClientContext?

    /// A context with `verifies` trusts the certificates in the PEM file `trustFile`, or those of the system if that
    /// is nil, and has the system's security level.
    ///
    /// One without is for opportunistic TLS and takes all that a peer of TLS 1.2 or later can offer, short keys and
    /// old hashes included (security level 0): the other choice would be the same mail in clear (RFC 7435 section 3).
    ///
    /// - Parameter identity: what servers are shown that ask for a certificate; nil: none.
    package init(
        minimum: TLSMinimum = .v1_2, verifies: Bool, trustFile: String? = nil, identity: TLSIdentity? = nil
    ) throws(TLSError) {
        context = try TLSContext(method: TLS_client_method(), minimum: minimum)
        self.verifies = verifies
        beside = nil
        if let identity { try context.show(identity) }
        guard verifies else {
            SSL_CTX_set_security_level(context.pointer, 0)
            return
        }
        ERR_clear_error()
        if let trustFile {
            guard SSL_CTX_load_verify_file(context.pointer, trustFile) == 1 else {
                throw .drainQueue(.trust, while: "cannot read \(trustFile)")
            }
        } else {
            guard SSL_CTX_set_default_verify_paths(context.pointer) == 1 else {
                throw .drainQueue(.trust, while: "certificates of the system")
            }
        }
    }

    /// A context for DANE. What is in no record proves nothing there: it trusts no root, and what a zone names need not have a
    /// key that a root would sign today (security level 1). `trusted` is one that verifies, for servers that have to be both.
    package init(
        comparingRecordsBeside trusted: TLSClientContext, identity: TLSIdentity? = nil
    ) throws(TLSError) {
        precondition(trusted.verifies, "a context made with verifies: false trusts nobody")
        context = try TLSContext(method: TLS_client_method(), minimum: .v1_2)
        (verifies, beside) = (false, trusted)
        if let identity { try context.show(identity) }
        ERR_clear_error()
        guard SSL_CTX_dane_enable(context.pointer) == 1 else { throw .drainQueue(.configuration, while: "DANE") }
        SSL_CTX_set_security_level(context.pointer, 1)
    }
}
