// The keys that mail is signed with, as the signer asks for them: what they are, where they come from and when one takes over
// from another is decided elsewhere. MailSigner asks, the composition root's keeper of keys answers.

package import SlimtaDKIM
package import SlimtaMail

/// Which keys sign for a domain.
package enum SigningChoice: Sendable {
    /// These, the topmost field first.
    case sign([DKIMSigner])
    /// None that anybody could verify with. Which one it was to be; nil: the domain has none.
    case closed(SelectorName?)
}

/// Has the keys. Safe to call from any thread; never blocks the caller.
package protocol SigningKeys: Sendable {
    /// The domains that are signed for.
    var domains: SigningDomains { get }

    /// The forms of bodies that signers hash: large messages are hashed while they come.
    var bodyForms: Set<Canonicalization> { get }

    /// The keys of an entry of ``domains``, as they are now.
    func signers(for entry: String) -> SigningChoice

    /// Whether what this one has signed can still be verified, as far as is known.
    func stands(_ selector: SelectorName) -> Bool

    /// These have just signed a message that leaves at `start`: at once, or later.
    func signed(_ selectors: [SelectorName], at time: Timestamp, leaving start: Timestamp)
}

extension SigningKeys {
    /// What signers have unless told otherwise.
    package var bodyForms: Set<Canonicalization> { [.relaxed] }
}
