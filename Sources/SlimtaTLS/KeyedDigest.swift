// A digest that tells nothing to who does not have its key. SlimtaEdge remembers verified logins with it.

import COpenSSL

/// HMAC-SHA-256 (RFC 2104, FIPS 198-1) under a random key that never leaves the process and dies with this value.
package final class KeyedDigest: Sendable {
    /// 32 octets.
    package struct Value: Sendable {
        fileprivate var octets: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

        /// A quarter of it, where a key of a table is enough.
        package var prefix: UInt64 { octets.0 }

        /// Whether both are the same; takes as long if they are not.
        package static func == (a: Value, b: Value) -> Bool {
            withUnsafeBytes(of: a.octets) { a in
                withUnsafeBytes(of: b.octets) { CRYPTO_memcmp(a.baseAddress, $0.baseAddress, a.count) == 0 }
            }
        }
    }

    private let key: [UInt8]

    package init() {
        var key = [UInt8](repeating: 0, count: 32)
        precondition(RAND_priv_bytes(&key, Int32(key.count)) == 1, "OpenSSL has no random numbers")
        self.key = key
    }

    /// The digest of `message`.
    package func callAsFunction(_ message: [UInt8]) -> Value {
        var value = Value()
        withUnsafeMutableBytes(of: &value.octets) {
            var size: UInt32 = 0
            let digest = HMAC(
                EVP_sha256(), key, Int32(key.count), message, message.count,
                $0.baseAddress?.assumingMemoryBound(to: UInt8.self), &size)
            precondition(digest != nil && size == 32, "OpenSSL has no HMAC-SHA-256")
        }
        return value
    }
}
