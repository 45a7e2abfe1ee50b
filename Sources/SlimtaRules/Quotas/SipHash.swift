// A short digest under a key: what recipients are remembered by, and what a file is checked by. Used by Quotas alone.

internal import SlimtaMail

/// SipHash-2-4 (Aumasson and Bernstein, 2012): whoever does not know the key cannot choose addresses that look alike.
struct SipHash: Hashable, Sendable {
    /// The two halves of the key.
    let key: SIMD2<UInt64>

    /// The digest of `octets`.
    func callAsFunction(_ octets: UnsafeRawBufferPointer) -> UInt64 {
        var state = State(key)
        let whole = octets.count & ~7
        for place in stride(from: 0, to: whole, by: 8) {
            state.take(UInt64(littleEndian: octets.loadUnaligned(fromByteOffset: place, as: UInt64.self)))
        }
        var last = UInt64(octets.count) << 56
        for (index, octet) in octets[whole...].enumerated() { last |= UInt64(octet) << (8 * index) }
        state.take(last)
        return state.finished
    }

    /// The digest of an address, however it is spelled.
    func callAsFunction(_ mailbox: Mailbox) -> UInt64 {
        var text = mailbox.text.foldedAsAddress()
        return text.withUTF8 { self(UnsafeRawBufferPointer($0)) }
    }

    /// The digest of an address of the network.
    func callAsFunction(_ address: IPAddress) -> UInt64 {
        var text = address.description
        return text.withUTF8 { self(UnsafeRawBufferPointer($0)) }
    }

    private struct State {
        var v: SIMD4<UInt64>

        init(_ key: SIMD2<UInt64>) {
            v = SIMD4(
                key.x ^ 0x736f_6d65_7073_6575, key.y ^ 0x646f_7261_6e64_6f6d, key.x ^ 0x6c79_6765_6e65_7261,
                key.y ^ 0x7465_6462_7974_6573)
        }

        mutating func take(_ word: UInt64) {
            v[3] ^= word
            turn()
            turn()
            v[0] ^= word
        }

        var finished: UInt64 {
            var state = self
            state.v[2] ^= 0xFF
            for _ in 0..<4 { state.turn() }
            return state.v[0] ^ state.v[1] ^ state.v[2] ^ state.v[3]
        }

        private mutating func turn() {
            v[0] &+= v[1]
            v[1] = Self.rotated(v[1], 13) ^ v[0]
            v[0] = Self.rotated(v[0], 32)
            v[2] &+= v[3]
            v[3] = Self.rotated(v[3], 16) ^ v[2]
            v[0] &+= v[3]
            v[3] = Self.rotated(v[3], 21) ^ v[0]
            v[2] &+= v[1]
            v[1] = Self.rotated(v[1], 17) ^ v[2]
            v[2] = Self.rotated(v[2], 32)
        }

        private static func rotated(_ word: UInt64, _ bits: UInt64) -> UInt64 { word << bits | word >> (64 - bits) }
    }
}
