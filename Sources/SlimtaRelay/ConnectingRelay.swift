// What relays have in common that keep connections. The composition root ends them, and tells the operator of them.

package import SlimtaQueue

/// A relay that has something to end, and perhaps something to say to the operator.
package protocol ConnectingRelay: Relay {
    /// What the operator has to put right before mail leaves by it; nil: nothing.
    var complaint: String? { get }

    /// How securely mail for a domain would go now; nil: there are no hosts of which that could be said.
    func explain(_ domain: String) async -> TLSExplanation?

    /// Ends its connections; attempts that still wait get a temporary outcome. Returns when all is closed: to be called
    /// when attempts have ended or were cancelled.
    func shutDown() async
}

extension ConnectingRelay {
    /// Nothing is wrong that only the operator can put right.
    package var complaint: String? { nil }

    /// It does not speak SMTP, or only on this machine.
    package func explain(_ domain: String) async -> TLSExplanation? { nil }
}
