// Reads policies of MTA-STS as a domain's web server gives them (RFC 8461 section 3.2). Strict where a policy says what it
// demands: another reading would send mail elsewhere. Called by STSFetch for what was fetched, by STSCachedPolicy for what was
// kept.

import SlimtaMail

/// Why octets are no policy.
enum STSPolicyFault: Error, Hashable, Sendable, CustomStringConvertible {
    case tooLong
    /// Not UTF-8.
    case encoding
    /// A line without a colon, by its number.
    case line(Int)
    case missing(String)
    /// A key whose value it cannot be.
    case value(String)

    var description: String {
        switch self {
        case .tooLong: "it has more than \(STSPolicy.longest) octets"
        case .encoding: "it is not UTF-8"
        case .line(let number): "line \(number) is not a key and a value"
        case .missing(let key): "it has no \(key)"
        case .value(let key): "its \(key) cannot be understood"
        }
    }
}

extension STSPolicy {
    /// Reads a whole policy. Lines end with LF, with or without CR; the keys may come in any order; of keys but `mx` the first
    /// counts; keys that nobody knows are skipped.
    init(parsing octets: [UInt8]) throws(STSPolicyFault) {
        guard octets.count <= Self.longest else { throw .tooLong }
        guard let text = String(validating: octets.span) else { throw .encoding }
        var values: [String: String] = [:]
        var patterns: [STSPattern] = []
        var lines: [String] = []
        // By octets: for a Character CR and LF are one.
        for (number, line) in text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated() {
            let line = line.last == 0x0D ? line.dropLast() : line
            let trimmed = Self.trimmed(line)
            if trimmed.isEmpty { continue }
            guard let colon = trimmed.firstIndex(of: UInt8(ascii: ":")) else { throw .line(number + 1) }
            let key = String(Substring(trimmed[..<colon]))
            let value = String(Substring(Self.trimmed(trimmed[trimmed.index(after: colon)...])))
            lines.append(String(Substring(line)))
            if key == "mx" {
                guard let pattern = STSPattern(value) else { throw .value(key) }
                patterns.append(pattern)
            } else if values[key] == nil {
                values[key] = value
            }
        }
        guard let version = values["version"] else { throw .missing("version") }
        guard version == "STSv1" else { throw .value("version") }
        guard let modeText = values["mode"] else { throw .missing("mode") }
        guard let mode = Mode(rawValue: modeText) else { throw .value("mode") }
        guard let age = values["max_age"] else { throw .missing("max_age") }
        // RFC 8461 section 3.2: 1*10(DIGIT), up to a year.
        guard (1...10).contains(age.utf8.count), age.utf8.allSatisfy(\.isASCIIDigit), let maxAge = Int(age),
            maxAge <= Self.longestAge
        else { throw .value("max_age") }
        guard !patterns.isEmpty || mode == .none else { throw .missing("mx") }
        (self.mode, self.patterns, self.maxAge, self.lines) = (mode, patterns, maxAge, lines)
    }

    private static func trimmed(_ octets: Substring.UTF8View) -> Substring.UTF8View {
        var octets = octets.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
        while let last = octets.last, last == UInt8(ascii: " ") || last == UInt8(ascii: "\t") { octets.removeLast() }
        return octets
    }
}
