// Reads policy records (RFC 7208 section 12, the collected grammar). A record is read whole before anything of it counts:
// an error at its end is one even if its first mechanism matches (section 4.6). Called by SPFCheck.

import SlimtaMail

/// What is wrong with a record: the term, as far as it can be shown.
struct SPFSyntaxError: Error, Hashable {
    /// What is said of it: "Unknown mechanism: moo".
    let problem: String

    init(_ what: String, _ term: some Collection<UInt8>) {
        problem = what + ": " + SPFText.printable(term, limit: 60)
    }
}

extension SPFRecord {
    /// From the joined strings of a TXT record that is a policy.
    init(parsing text: [UInt8]) throws(SPFSyntaxError) {
        for term in text.dropFirst(Self.version.count).split(separator: UInt8(ascii: " ")) {
            let name = term.prefix { $0.isASCIILetterOrDigit || "-_.".utf8.contains($0) }
            if name.endIndex < term.endIndex, term[name.endIndex] == UInt8(ascii: "=") {
                try readModifier(name, term[(name.endIndex + 1)...], term)
            } else {
                directives.append(try SPFDirective(term))
            }
        }
    }

    /// `name=value` (section 6). Names that we do not know have to be well-formed, and do nothing.
    private mutating func readModifier(
        _ name: ArraySlice<UInt8>, _ value: ArraySlice<UInt8>, _ term: ArraySlice<UInt8>
    ) throws(SPFSyntaxError) {
        guard let first = name.first, first.asciiLowercased().isASCIILowercase else {
            throw SPFSyntaxError("Invalid modifier", term)
        }
        switch String(decoding: name.map { $0.asciiLowercased() }, as: UTF8.self) {
        case "redirect":
            guard redirect == nil else { throw SPFSyntaxError("Modifier redirect is there twice", term) }
            redirect = try domain(value, term)
        case "exp":
            guard explanation == nil else { throw SPFSyntaxError("Modifier exp is there twice", term) }
            explanation = try domain(value, term)
        default:
            guard SPFMacroString(value, in: .modifier) != nil else { throw SPFSyntaxError("Invalid modifier", term) }
        }
    }
}

/// A domain-spec.
private func domain(_ text: ArraySlice<UInt8>, _ term: ArraySlice<UInt8>) throws(SPFSyntaxError) -> SPFMacroString {
    guard let domain = SPFMacroString(text, in: .domain) else { throw SPFSyntaxError("Invalid domain", term) }
    return domain
}

extension SPFDirective {
    /// A qualifier, a mechanism's name, and what belongs to it.
    fileprivate init(_ term: ArraySlice<UInt8>) throws(SPFSyntaxError) {
        var rest = term
        switch rest.first {
        case UInt8(ascii: "-"): result = .fail
        case UInt8(ascii: "~"): result = .softfail
        case UInt8(ascii: "?"): result = .neutral
        default: result = .pass
        }
        if let first = rest.first, "+-?~".utf8.contains(first) { rest.removeFirst() }
        let name = rest.prefix { $0 != UInt8(ascii: ":") && $0 != UInt8(ascii: "/") }
        mechanism = try SPFMechanism(
            String(decoding: name.map { $0.asciiLowercased() }, as: UTF8.self), rest[name.endIndex...], term)
        text = SPFText.printable(term, limit: 255)
    }
}

extension SPFMechanism {
    /// From its name in lower case, and what is behind it: ":" and an argument, a prefix, both or nothing.
    fileprivate init(
        _ name: String, _ behind: ArraySlice<UInt8>, _ term: ArraySlice<UInt8>
    ) throws(SPFSyntaxError) {
        let argument = behind.first == UInt8(ascii: ":") ? behind.dropFirst() : nil
        switch (name, argument) {
        case ("all", nil) where behind.isEmpty: self = .all
        case ("include", let argument?): self = .include(try domain(argument, term))
        case ("exists", let argument?): self = .exists(try domain(argument, term))
        case ("ptr", nil) where behind.isEmpty: self = .ptr(nil)
        case ("ptr", let argument?): self = .ptr(try domain(argument, term))
        case ("a", _):
            let (domain, prefixes) = try Self.target(behind, term)
            self = .a(domain, prefixes)
        case ("mx", _):
            let (domain, prefixes) = try Self.target(behind, term)
            self = .mx(domain, prefixes)
        case ("ip4", let argument?): self = .ip4(try Self.network(argument, isIPv6: false, term))
        case ("ip6", let argument?): self = .ip6(try Self.network(argument, isIPv6: true, term))
        case ("all", _), ("include", _), ("exists", _), ("ptr", _), ("ip4", _), ("ip6", _):
            throw SPFSyntaxError("Invalid mechanism", term)
        default: throw SPFSyntaxError("Unknown mechanism", term)
        }
    }

    /// `[ ":" domain-spec ] [ dual-cidr-length ]`. A domain may have slashes in it: the length is what is at the end.
    private static func target(
        _ behind: ArraySlice<UInt8>, _ term: ArraySlice<UInt8>
    ) throws(SPFSyntaxError) -> (SPFMacroString?, SPFPrefixes) {
        var rest = behind
        var prefixes = SPFPrefixes()
        if let digits = takeDigits(behind: "//", of: &rest) {
            prefixes.ip6 = try length(digits, most: 128, term)
        }
        if let digits = takeDigits(behind: "/", of: &rest) {
            prefixes.ip4 = try length(digits, most: 32, term)
        }
        if rest.isEmpty { return (nil, prefixes) }
        guard rest.popFirst() == UInt8(ascii: ":") else { throw SPFSyntaxError("Invalid mechanism", term) }
        return (try domain(rest, term), prefixes)
    }

    /// Takes slashes and the digits behind them from the end of `text`.
    private static func takeDigits(behind slashes: String, of text: inout ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        let digits = text.suffix(while: \.isASCIIDigit)
        let before = text[..<digits.startIndex]
        guard !digits.isEmpty, before.suffix(slashes.utf8.count).elementsEqual(slashes.utf8) else { return nil }
        text = before.dropLast(slashes.utf8.count)
        return digits
    }

    /// A prefix length: no leading zero (section 5.6 has none), and not longer than an address.
    private static func length(
        _ digits: ArraySlice<UInt8>, most: Int, _ term: ArraySlice<UInt8>
    ) throws(SPFSyntaxError) -> Int {
        guard (1...3).contains(digits.count), digits.count == 1 || digits.first != UInt8(ascii: "0"),
            let length = Int(String(decoding: digits, as: UTF8.self)), length <= most
        else { throw SPFSyntaxError("Invalid prefix length", term) }
        return length
    }

    /// `ip4-network [ ip4-cidr-length ]`, or the same of IPv6.
    private static func network(
        _ argument: ArraySlice<UInt8>, isIPv6: Bool, _ term: ArraySlice<UInt8>
    ) throws(SPFSyntaxError) -> SPFNetwork {
        var rest = argument
        let width = isIPv6 ? 128 : 32
        let digits = takeDigits(behind: "/", of: &rest)
        let bits = try digits.map { (digits) throws(SPFSyntaxError) in try length(digits, most: width, term) } ?? width
        guard rest.count <= 45, rest.contains(UInt8(ascii: ":")) == isIPv6,
            let address = IPAddress(String(decoding: rest, as: UTF8.self))
        else { throw SPFSyntaxError("Invalid address", term) }
        let isMapped = isIPv6 && address.isIPv4
        return SPFNetwork(
            octets: (isMapped ? [UInt8](repeating: 0, count: 10) + [255, 255] : []) + address.octets, bits: bits)
    }
}

extension ArraySlice<UInt8> {
    /// The longest end of it all of whose octets are so.
    fileprivate func suffix(while isSo: (UInt8) -> Bool) -> ArraySlice<UInt8> {
        self[((lastIndex { !isSo($0) }).map { $0 + 1 } ?? startIndex)...]
    }
}
