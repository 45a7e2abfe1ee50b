// A digest that tells nothing to who does not have its key. SlimtaEdge remembers verified logins with it.

import Synchronization

/// HMAC-SHA-256 (RFC 2104 section 2) under a random key that never leaves the process and dies with this value.
package final class KeyedDigest: Sendable {
    /// 32 octets.
    package struct Value: Hashable, Sendable {
        fileprivate let octets: [UInt8]

        /// A quarter of it, where a key of a table is enough.
        package var prefix: UInt64 { octets.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } }

        /// By a part of it: whoever fills a table with such values cannot choose them.
        package func hash(into hasher: inout Hasher) { hasher.combine(prefix) }

        /// Whether both are the same; takes as long if they are not.
        package static func == (a: Value, b: Value) -> Bool { ConstantTime.areEqual(a.octets, b.octets) }
    }

    /// Behind a lock so that it can be overwritten at the end.
    private let key = Mutex(RandomOctets.secret(32))

    /// Makes the key.
    package init() {}

    deinit { key.withLock { $0.overwrite() } }

    /// The digest of `message`.
    package func callAsFunction(_ message: some Collection<UInt8>) -> Value {
        Value(octets: key.withLock { HashFunction.sha256.hmac(message, key: $0) })
    }
}
