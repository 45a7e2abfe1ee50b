// "did you mean": the nearest of the words that are allowed. Asked about keys and values of slimta.conf, subcommands, and
// fields of JSON requests.

/// What a misspelt word was probably meant to be.
package enum Spelling {
    /// The word of `candidates` that `word` is probably a slip of; nil if none is near.
    package static func nearest(to word: String, among candidates: some Sequence<String>) -> String? {
        let octets = Array(word.utf8.prefix(64))
        var best: (word: String, distance: Int)?
        for candidate in candidates {
            let distance = distance(octets.map(fold), candidate.utf8.map(fold))
            // A third of it may be wrong, and a single slip always.
            guard distance <= max(1, min(octets.count, candidate.utf8.count) / 3) else { continue }
            if distance < best?.distance ?? .max { best = (candidate, distance) }
        }
        return best?.word
    }

    /// How many octets must be inserted, left out, replaced or swapped with their neighbour (optimal string alignment).
    static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var beforeLast: [Int] = []
        var last = Array(0...b.count)
        for i in a.indices {
            var row = [i + 1]
            for j in b.indices {
                var cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, beforeLast[j - 1] + 1) }
                row.append(cost)
            }
            (beforeLast, last) = (last, row)
        }
        return last[b.count]
    }

    /// Upper case and "-" for "_" are slips that cost nothing.
    private static func fold(_ octet: UInt8) -> UInt8 {
        octet == UInt8(ascii: "-") ? UInt8(ascii: "_") : octet.asciiLowercased()
    }
}
