// What a submission leaves behind for a time: one that comes again with its key makes no second message, and who sent it can
// ask what became of it. Made by edges, completed by Intake, kept by storages in the same commit as the message.

package import SlimtaMail

/// What a submission leaves behind, in the same commit as its message.
///
/// A commit with a receipt whose key is there already is refused: ``StorageError/repeated``. As envelopes leave the queue,
/// the storage notes in the receipt how each recipient ended.
package struct Receipt: Hashable, Sendable {
    /// The key of the submission: a digest of whose it is, of where it was submitted, and of the name that it was given.
    package var key: Digest
    /// Whose it is: a digest of a login, or of an edge and a client.
    package var owner: Owner
    /// A digest of all that was submitted: another submission with the same key is a mistake of the client's.
    package var fingerprint: Digest
    /// The id that the client was told.
    package var id: QueueID
    /// The envelopes that were made of it, in the order of their commit.
    package var envelopes: [Part]
    /// What the client was told, in the edge's own words. No longer than what was submitted, or some such.
    package var answer: [UInt8]
    /// When it is forgotten; nil: when it is told to be, whatever the limits.
    package var expires: Timestamp?
    /// How far its key may be known. No storage keeps that.
    package var reach = Reach.anywhere

    /// Where a submission with the same key may have been taken.
    package enum Reach: Hashable, Sendable {
        /// The client chose the key: it may come with it again, to any node.
        case anywhere
        /// The key was made of the id: the submission comes with both again, to this node, until it is taken.
        case here
        /// The key was made of the id, and the same submission has another one when it comes again.
        case itself
    }

    /// How many of one owner are kept that expire: the one that would expire first goes when there is one more.
    package static let ownerLimit = 10_000
    /// How many octets those of one owner have together: beyond that, too, those that would expire first go.
    package static let ownerOctets = 16 << 20
    /// Octets of a recipient's last reply that are kept.
    package static let replyLimit = 200

    /// Of a submission whose envelopes are still to be made: see ``of(_:)``.
    package init(
        key: Digest, owner: Owner, fingerprint: Digest, id: QueueID, answer: [UInt8] = [], expires: Timestamp?
    ) {
        self.key = key
        self.owner = owner
        self.fingerprint = fingerprint
        self.id = id
        envelopes = []
        self.answer = answer
        self.expires = expires
    }

    /// The receipt of these envelopes, none of which has been tried.
    package func of(_ envelopes: [Envelope]) -> Receipt {
        var receipt = self
        receipt.envelopes = envelopes.map { envelope in
            // Where mail for somebody is forwarded to is not the sender's affair.
            let named = envelope.recipients.map { envelope.original(of: $0) ?? $0 }
            return Part(id: envelope.id, recipients: named.map { Recipient(address: $0.text) })
        }
        return receipt
    }

    /// 32 octets of SHA-256.
    package struct Digest: Hashable, Comparable, Sendable {
        /// The octets, as four numbers: the first is the most significant of `a`.
        package let a, b, c, d: UInt64

        /// Of the 32 octets of a digest; a precondition.
        package init(_ octets: some Collection<UInt8>) {
            precondition(octets.count == 32, "a digest has 32 octets")
            var words: [UInt64] = [0, 0, 0, 0]
            for (place, octet) in octets.enumerated() { words[place / 8] = words[place / 8] << 8 | UInt64(octet) }
            self.init(words[0], words[1], words[2], words[3])
        }

        /// As the octets sort.
        package static func < (one: Digest, other: Digest) -> Bool {
            (one.a, one.b, one.c, one.d) < (other.a, other.b, other.c, other.d)
        }

        /// Of its four numbers.
        package init(_ a: UInt64, _ b: UInt64, _ c: UInt64, _ d: UInt64) {
            (self.a, self.b, self.c, self.d) = (a, b, c, d)
        }
    }

    /// 16 octets of a digest.
    package struct Owner: Hashable, Sendable {
        /// The octets, as two numbers.
        package let high, low: UInt64

        /// The first half of a digest.
        package init(_ digest: Digest) { self.init(high: digest.a, low: digest.b) }

        /// Of its two numbers.
        package init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }
    }

    /// One envelope of the submission.
    package struct Part: Hashable, Sendable {
        /// Of the envelope.
        package var id: QueueID
        /// By their index in the envelope.
        package var recipients: [Recipient]
        /// How many ended how; nil: it has not left the queue.
        package var fates: Fates?

        /// An envelope that is queued.
        package init(id: QueueID, recipients: [Recipient], fates: Fates? = nil) {
            self.id = id
            self.recipients = recipients
            self.fates = fates
        }
    }

    /// One recipient of an envelope.
    package struct Recipient: Hashable, Sendable {
        /// The mailbox as the sender has named it.
        package var address: String
        /// How it ended; `pending` while the envelope is queued, or if that was not said of each recipient.
        package var fate: RecipientState.Fate
        /// What was said of it last, as one line of at most ``Receipt/replyLimit`` octets; empty while it is queued.
        package var reply: String

        /// Without arguments but the address: queued.
        package init(address: String, fate: RecipientState.Fate = .pending, reply: String = "") {
            self.address = address
            self.fate = fate
            self.reply = reply
        }
    }

    /// Whether it is to be forgotten.
    package func isExpired(at time: Timestamp) -> Bool { expires.map { $0 <= time } ?? false }

    /// Notes that one of its envelopes has left the queue. To note it again changes nothing.
    package mutating func note(_ ending: Ending) {
        guard let index = envelopes.firstIndex(where: { $0.id == ending.id }) else { return }
        envelopes[index].note(ending)
    }
}

extension Receipt.Part {
    fileprivate mutating func note(_ ending: Ending) {
        let fates = Fates(ending)
        self.fates = fates
        if ending.recipients.count == recipients.count {
            for (place, state) in ending.recipients.enumerated() {
                recipients[place].fate = state.fate
                recipients[place].reply = state.reply.cut(toOctets: Receipt.replyLimit)
            }
        } else if let only = fates.only {
            for place in recipients.indices { recipients[place].fate = only }
        }
    }
}
