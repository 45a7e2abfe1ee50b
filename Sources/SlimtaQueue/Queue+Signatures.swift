// Signatures of what leaves: of notices, when they are made; of other mail anew, where it has waited so long that those it has
// will no longer count when it arrives. Called by the queue's driver.

import Logging
package import SlimtaMail
import Synchronization

extension Queue {
    /// How long after it was accepted a message is looked at for signatures that have run out: none is made for less than an
    /// hour.
    private static let signatureAge = Duration.seconds(1800)

    /// A message of ours as it is to be accepted: signed, where such messages are.
    package func signed(_ envelope: Envelope, _ message: Message) async -> Envelope {
        guard let signer = state.withLock({ $0.configuration.signer }) else { return envelope }
        var signed = envelope
        signed.prependedFields = await signer.fields(for: envelope, message)
        return signed
    }

    /// What is to be recorded of an attempt, with notices signed: they are stored with what they tell of.
    func signed(_ resolution: AttemptResolution) async -> AttemptResolution {
        var resolution = resolution
        for (index, notice) in resolution.notices.enumerated() {
            resolution.replace(await signed(notice.envelope, notice.message), ofNotice: index)
        }
        return resolution
    }

    /// What is to be attempted, with signatures that count; nil: it has none, and can have none now.
    func standing(_ stored: StoredEnvelope, _ signer: (any NoticeSigner)?) async -> StoredEnvelope? {
        let now = clock.read().wall
        guard let signer, now - stored.envelope.received >= Self.signatureAge else { return stored }
        switch await signer.renewal(of: stored.envelope, stored.message, at: now) {
        case .none: return stored
        case .renewed(let envelope):
            var stored = stored
            stored.envelope = envelope
            return stored
        case .impossible: return nil
        }
    }
}

extension Outcome {
    /// What is said of recipients whose message would leave with a signature that nobody takes.
    static let unsigned = Outcome(
        .temporary,
        Reply(451, EnhancedStatus(4, 7, 5), "the signature of the message has run out, and it cannot be signed now"))
}
