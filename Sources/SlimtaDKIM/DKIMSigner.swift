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
    /// What the key is called; nil: DNS cannot have it.
    package let name: SelectorName?

    /// - Parameter lifetime: what is in our own queue has to arrive with a signature that still counts.
    package init(
        domain: String, selector: String, key: DKIMSigningKey, canonicalizations: Canonicalizations = .relaxed,
        lifetime: Duration?
    ) {
        self.domain = domain.foldedAsDomain()
        self.selector = selector.foldedAsDomain()
        (self.key, self.canonicalizations, self.lifetime) = (key, canonicalizations, lifetime)
        name = SelectorName(domain: self.domain, selector: self.selector, algorithm: key.algorithm)
    }

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
        var header = try SignableHeader(header)
        return try sign(&header, bodyHash, at: time, leaving: start, isEndless: isEndless)
    }

    /// The same of a header that has several signers.
    package func sign(
        _ header: inout SignableHeader, _ bodyHash: BodyHash, at time: Timestamp, leaving start: Timestamp? = nil,
        isEndless: Bool = false
    ) throws(DKIMSigningError) -> [UInt8] {
        guard bodyHash.canonicalization == canonicalizations.body else { throw .bodyHash(bodyHash.canonicalization) }
        let seconds = min(max(0, time.seconds), DKIMSignature.latest - 1)
        let start = max(time, start ?? time)
        let lifetime = isEndless ? nil : lifetime
        let expiration = lifetime.map { min(max(seconds + 1, (start + $0).seconds), DKIMSignature.latest) }
        var signature = DKIMSignature(
            algorithm: key.algorithm, canonicalizations: canonicalizations, domain: domain, selector: selector,
            time: seconds, expiration: expiration, names: header.names, bodyHash: bodyHash.digest)
        let unsigned = signature.unsignedField
        let text = DKIMHeader.signedText(
            header.canonical(canonicalizations.header), canonicalizations.header, field: unsigned)
        do throws(CryptoError) { signature.signature = try key.sign(text) } catch { throw .key(error) }
        return signature.field(behind: unsigned)
    }
}

/// A header that can be signed, with what all of its signers need of it.
package struct SignableHeader {
    /// The names of what is signed.
    let names: [String]
    private let header: DKIMHeader
    private var texts: [Canonicalization: [UInt8]] = [:]

    /// Fails if no signature of it would hold, or nobody could say whom it vouches for.
    package init(_ header: DKIMHeader) throws(DKIMSigningError) {
        guard header.isWellFormed else { throw .malformedHeader }
        let counts = header.counts
        let authors = counts["from"] ?? 0
        guard authors == 1 else { throw .authors(authors) }
        self.header = header
        names = SignedNames.of(counts)
    }

    /// The fields that are signed, in canonical form.
    mutating func canonical(_ canonicalization: Canonicalization) -> [UInt8] {
        if let text = texts[canonicalization] { return text }
        let text = header.canonical(names, canonicalization)
        texts[canonicalization] = text
        return text
    }
}

extension DKIMHeader {
    /// What is signed (RFC 6376 section 3.7): ``canonical(_:_:)`` fields, then the signature's own field without what is in
    /// `b=` and without a line end.
    static func signedText(_ fields: [UInt8], _ canonicalization: Canonicalization, field: [UInt8]) -> [UInt8] {
        var text = fields
        field.withUnsafeBytes { canonicalization.append(field: $0, to: &text) }
        text.removeLast(2)
        return text
    }
}
