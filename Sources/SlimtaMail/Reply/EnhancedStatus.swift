// Enhanced status codes (RFC 3463): part of every Reply, and the Status of a bounce.

/// An enhanced mail system status code (RFC 3463 section 2), such as 5.1.1.
package struct EnhancedStatus: Hashable, Sendable, CustomStringConvertible {
    /// 2 success, 4 temporary failure, 5 permanent failure.
    package let statusClass: UInt8
    /// What it is about: 1 addressing, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 policy.
    package let subject: UInt16
    /// The detail within the subject.
    package let detail: UInt16

    /// `EnhancedStatus(5, 1, 1)` is 5.1.1. The numbers are not checked: those of peers come by ``init(prefixOf:)``.
    package init(_ statusClass: UInt8, _ subject: UInt16, _ detail: UInt16) {
        self.statusClass = statusClass
        self.subject = subject
        self.detail = detail
    }

    /// Parses the code at the start of `text` ("5.1.1" or "5.1.1 text"), nil if there is none.
    ///
    /// The class has one digit, subject and detail have one to three without leading zeros (RFC 3463 section 2).
    package init?(prefixOf text: some StringProtocol) {
        let word = text.utf8.prefix { $0 != UInt8(ascii: " ") }
        var parts: [UInt16] = []
        var digits = 0
        var value: UInt16 = 0
        for octet in word {
            switch octet {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                digits += 1
                guard digits <= 3, digits == 1 || value > 0 else { return nil }
                value = value * 10 + UInt16(octet - UInt8(ascii: "0"))
            case UInt8(ascii: "."):
                guard digits > 0, parts.count < 2 else { return nil }
                parts.append(value)
                (digits, value) = (0, 0)
            default: return nil
            }
        }
        guard digits > 0, parts.count == 2, [2, 4, 5].contains(parts[0]) else { return nil }
        self.init(UInt8(parts[0]), parts[1], value)
    }

    /// "5.1.1", as in a reply.
    package var description: String { "\(statusClass).\(subject).\(detail)" }

    /// The same subject and detail in another class: what a temporary failure becomes when time is up.
    package func with(class statusClass: UInt8) -> EnhancedStatus { EnhancedStatus(statusClass, subject, detail) }
}
