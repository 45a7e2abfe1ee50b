// Signs what leaves (DKIM, RFC 6376): mail that passed all policies, and notices of the queue. The last step of PolicyChain;
// the queue has it as its NoticeSigner. Which key signs is SigningKeys' word, how one signs is SlimtaDKIM's.

package import Logging
package import NIOCore
internal import SlimtaDKIM
package import SlimtaMail
internal import SlimtaQueue
import Synchronization

/// Puts signatures on top of messages, and has none leave without those that it should have.
///
/// A message is signed once, whatever policies made of it: fields that are signed are the same in all of its envelopes. Each
/// signature is read back and verified from the octets that will be stored, before anybody is told that the message is queued.
///
/// It works on the caller's thread, for a millisecond where there is an RSA key. Waiting policies run off the event loops, and so
/// does this one.
package final class MailSigner: WaitingPolicy, ObservingPolicy, NoticeSigner {
    private struct State {
        var unsigned = DailyWords()
        /// Messages kept because a signature of ours did not hold.
        var kept = 0
    }

    /// So many show what is wrong. Clients come back with their messages: without an end to it they would fill the queue.
    private static let mostKept = 10
    /// What is read at once of a body that has to be read again.
    private static let readSize = 65_536

    let keys: any SigningKeys
    let logger: Logger
    private let state = Mutex(State())

    /// Signs with `keys`.
    package init(_ keys: any SigningKeys, logger: Logger) { (self.keys, self.logger) = (keys, logger) }

    /// Behind all others.
    package var place: PolicyPlace { .signature }

    /// Large bodies are hashed while they come.
    package func makeObserver() -> (any ContentObserver)? { BodyWatch(keys.bodyForms) }

    /// Refuses what cannot be signed and should be: nothing goes unsigned because something of ours is wrong.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) async throws(PolicyRefusal) {
        guard let first = mail.envelopes.first else { return }
        let header = mail.leaving(with: first)
        let signers: [DKIMSigner]
        switch keys.domains.decision(header) {
        case .refuse(let reply): throw PolicyRefusal(reply)
        case .unsigned(let author): return noteUnsigned(author, first.id, context.now)
        case .sign(let entry, _):
            switch choice(for: entry) {
            case .signers(let found): signers = found
            case .closed(let selector): throw PolicyRefusal(.notSigned, selector: selector)
            }
        }
        guard header.isWellFormed else {
            throw PolicyRefusal(Reply(550, .init(5, 6, 0), "The header is cut off by a line that is no field"))
        }
        let start = max(context.now, context.due ?? context.now)
        let hashes = try await bodyHashes(of: mail, for: signers, first.id)
        let fields: ByteBuffer
        do throws(DKIMSigningError) {
            // A signature must not end while the message waits for an operator.
            let isHeld = context.heldReason != nil || mail.heldReason != nil
            fields = try Self.fields(header, hashes, signers, at: context.now, leaving: start, isEndless: isHeld)
        } catch {
            throw failed("\(error)", signers, first.id)
        }
        for index in mail.envelopes.indices { mail.envelopes[index].prepend(fields) }
        if let fault = Self.fault(in: mail, hashes, signers, at: context.now) {
            throw doesNotHold(fault, signers, first.id)
        }
        keys.signed(signers.compactMap(\.name), at: context.now, leaving: start)
    }

    // MARK: Signing

    enum Choice {
        case signers([DKIMSigner])
        /// Which key was to sign, or for whom.
        case closed(String)
    }

    func choice(for entry: String) -> Choice {
        switch keys.signers(for: entry) {
        case .sign(let signers) where !signers.isEmpty: .signers(signers)
        case .sign: .closed(entry)
        case .closed(let selector): .closed(selector?.description ?? entry)
        }
    }

    /// Signatures, the first signer's on top.
    static func fields(
        _ header: DKIMHeader, _ hashes: [BodyHash], _ signers: [DKIMSigner], at time: Timestamp,
        leaving start: Timestamp, isEndless: Bool = false
    ) throws(DKIMSigningError) -> ByteBuffer {
        var fields = ByteBuffer()
        var header = try SignableHeader(header)
        for signer in signers {
            let form = signer.canonicalizations.body
            guard let hash = hashes.first(where: { $0.canonicalization == form }) else { throw .bodyHash(form) }
            fields.writeBytes(try signer.sign(&header, hash, at: time, leaving: start, isEndless: isEndless))
        }
        return fields
    }

    /// Those that were computed while it came, if the body is still the same; else all of it is read.
    func bodyHashes(
        of mail: PolicyMail, for signers: [DKIMSigner], _ id: QueueID
    ) async throws(PolicyRefusal) -> [BodyHash] {
        let forms = Set(signers.map(\.canonicalizations.body))
        let beginning = mail.message.head.behind(mail.header)
        guard let rest = mail.message.rest else { return forms.map { BodyHash(of: beginning, $0) } }
        if let hashes = mail.observer(BodyWatch.self)?.hashes(of: beginning),
            forms.isSubset(of: hashes.map(\.canonicalization))
        {
            return hashes
        }
        var hashers = BodyHashers(forms)
        hashers.update(beginning)
        let reader = rest.makeReader()
        do {
            while let part = try await reader.next(Self.readSize) { hashers.update(part) }
        } catch {
            throw failed("the message cannot be read: \(error)", signers, id)
        }
        return hashers.finish()
    }

    // MARK: Verifying

    /// Why a signature does not hold, in words; nil: all do. Everything is read again: from the octets that will be stored.
    static func fault(
        in mail: PolicyMail, _ hashes: [BodyHash], _ signers: [DKIMSigner], at time: Timestamp
    ) -> String? {
        guard let first = mail.envelopes.first else { return nil }
        var hashes = hashes
        if mail.message.rest == nil {
            let body = mail.message.head.behind(HeaderBlock(scanning: mail.message.head))
            hashes = hashes.map { BodyHash(of: body, $0.canonicalization) }
        }
        let header = mail.leaving(with: first)
        for (place, signer) in signers.enumerated() {
            guard place < header.fields.count, header.fields[place].name == "dkim-signature" else {
                return "the signature of \(signer.domain) is not where it was put"
            }
            let field = Array(header.fields[place].octets.readableBytesView)
            let verdict = DKIMVerifier(header.without(place), hashes, at: time)
                .verify(field, with: signer.key.publicKey)
            guard verdict == .pass(isTesting: false) else {
                return "\(signer.key.algorithm.rawValue) of \(signer.domain): \(verdict)"
            }
        }
        guard mail.envelopes.count > 1 else { return nil }
        let fields = DKIMHeader(first.prependedFields)
        for other in mail.envelopes.dropFirst() where !DKIMHeader(other.prependedFields).isSigned(like: fields) {
            return "signed fields of \(other.id) are others than those of \(first.id)"
        }
        return nil
    }

    // MARK: Notices

    /// See ``NoticeSigner``. A notice that is lost is worse than one that is not signed.
    package func fields(for envelope: Envelope, _ message: Message) async -> ByteBuffer {
        // Attempts run on event loops, which are not to wait for RSA.
        await withTaskExecutorPreference(globalConcurrentExecutor) { signatures(for: envelope, message) }
    }

    private func signatures(for envelope: Envelope, _ message: Message) -> ByteBuffer {
        var mail = PolicyMail(envelope: envelope, message: message)
        let (header, time) = (mail.leaving(with: envelope), envelope.received)
        let signers: [DKIMSigner]
        switch keys.domains.decision(header) {
        case .unsigned(let author):
            noteUnsigned(author, envelope.id, time)
            return ByteBuffer()
        // What is done about clients' mail is nothing to a notice, which is ours.
        case .refuse: return unsigned(envelope, "no domain that is signed for has this host's name")
        case .sign(let entry, _):
            switch choice(for: entry) {
            case .signers(let found): signers = found
            case .closed(let selector): return unsigned(envelope, "none of its keys may sign now", selector)
            }
        }
        do throws(DKIMSigningError) {
            let hashes = Set(signers.map(\.canonicalizations.body))
                .map { BodyHash(of: message.head.behind(mail.header), $0) }
            let fields = try Self.fields(header, hashes, signers, at: time, leaving: time)
            mail.envelopes[0].prepend(fields)
            if let fault = Self.fault(in: mail, hashes, signers, at: time) { return unsigned(envelope, fault) }
            keys.signed(signers.compactMap(\.name), at: time, leaving: time)
            return fields
        } catch {
            return unsigned(envelope, "\(error)")
        }
    }

    // MARK: Telling

    private func unsigned(_ envelope: Envelope, _ reason: String, _ selector: String? = nil) -> ByteBuffer {
        var metadata: Logger.Metadata = ["queue_id": "\(envelope.id)", "error": "\(reason)"]
        if let selector { metadata["selector"] = "\(selector)" }
        logger.warning("notice goes unsigned", metadata: metadata)
        return ByteBuffer()
    }

    private func noteUnsigned(_ author: String?, _ id: QueueID, _ time: Timestamp) {
        let domain = author ?? "none"
        guard state.withLock({ $0.unsigned.isNew(domain, at: time) }) else { return }
        logger.notice("mail of a domain goes unsigned", metadata: ["domain": "\(domain)", "queue_id": "\(id)"])
    }

    private func failed(_ reason: String, _ signers: [DKIMSigner], _ id: QueueID) -> PolicyRefusal {
        logger.error(
            "message could not be signed",
            metadata: [
                "queue_id": "\(id)", "domain": "\(signers.first?.domain ?? "")", "error": "\(reason)",
            ])
        return PolicyRefusal(.notSigned)
    }

    /// A mistake of ours: the message shows it.
    private func doesNotHold(_ fault: String, _ signers: [DKIMSigner], _ id: QueueID) -> PolicyRefusal {
        let isKept = state.withLock { state in
            guard state.kept < Self.mostKept else { return false }
            state.kept += 1
            return true
        }
        logger.error(
            "signature of a message does not hold",
            metadata: [
                "queue_id": "\(id)", "domain": "\(signers.first?.domain ?? "")", "error": "\(fault)",
                "kept": "\(isKept ? "yes" : "no")",
            ])
        return PolicyRefusal(.notSigned, keptBecause: isKept ? EnvelopeState.keptReason : nil)
    }
}

extension PolicyMail {
    /// The header as it leaves with one of the envelopes.
    func leaving(with envelope: Envelope) -> DKIMHeader {
        // Scanned anew: what is signed, and verified, is what the octets say now.
        var header = DKIMHeader(HeaderBlock(scanning: message.head), in: message.head)
        header.prepend(envelope.prependedFields)
        return header
    }
}

extension DKIMHeader {
    /// Fields alone.
    init(_ fields: ByteBuffer) { self.init(HeaderBlock(scanning: fields), in: fields) }
}

extension Reply {
    /// What a client is told: why, is not its business.
    fileprivate static let notSigned = Reply(
        451, .init(4, 7, 5), "Mail of this author's domain cannot be signed now, try again later")
}
