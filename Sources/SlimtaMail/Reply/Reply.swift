// An SMTP reply: what an edge says to a client, and what a peer said to the relay. A value, never an error.

/// An SMTP reply (RFC 5321 section 4.2): a code, an enhanced status code where there is one, lines of text.
package struct Reply: Hashable, Sendable, CustomStringConvertible {
    /// Three digits, 200 to 599.
    package let code: UInt16
    /// RFC 2034 section 4, RFC 3463 section 2; nil for greetings, EHLO and 3xx replies.
    package let status: EnhancedStatus?
    /// The text without code and status; at least one line, none contains CR or LF.
    package let lines: [String]

    /// A reply of one line, which must not have CR or LF in it.
    package init(_ code: UInt16, _ status: EnhancedStatus?, _ text: String) {
        self.init(code, status, lines: [text])
    }

    /// A reply of these lines; of one empty line if there are none.
    package init(_ code: UInt16, _ status: EnhancedStatus?, lines: [String]) {
        self.code = code
        self.status = status
        self.lines = lines.isEmpty ? [""] : lines
    }

    /// The lines joined with blanks: for logs and bounces.
    package var text: String { lines.count == 1 ? lines[0] : lines.joined(separator: " ") }

    /// Whether the code is 2xx.
    package var isPositive: Bool { code / 100 == 2 }
    /// Whether the code is 4xx.
    package var isTemporary: Bool { code / 100 == 4 }
    /// Whether the code is 5xx.
    package var isPermanent: Bool { code / 100 == 5 }

    /// The enhanced status, or X.0.0 of the reply's class where the peer gave none (RFC 3463 section 2).
    package var effectiveStatus: EnhancedStatus { status ?? EnhancedStatus(UInt8(code / 100), 0, 0) }

    /// One line, as it would be on the wire if it had one.
    package var description: String {
        if let status { "\(code) \(status) \(text)" } else { "\(code) \(text)" }
    }
}
