// Verifies a signature (RFC 6376 section 6): those that we make, before anybody gets them (sign, then verify), and other
// people's in tests. Strict where verifiers differ: what passes here passes elsewhere.

package import SlimtaMail

/// What came of a signature.
package enum DKIMVerdict: Hashable, Sendable {
    /// It is good. `isTesting`: the domain says that this means nothing yet (`t=y`).
    case pass(isTesting: Bool)
    /// It is not, and never will be.
    case fail(DKIMFailure)
    /// DNS does not say, for now.
    case unknown(String)
}

/// Why a signature is none.
package enum DKIMFailure: Hashable, Sendable {
    /// The field cannot be read.
    case malformed(DKIMSignature.Fault)
    /// It signs a part of the body (`l=`): anything may follow. Nobody is to be given such a signature by us.
    case bodyLength
    /// `x=` is over.
    case expired
    /// What the domain says of its key is not what the signature needs.
    case record(DKIMRecordVerdict)
    /// RFC 8301 section 3.2.
    case weakKey(bits: Int)
    /// `t=s`, and `i=` is below `d=` (RFC 6376 section 3.6.1).
    case identity
    /// The header ends at a line that is no field.
    case malformedHeader
    /// The body is another, or there is no hash of its form.
    case bodyHash
    /// The header is another, or the key.
    case signature
}

/// Verifies signatures of one message.
package struct DKIMVerifier: Sendable {
    private let header: DKIMHeader
    private let bodyHashes: [BodyHash]
    private let time: Timestamp

    /// - Parameters:
    ///   - header: without the signature that is verified.
    ///   - bodyHashes: of each form that a signature may have.
    package init(_ header: DKIMHeader, _ bodyHashes: [BodyHash], at time: Timestamp) {
        (self.header, self.bodyHashes, self.time) = (header, bodyHashes, time)
    }

    /// Whether a field of ours holds, by the public half of the key that made it: what DNS says is the gate's business.
    package func verify(_ field: [UInt8], with key: DKIMPublicKey) -> DKIMVerdict {
        verify(field) { signature in
            key.algorithm == signature.algorithm ? .success(Answer(key: key)) : .failure(.record(.otherKey))
        }
    }

    /// The same by what DNS has at ``DKIMSignature/recordName``.
    package func verify(_ field: [UInt8], with answer: DKIMKeyAnswer) -> DKIMVerdict {
        if case .failed(let why) = answer { return .unknown(why) }
        return verify(field) { signature in
            let record: DKIMKeyRecord
            switch answer.record {
            case .success(let found): record = found
            case .failure(let verdict): return .failure(.record(verdict))
            }
            guard record.algorithm == signature.algorithm else { return .failure(.record(.otherKey)) }
            guard let key = try? DKIMPublicKey(signature.algorithm, octets: record.key) else {
                return .failure(.record(.malformed(.value("p"))))
            }
            if record.isStrict, let identity = signature.identityDomain, identity != signature.domain {
                return .failure(.identity)
            }
            return .success(Answer(key: key, isTesting: record.isTesting))
        }
    }

    private struct Answer {
        let key: DKIMPublicKey
        var isTesting = false
    }

    private enum Found {
        case success(Answer)
        case failure(DKIMFailure)
    }

    private func verify(_ field: [UInt8], _ find: (DKIMSignature) -> Found) -> DKIMVerdict {
        let tags: TagList
        let signature: DKIMSignature
        do throws(DKIMSignature.Fault) {
            tags = try DKIMSignature.tags(of: field)
            signature = try DKIMSignature(tags)
        } catch { return .fail(.malformed(error)) }
        guard header.isWellFormed else { return .fail(.malformedHeader) }
        guard signature.bodyLength == nil else { return .fail(.bodyLength) }
        if let end = signature.expiration, end < time.seconds { return .fail(.expired) }
        let answer: Answer
        switch find(signature) {
        case .success(let found): answer = found
        case .failure(let failure): return .fail(failure)
        }
        guard !answer.key.isTooWeak else { return .fail(.weakKey(bits: answer.key.bits)) }
        let forms = signature.canonicalizations
        guard bodyHashes.contains(BodyHash(canonicalization: forms.body, digest: signature.bodyHash)) else {
            return .fail(.bodyHash)
        }
        let name = field.prefix { $0 != UInt8(ascii: ":") }
        let text = DKIMHeader.signedText(
            header.canonical(signature.names, forms.header), forms.header,
            field: name + [UInt8(ascii: ":")] + tags.octets(without: "b"))
        guard answer.key.isSignature(signature.signature, of: text) else { return .fail(.signature) }
        return .pass(isTesting: answer.isTesting)
    }
}

extension DKIMSignature {
    /// Where the record of its key is (RFC 6376 section 3.6.2.1).
    package var recordName: String { "\(selector)._domainkey.\(domain)" }
}
