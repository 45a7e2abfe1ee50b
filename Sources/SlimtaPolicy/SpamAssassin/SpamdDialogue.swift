// The SPAMC protocol (SpamAssassin, spamd/PROTOCOL) as values: what spamd is asked, and what its answer says. SpamAssassinPolicy
// has them.

package import NIOCore
internal import SlimtaMail

/// What goes before a message.
enum SpamdQuestion {
    /// The head of a request for a verdict with symbols. The size has to be exact: spamd refuses any other.
    ///
    /// - Parameter login: who has logged in; told only if nobody can take it for more than a name.
    static func head(size: Int, login: String?) -> String {
        var head = "SYMBOLS SPAMC/1.5\r\nContent-length: \(size)\r\n"
        if let login, (1...255).contains(login.utf8.count), login.utf8.allSatisfy(isOfName) {
            head += "User: \(login)\r\n"
        }
        return head + "\r\n"
    }

    private static func isOfName(_ octet: UInt8) -> Bool {
        octet.isASCIILetterOrDigit || "._@+-".utf8.contains(octet)
    }
}

/// What spamd says of a message.
package struct SpamVerdict: Hashable, Sendable {
    /// Whether it is spam by spamd's own threshold.
    package var isSpam: Bool
    /// The sum of its symbols.
    package var score: Double
    /// The rules that it has met.
    package var symbols: [String]

    /// The most octets of an answer.
    package static let limit = 64 * 1024
    /// The most symbols that are kept.
    private static let symbolLimit = 200

    /// Why an answer is none.
    package struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// In words for the log.
        package let description: String
    }

    /// A verdict of these parts.
    package init(isSpam: Bool, score: Double, symbols: [String]) {
        (self.isSpam, self.score, self.symbols) = (isSpam, score, symbols)
    }

    /// Reads the whole answer, up to the end of the connection:
    ///
    ///     SPAMD/1.1 0 EX_OK
    ///     Content-length: 9
    ///     Spam: True ; 1005.2 / 5.0
    ///
    ///     GTUBE,...
    ///
    /// Names of fields are of any case; without a length all that is there is the body. An error is one line.
    package init(_ answer: ByteBuffer) throws(Fault) {
        let text = String(decoding: answer.readableBytesView, as: UTF8.self)
        guard text.utf8.count < Self.limit else { throw Fault(description: "its answer is too long") }
        var lines = text.split(separator: "\r\n", omittingEmptySubsequences: false)[...]
        let words = (lines.popFirst() ?? "").split(separator: " ", maxSplits: 2)
        guard words.count >= 2, words[0].utf8.starts(with: "SPAMD/".utf8), let status = Int(words[1]) else {
            throw Fault(description: text.isEmpty ? "it closed the connection" : "its answer is not SPAMD's")
        }
        guard status == 0 else {
            throw Fault(description: "it says: \(words.dropFirst().joined(separator: " ").visible.cut(toOctets: 200))")
        }
        var (length, spam): (Int?, Substring?) = (nil, nil)
        while let line = lines.popFirst(), !line.isEmpty {
            let sides = line.split(separator: ":", maxSplits: 1)
            guard sides.count == 2 else { throw Fault(description: "its answer has a line that is no field") }
            let value = sides[1].drop { $0 == " " }
            switch String(sides[0]).asciiLowercased() {
            case "content-length":
                guard length == nil, let count = Int(value) else {
                    throw Fault(description: "its answer has no length, or several")
                }
                length = count
            case "spam":
                guard spam == nil else { throw Fault(description: "its answer has several verdicts") }
                spam = value
            default: break
            }
        }
        guard let (isSpam, score) = spam.flatMap(Self.verdict) else {
            throw Fault(description: "its answer has no verdict")
        }
        let body = lines.joined(separator: "\r\n")
        if let length, body.utf8.count != length { throw Fault(description: "its answer is cut off") }
        let symbols = body.split { $0 == "," || $0 == " " || $0.isNewline }.filter { symbol in
            symbol.utf8.count <= 64 && symbol.utf8.allSatisfy { $0.isASCIILetterOrDigit || $0 == UInt8(ascii: "_") }
        }
        self.init(isSpam: isSpam, score: score, symbols: symbols.prefix(Self.symbolLimit).map(String.init))
    }

    /// "True ; 1005.2 / 5.0", or "Yes".
    private static func verdict(_ value: Substring) -> (Bool, Double)? {
        let sides = value.split(separator: ";", maxSplits: 1)
        guard sides.count == 2, let score = sides[1].split(separator: "/").first else { return nil }
        guard let number = Double(score.filter { $0 != " " }), number.isFinite else { return nil }
        switch String(sides[0].filter { $0 != " " }).asciiLowercased() {
        case "true", "yes": return (true, number)
        case "false", "no": return (false, number)
        default: return nil
        }
    }

    /// The fields that python-slimta adds: X-Spam-Status, and of spam its symbols, folded (RFC 5322 section 2.1.1).
    var fields: [String] {
        guard isSpam else { return ["X-Spam-Status: NO\r\n"] }
        guard !symbols.isEmpty else { return ["X-Spam-Status: YES\r\n"] }
        var (field, length) = ("X-Spam-Symbols:", 15)
        for (index, symbol) in symbols.enumerated() {
            let word = index == symbols.count - 1 ? symbol : symbol + ","
            if length + 1 + word.utf8.count > 78 {
                field += "\r\n"
                length = 0
            }
            field += " " + word
            length += 1 + word.utf8.count
        }
        return ["X-Spam-Status: YES\r\n", field + "\r\n"]
    }
}
