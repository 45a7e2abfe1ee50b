// Signs messages: header and body's hash in, a field out (RFC 6376 section 5). One for each selector that signs; whoever stores
// a message puts the field above all others.

package import SlimtaCrypto
package import SlimtaMail

/// Why a message was not signed.
package enum DKIMSigningError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Readers see the end of the header in other places: no signature of it would hold.
    case malformedHeader
    /// There is not exactly one From: which one a signature would vouch for is anybody's guess.
    case authors(Int)
    /// The hash is of the other form of the body.
    case bodyHash(Canonicalization)
    /// The key cannot be used.
    case key(CryptoError)

    /// In words.
    package var description: String {
        switch self {
        case .malformedHeader: "the header is cut off by a line that is no field"
        case .authors(let count): "the header has \(count) From fields"
        case .bodyHash(let form): "the body was hashed in its \(form.rawValue) form"
        case .key(let error): error.description
        }
    }
}

/// Signs for a domain with one key.
package struct DKIMSigner: Sendable {
    /// `d=`, in A-labels and lower case.
    package let domain: String
    /// `s=`, in lower case.
    package let selector: String
    /// What it signs with.
    package let key: DKIMSigningKey
    /// `c=`
    package let canonicalizations: Canonicalizations
    /// How long signatures count; nil: for ever.
    package let lifetime: Duration?

    /// - Parameter lifetime: what is in our own queue has to arrive with a signature that still counts.
    package init(
        domain: String, selector: String, key: DKIMSigningKey, canonicalizations: Canonicalizations = .relaxed,
        lifetime: Duration?
    ) {
        self.domain = domain.foldedAsDomain()
        self.selector = selector.foldedAsDomain()
        (self.key, self.canonicalizations, self.lifetime) = (key, canonicalizations, lifetime)
    }

    /// What the key is called; nil: DNS cannot have it.
    package var name: SelectorName? { SelectorName(domain: domain, selector: selector, algorithm: key.algorithm) }

    /// The DKIM-Signature field, with its last line end, of a message with this header and body. RSA takes most of a
    /// millisecond.
    ///
    /// - Parameters:
    ///   - start: when the message leaves, if that is later: the lifetime begins then.
    ///   - isEndless: nobody knows when it leaves: the signature counts for ever.
    package func sign(
        _ header: DKIMHeader, _ bodyHash: BodyHash, at time: Timestamp, leaving start: Timestamp? = nil,
        isEndless: Bool = false
    ) throws(DKIMSigningError) -> [UInt8] {
        guard header.isWellFormed else { throw .malformedHeader }
        let authors = header.counts["from"] ?? 0
        guard authors == 1 else { throw .authors(authors) }
        guard bodyHash.canonicalization == canonicalizations.body else { throw .bodyHash(bodyHash.canonicalization) }
        let seconds = min(max(0, time.seconds), DKIMSignature.latest - 1)
        let start = max(time, start ?? time)
        let lifetime = isEndless ? nil : lifetime
        let expiration = lifetime.map { min(max(seconds + 1, (start + $0).seconds), DKIMSignature.latest) }
        var signature = DKIMSignature(
            algorithm: key.algorithm, canonicalizations: canonicalizations, domain: domain, selector: selector,
            time: seconds, expiration: expiration, names: SignedNames.of(header), bodyHash: bodyHash.digest)
        let text = DKIMHeader.signedText(
            of: header, signature.names, canonicalizations.header, field: signature.unsignedField)
        do throws(CryptoError) { signature.signature = try key.sign(text) } catch { throw .key(error) }
        return signature.field
    }
}

extension DKIMHeader {
    /// What is signed (RFC 6376 section 3.7): the fields that `names` mean, then the signature's own field without what is in
    /// `b=` and without a line end.
    static func signedText(
        of header: DKIMHeader, _ names: [String], _ canonicalization: Canonicalization, field: [UInt8]
    ) -> [UInt8] {
        var text = header.canonical(names, canonicalization)
        field.withUnsafeBytes { canonicalization.append(field: $0, to: &text) }
        return text.dropLast(2)
    }
}
