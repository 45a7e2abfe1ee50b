// Signatures of mail that has waited: an operator held it, or a breaker did, or nobody took it for days. What would arrive with
// one that has run out, or with one by a key that is gone from DNS, leaves with a new one.

internal import Logging
internal import NIOCore
internal import SlimtaDKIM
package import SlimtaMail
package import SlimtaQueue

extension MailSigner {
    /// What a signature has to count for beyond the attempt: whoever takes the message may have to pass it on. Of those that
    /// are made for less than two days, half of their time.
    private static let margin: Int64 = 86400

    /// See ``NoticeSigner``.
    package func renewal(of envelope: Envelope, _ message: Message, at now: Timestamp) async -> SignatureRenewal {
        let (own, size) = ownSignatures(of: envelope)
        guard let stale = own.first(where: { isStale($0, at: now) }) else { return .none }
        return await withTaskExecutorPreference(globalConcurrentExecutor) {
            var bare = envelope
            bare.prependedFields.moveReaderIndex(forwardBy: size)
            return await renewed(bare, message, stale, at: now)
        }
    }

    /// Those that we have put on top of the header, and how many octets they are. What a filter has signed is below them, or for
    /// a domain that is none of ours.
    private func ownSignatures(of envelope: Envelope) -> (signatures: [DKIMSignature], size: Int) {
        let domains = keys.domains
        var (signatures, size) = ([DKIMSignature](), 0)
        for field in DKIMHeader(envelope.prependedFields).fields {
            guard field.name == "dkim-signature",
                let signature = try? DKIMSignature(parsing: Array(field.octets.readableBytesView)),
                domains.entry(for: signature.domain) == signature.domain
            else { break }
            signatures.append(signature)
            size += field.octets.readableBytes
        }
        return (signatures, size)
    }

    private func isStale(_ signature: DKIMSignature, at now: Timestamp) -> Bool {
        if let end = signature.expiration {
            let half = (end - (signature.time ?? end)) / 2
            if end - now.seconds < min(Self.margin, half) { return true }
        }
        let name = SelectorName(
            domain: signature.domain, selector: signature.selector, algorithm: signature.algorithm)
        return name.map { !keys.stands($0) } ?? true
    }

    /// - Parameter bare: without our signatures, of which `stale` is one.
    private func renewed(
        _ bare: Envelope, _ message: Message, _ stale: DKIMSignature, at now: Timestamp
    ) async -> SignatureRenewal {
        func told(_ reason: String, _ renewal: SignatureRenewal) -> SignatureRenewal {
            logger.warning(
                "message cannot be signed anew",
                metadata: [
                    "queue_id": "\(bare.id)", "domain": "\(stale.domain)", "selector": "\(stale.selector)",
                    "error": "\(reason)",
                ])
            return renewal
        }
        var mail = PolicyMail(envelope: bare, message: message)
        let header = mail.leaving(with: bare)
        guard case .sign(let entry, _) = keys.domains.decision(header) else {
            return told("mail of its author is not signed any more: it leaves as it is", .none)
        }
        let signers: [DKIMSigner]
        switch choice(for: entry) {
        case .signers(let found): signers = found
        case .closed(let selector): return told("none of the keys may sign now: \(selector)", .impossible)
        }
        let hashes: [BodyHash]
        // Why not, is told by then.
        do { hashes = try await bodyHashes(of: mail, for: signers, bare.id) } catch { return .impossible }
        do throws(DKIMSigningError) {
            mail.envelopes[0].prepend(try Self.fields(header, hashes, signers, at: now, leaving: now))
        } catch {
            return told("\(error)", .impossible)
        }
        if let fault = Self.fault(in: mail, hashes, signers, at: now) { return told(fault, .impossible) }
        keys.signed(signers.compactMap(\.name), at: now, leaving: now)
        logger.info(
            "message is signed anew",
            metadata: [
                "queue_id": "\(bare.id)", "domain": "\(entry)", "selector": "\(signers.first?.selector ?? "")",
            ])
        return .renewed(mail.envelopes[0])
    }
}
