// Large lists of a rule: `sender_file` and its like. A file of text is a set in memory, read here; a file of GDBM is the
// composition root's. Both are looked up in constant time.

internal import SlimtaMail

/// A list that entries are looked up in.
package protocol TextList: Sendable {
    /// Whether `entry`, folded, is one of it; nil: nobody knows, for it cannot be read any more.
    func contains(_ entry: String) -> Bool?
    /// How long the prefixes of networks in it can be, of IPv4 and IPv6, in any order. Each costs a question.
    var prefixLengths: [Int] { get }
}

extension TextList {
    /// All.
    package var prefixLengths: [Int] { Array((0...128).reversed()) }
}

/// What the entries of a list are.
package enum TextListKind: Sendable {
    /// `client_file`: addresses and networks.
    case networks
    /// Addresses, names, `@domain`, `@.domain`: for ptr, ehlo, login, sender, recipient.
    case texts
}

/// A list in memory.
package struct TextSet: TextList {
    private let entries: Set<String>
    /// As ``TextList/prefixLengths``.
    package let prefixLengths: [Int]

    /// What one entry is looked up as. Throws for what cannot be looked up in constant time, and what is no entry.
    package static func key(of entry: String, _ kind: TextListKind) throws(RuleError) -> String {
        guard entry.utf8.count <= 1024, !entry.hasControls else {
            throw RuleError("\"\(entry.visible.cut(toOctets: 64))\"", "up to 1024 octets without control characters")
        }
        switch kind {
        case .networks:
            guard let range = NetworkRange(entry) else {
                throw RuleError("\"\(entry)\"", "an address or a network such as 192.0.2.0/24")
            }
            return range.listKey
        case .texts:
            if entry.isExpression {
                throw RuleError("the expression \"\(entry)\"", "an expression in the rule itself: a list is looked up")
            }
            if entry.isGlob {
                throw RuleError(
                    "the glob \"\(entry)\"", "a whole address, \"@domain\" or \"@.domain\": a list is looked up")
            }
            // What is in the rule itself and what is in a file is read alike.
            if entry.begins(with: "@") { return try TextPattern.domainKey(entry) }
            return TextPattern.folded(entry)
        }
    }

    /// Reads a file's content: one entry a line, blanks around it do not count, nor do empty lines and those that begin
    /// with "#". All mistakes are in `mistakes`, each with its line.
    package init(_ content: String, _ kind: TextListKind, mistakes: inout [(line: Int, error: RuleError)]) {
        var entries: Set<String> = []
        var lengths: Set<Int> = []
        var number = 0
        // Some editors begin a file with a mark of its byte order.
        let content = content.unicodeScalars.first == "\u{FEFF}" ? String(content.unicodeScalars.dropFirst()) : content
        for line in content.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            guard let entry = Self.entry(line) else { continue }
            do throws(RuleError) {
                entries.insert(try Self.key(of: entry, kind))
                switch kind {
                case .networks: if let network = NetworkRange(entry) { lengths.insert(network.prefixLength) }
                case .texts: break
                }
            } catch {
                mistakes.append((number, error))
            }
        }
        self.entries = entries
        prefixLengths = Array(lengths)
    }

    /// The entry of a line; nil: there is none.
    package static func entry(_ line: some BidirectionalCollection<UInt8>) -> String? {
        func isBlank(_ octet: UInt8) -> Bool {
            octet == UInt8(ascii: " ") || octet == UInt8(ascii: "\t") || octet == 13
        }
        let start = line.drop(while: isBlank)
        guard let last = start.lastIndex(where: { !isBlank($0) }) else { return nil }
        let entry = String(decoding: start[...last], as: UTF8.self)
        return entry.begins(with: "#") ? nil : entry
    }

    /// How many entries there are.
    package var count: Int { entries.count }

    /// `entry` is a key as ``key(of:_:)`` makes it.
    package func contains(_ entry: String) -> Bool? { entries.contains(entry) }
}

extension NetworkRange {
    /// What a network is looked up as: its base without what is behind the prefix.
    fileprivate var listKey: String { base.listKey(prefixLength) }
}

extension IPAddress {
    /// What the network of this length is looked up as that the address is in.
    fileprivate func listKey(_ length: Int) -> String {
        var octets = octets
        for index in octets.indices {
            let kept = max(0, min(8, length - index * 8))
            octets[index] &= kept == 0 ? 0 : UInt8(truncatingIfNeeded: 0xFF << (8 - kept))
        }
        return octets.reduce(into: "") { $0 += String(hexadecimal: $1, digits: 2) } + "/\(length)"
    }
}

extension TextList {
    /// Whether the address is in a network of the list: one look for each length that a prefix can have. nil: nobody knows.
    func contains(_ address: IPAddress) -> Bool? {
        let width = address.isIPv4 ? 32 : 128
        return containsAny(prefixLengths.lazy.filter { $0 <= width }.map { address.listKey($0) })
    }

    /// Whether the text is in the list, its domain, or a domain that its own is below. nil: nobody knows.
    func containsText(_ text: String) -> Bool? {
        let domain = TextPattern.domain(of: text)
        // A name has 127 labels at most.
        let above = sequence(state: domain[...]) { rest -> String? in
            guard let dot = rest.utf8.firstIndex(of: UInt8(ascii: ".")) else { return nil }
            rest = rest[rest.utf8.index(after: dot)...]
            return "@." + rest
        }
        let whole = containsAny([TextPattern.folded(text), "@" + domain])
        if whole == true { return true }
        let part = containsAny(above)
        return part == true ? true : whole == nil ? nil : part
    }

    private func containsAny(_ keys: some Sequence<String>) -> Bool? {
        var isOpen = false
        for key in keys {
            switch contains(key) {
            case true: return true
            case nil: isOpen = true
            case false: continue
            }
        }
        return isOpen ? nil : false
    }
}
