// Feeds one input cut in many ways to whatever reads it: the cuts must not change what is read. Used by the tests of
// all parsers, framers and protocol machines, with the seeded generator that the random tests share.

package import NIOCore

/// Proves that the way in which octets are cut into chunks does not matter.
package enum ChunkVerifier {
    /// Two ways to cut the same octets that gave different results.
    package struct Mismatch: Error, CustomStringConvertible {
        package let description: String
    }

    /// Runs `read` on `octets` whole, octet by octet, cut in two at every place (up to 300 octets), and cut at seeded
    /// random places; throws ``Mismatch`` at the first result that differs from the first.
    ///
    /// - Parameters:
    ///   - cuts: how many random ways to cut there are.
    ///   - read: makes a new reader, feeds it the chunks in their order, and says what it read.
    /// - Returns: the result that all ways gave.
    package static func verify<Result: Equatable>(
        _ octets: [UInt8], cuts: Int = 12, seed: UInt64 = 1, read: ([ByteBuffer]) throws -> Result
    ) throws -> Result {
        let whole = try read([ByteBuffer(bytes: octets)])
        func compare(_ chunks: [ByteBuffer], _ way: String) throws {
            let result = try read(chunks)
            guard result == whole else {
                throw Mismatch(
                    description: """
                        \(way) differs for \(printable(octets.prefix(400)))
                        whole: \(whole)
                        cut:   \(result)
                        """)
            }
        }
        try compare(octets.map { ByteBuffer(integer: $0) }, "octet by octet")
        if octets.count <= 300 {
            for cut in octets.indices.dropFirst() {
                try compare([ByteBuffer(bytes: octets[..<cut]), ByteBuffer(bytes: octets[cut...])], "cut at \(cut)")
            }
        }
        var generator = SeededGenerator(seed: seed)
        for number in 0..<cuts {
            // From many small chunks to a few large ones.
            let most = max(1, octets.count >> (number % 6))
            var chunks: [ByteBuffer] = []
            var offset = 0
            while offset < octets.count {
                let end = min(octets.count, offset + Int.random(in: 1...most, using: &generator))
                chunks.append(ByteBuffer(bytes: octets[offset..<end]))
                offset = end
            }
            try compare(chunks, "random cut \(number) with seed \(seed)")
        }
        return whole
    }

    /// Octets as readable text, what is not printable ASCII escaped: for messages of tests.
    package static func printable(_ octets: some Sequence<UInt8>) -> String {
        octets.reduce(into: "") { text, octet in
            switch octet {
            case UInt8(ascii: "\r"): text += "\\r"
            case UInt8(ascii: "\n"): text += "\\n"
            case 32...126: text.unicodeScalars.append(Unicode.Scalar(octet))
            default: text += "\\x" + (octet < 16 ? "0" : "") + String(octet, radix: 16)
            }
        }
    }
}

/// Random numbers that are the same in every run (SplitMix64), so that what a random test found can be found again.
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// `count` octets, each one of `alphabet`.
    package mutating func octets(_ count: Int, from alphabet: [UInt8]) -> [UInt8] {
        var octets: [UInt8] = []
        octets.reserveCapacity(count)
        for _ in 0..<count { octets.append(alphabet[Int.random(in: alphabet.indices, using: &self)]) }
        return octets
    }

    /// `count` octets of any value.
    package mutating func octets(_ count: Int) -> [UInt8] {
        var octets: [UInt8] = []
        octets.reserveCapacity(count)
        for _ in 0..<count { octets.append(UInt8.random(in: .min ... .max, using: &self)) }
        return octets
    }
}
