// The hash of a body, `bh=` (RFC 6376 section 3.7), computed while the body comes in. Whoever stores a message feeds one; it is
// the signer's, and the verifier's.

package import NIOCore
import SlimtaCrypto

/// What a body hashes to.
package struct BodyHash: Hashable, Sendable {
    /// Of which form of it.
    package let canonicalization: Canonicalization
    /// SHA-256, 32 octets.
    package let digest: [UInt8]

    /// One that was computed.
    package init(canonicalization: Canonicalization, digest: [UInt8]) {
        (self.canonicalization, self.digest) = (canonicalization, digest)
    }

    /// That of a body that is all there.
    package init(of body: ByteBuffer, _ canonicalization: Canonicalization) {
        var hasher = BodyHasher(canonicalization)
        hasher.update(body)
        self = hasher.finish()
    }
}

/// Hashes a body whose octets come in parts. There is no limit to what is hashed, and so no `l=`: what a message's body got
/// behind such a limit would be verified with it.
package struct BodyHasher: ~Copyable {
    /// Of which form.
    package let canonicalization: Canonicalization
    private var body: BodyCanonicalization
    private var digest = IncrementalDigest(.sha256)

    /// Of a body of which nothing has come yet.
    package init(_ canonicalization: Canonicalization) {
        self.canonicalization = canonicalization
        body = BodyCanonicalization(canonicalization)
    }

    /// These octets come next. The body begins behind the empty line that ends the header.
    package mutating func update(_ octets: UnsafeRawBufferPointer) { body.take(octets, into: &digest) }

    /// The readable octets come next.
    package mutating func update(_ octets: ByteBuffer) {
        octets.withUnsafeReadableBytes { body.take($0, into: &digest) }
    }

    /// The hash of all that came.
    package consuming func finish() -> BodyHash {
        body.finish(into: &digest)
        return BodyHash(canonicalization: canonicalization, digest: digest.finish())
    }
}

extension IncrementalDigest: OctetSink {
    mutating func take(_ octets: UnsafeRawBufferPointer) { update(octets) }
}
