// Domain names: what may be asked for, and what is believed of an answer. Called by Resolver.
//
// Names come from recipients, and names in answers from anybody's name server. An octet that is not in host names
// (NUL, a dot inside a label, a blank, anything beyond ASCII) would make one name look like another in what is compared,
// logged or sent on, so that a name with one is refused whole.

enum DNSName {
    /// What a name in an answer may consist of.
    enum Alphabet {
        /// Letters, digits, hyphens and underscores: a host's.
        case host
        /// What is visible in ASCII, but for dot and backslash, which would make two names look the same. A network's
        /// name may have a slash (RFC 2317 section 4), and who is behind an address may be called anything.
        case visible
    }

    /// `text` in lower case and without a dot at its end; nil if it is not a name of a host or mail domain.
    static func normalized(_ text: String) -> String? {
        var octets = Array(text.utf8)
        if octets.last == UInt8(ascii: ".") { octets.removeLast() }
        guard octets.count <= 253 else { return nil }
        for label in octets.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false) {
            guard (1...63).contains(label.count) else { return nil }
            for index in label.indices {
                guard let octet = folded(octets[index]) else { return nil }
                octets[index] = octet
            }
        }
        return String(decoding: octets, as: UTF8.self)
    }

    /// The name that fills all of `wire` (RFC 1035 section 3.1), in lower case and without the dot at its end; the
    /// root is "". Nil if it is no such name, or compressed, which libunbound undoes.
    static func parse(_ wire: ArraySlice<UInt8>, of alphabet: Alphabet = .host) -> String? {
        guard wire.count <= 255 else { return nil }
        var text: [UInt8] = []
        var rest = wire
        while let length = rest.popFirst() {
            if length == 0 { return rest.isEmpty ? String(decoding: text, as: UTF8.self) : nil }
            guard length <= 63, rest.count > Int(length) else { return nil }
            if !text.isEmpty { text.append(UInt8(ascii: ".")) }
            for octet in rest.prefix(Int(length)) {
                guard let octet = folded(octet, of: alphabet) else { return nil }
                text.append(octet)
            }
            rest = rest.dropFirst(Int(length))
        }
        return nil
    }

    /// The octet in lower case; nil if it is not one of a host name. The underscore is, for the sake of those who use it.
    static func folded(_ octet: UInt8) -> UInt8? {
        switch octet {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "_"):
            octet
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): octet | 0x20
        default: nil
        }
    }
    private static func folded(_ octet: UInt8, of alphabet: Alphabet) -> UInt8? {
        if let octet = folded(octet) { return octet }
        switch alphabet {
        case .host: return nil
        case .visible:
            let isVisible = (0x21...0x7E).contains(octet) && octet != UInt8(ascii: ".") && octet != UInt8(ascii: "\\")
            return isVisible ? octet : nil
        }
    }
}
