// What all of SlimtaCrypto does with octets: hands them to OpenSSL, overwrites them, makes random ones, compares secret
// ones.

import COpenSSL

/// Octets that nobody can foretell, from OpenSSL's generators, which the kernel seeds (NIST SP 800-90A).
package enum RandomOctets {
    /// For others to see: salts, nonces, identifiers.
    package static func visible(_ count: Int) -> [UInt8] { fill(count, RAND_bytes) }

    /// For keys: from a generator of its own, of whose output nobody ever sees a part.
    package static func secret(_ count: Int) -> [UInt8] { fill(count, RAND_priv_bytes) }

    private static func fill(
        _ count: Int, _ generate: (UnsafeMutablePointer<UInt8>?, CInt) -> CInt
    ) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { room, filled in
            precondition(generate(room.baseAddress, CInt(count)) == 1, "OpenSSL has no random numbers")
            filled = count
        }
    }
}

/// Comparison that does not tell, by how long it takes, how much of a guess was right.
package enum ConstantTime {
    /// Whether both are the same octets. Their lengths are no secret.
    package static func areEqual(_ a: some Collection<UInt8>, _ b: some Collection<UInt8>) -> Bool {
        a.withOctets { a in
            b.withOctets { b in a.count == b.count && CRYPTO_memcmp(a.baseAddress, b.baseAddress, a.count) == 0 }
        }
    }
}

extension Collection<UInt8> {
    /// Calls `body` with the octets in one piece. A copy, where that takes one, is overwritten.
    func withOctets<Result>(_ body: (UnsafeBufferPointer<UInt8>) -> Result) -> Result {
        if let result = withContiguousStorageIfAvailable(body) { return result }
        var copy = Array(self)
        defer { copy.overwrite() }
        return copy.withUnsafeBufferPointer(body)
    }
}

extension [UInt8] {
    /// Leaves zeros. Not for an array that somebody else has too: that would be a copy.
    mutating func overwrite() { withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
}
