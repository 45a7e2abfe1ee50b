// Replies that a milter words itself (reference/content.md section 2.4, y): they go to a client, so nothing of them is
// believed. What is not a reply becomes 451.

internal import SlimtaMail

extension Reply {
    /// Most lines of a reply, as in libmilter, and most octets of one without its code (RFC 5321 section 4.5.3.1.5: 512).
    private static let mostMilterLines = 32
    private static let longestMilterLine = 480

    /// The reply that `octets` are: `ddd x.y.z text`, lines joined by CRLF, with `-` behind the code of all but the last;
    /// `%%` stands for `%`, since milters write formats. Nil if it is none: not 4xx or 5xx, several codes, an enhanced code of
    /// another class, a CR or LF that ends no line.
    init?(milterText octets: [UInt8]) {
        guard let lines = Self.milterLines(octets), lines.count <= Self.mostMilterLines else { return nil }
        var (code, status): (UInt16?, EnhancedStatus?) = (nil, nil)
        var texts: [String] = []
        for (index, line) in lines.enumerated() {
            let digits = line.prefix(3)
            guard digits.count == 3, digits.allSatisfy(\.isASCIIDigit),
                let own = UInt16(String(decoding: digits, as: UTF8.self)), [4, 5].contains(own / 100),
                code == nil || code == own
            else { return nil }
            code = own
            let isLast = index == lines.count - 1
            // A last line may be no more than its code.
            let follows = line.dropFirst(3).first
            guard follows == UInt8(ascii: isLast ? " " : "-") || (isLast && follows == nil) else { return nil }
            var text = String(decoding: line.dropFirst(4), as: UTF8.self)
            if let found = EnhancedStatus(prefixOf: text) {
                guard UInt16(found.statusClass) == own / 100 else { return nil }
                if status == nil { status = found }
                text = String(decoding: text.utf8.drop { $0 != UInt8(ascii: " ") }.dropFirst(), as: UTF8.self)
            }
            texts.append(text.replacing("%%", with: "%").visibleASCII.cut(toOctets: Self.longestMilterLine))
        }
        guard let code else { return nil }
        self.init(code, status ?? EnhancedStatus(UInt8(code / 100), 7, 1), lines: texts)
    }

    /// The lines between CRLFs; nil if there is another CR or LF. One CRLF at the end is the last line's.
    private static func milterLines(_ octets: [UInt8]) -> [ArraySlice<UInt8>]? {
        var lines: [ArraySlice<UInt8>] = []
        var start = 0
        for (index, octet) in octets.enumerated() where octet == UInt8(ascii: "\n") {
            guard index > start, octets[index - 1] == UInt8(ascii: "\r") else { return nil }
            lines.append(octets[start..<index - 1])
            start = index + 1
        }
        if start < octets.count { lines.append(octets[start...]) }
        return lines.contains { $0.contains(UInt8(ascii: "\r")) } ? nil : lines
    }

    /// The replies that go with a milter's letters, and with a milter that failed. Their texts are Postfix's.
    static let milterRejects = Reply(550, EnhancedStatus(5, 7, 1), "Command rejected")
    static let milterIsTemporary = Reply(451, EnhancedStatus(4, 7, 1), "Service unavailable - try again later")
    static let milterShutsDown = Reply(421, EnhancedStatus(4, 7, 0), "Server closing connection")
    static let fieldIsTooLong = Reply(552, EnhancedStatus(5, 3, 4), "A header field is longer than a filter takes")
}
