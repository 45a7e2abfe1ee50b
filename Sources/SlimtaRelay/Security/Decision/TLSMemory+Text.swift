// TLSMemory as a file: a line for each host, which a person can read. It is a hint: what is not understood is left out, and
// said, by whoever reads the file.

import SlimtaMail

extension TLSMemory {
    /// "example.com mx.example.com days=41 first=20400 last=20470 dane=20470", and LF, for each; in their order.
    var text: String {
        entries.sorted { $0.key < $1.key }.map { key, entry in
            var line = "\(key.domain) \(key.host) days=\(entry.days) first=\(entry.first) last=\(entry.last)"
            if let day = entry.lastDANE { line += " dane=\(day)" }
            if let day = entry.lastPolicy { line += " sts=\(day)" }
            return line + "\n"
        }.joined()
    }

    /// Adds what `text` has. Whether all of it was understood.
    mutating func read(_ text: String) -> Bool {
        var isWhole = true
        for line in text.split(separator: "\n") {
            if let (key, entry) = Self.parse(line), entries[key] == nil, entries.count < Self.capacity {
                insert(entry, for: key)
            } else {
                isWhole = false
            }
        }
        return isWhole
    }

    private static func parse(_ line: Substring) -> (Key, Entry)? {
        let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        guard words.count >= 5, isName(words[0]), isName(words[1]) else { return nil }
        var values: [String: Int] = [:]
        for word in words.dropFirst(2) {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, ["days", "first", "last", "dane", "sts"].contains(parts[0]),
                let number = Int(parts[1]), String(number) == parts[1], (0...1_000_000).contains(number),
                values.updateValue(number, forKey: parts[0]) == nil
            else { return nil }
        }
        guard let days = values["days"], let first = values["first"], let last = values["last"], days > 0,
            last - first >= days - 1
        else { return nil }
        let entry = Entry(
            days: days, first: first, last: last, lastDANE: values["dane"], lastPolicy: values["sts"])
        return (Key(domain: words[0], host: words[1]), entry)
    }

    /// Visible ASCII in lower case.
    private static func isName(_ word: String) -> Bool {
        (1...255).contains(word.utf8.count)
            && word.utf8.allSatisfy { (0x21...0x7E).contains($0) && !$0.isASCIIUppercase }
    }
}
