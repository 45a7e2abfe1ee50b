// What a refusal for now is about: us, our pace, or this recipient. One table over code, enhanced code and, as a hint, the
// text; SiteMachine acts upon it.

import SlimtaMail

/// Why a site says "not now".
enum ReplyClass: Hashable, Sendable, CaseIterable {
    /// Too many connections at a time.
    case connections
    /// Too many messages in a time.
    case rate
    /// Whoever is new is to come back.
    case greylist
    /// No more recipients in this transaction. No refusal: the others go in the next one.
    case recipients
    /// No more messages in this session.
    case messages
    /// All else: of this message or mailbox, which has its own retries.
    case own

    /// Where it was said.
    enum Stage: Hashable, Sendable, CaseIterable {
        /// Instead of a greeting, or in reply to EHLO.
        case opening
        /// In reply to MAIL or RCPT, or to the content.
        case message
    }

    /// What else there is to know of it.
    struct Context: Hashable, Sendable {
        var stage = Stage.message
        /// Whether other sessions with the site are open.
        var othersAreOpen = false
        /// Whether recipients were accepted in the same transaction.
        var someAreAccepted = false
        /// Whether the site is known to greylist, and sees this sender and recipient for the first time.
        var isFirstForGreylister = false
    }

    /// Classifies a reply of 4xx; any other is ``own``.
    init(_ reply: Reply, _ context: Context) {
        let text = reply.text.asciiLowercased()
        func says(_ words: [String]) -> Bool { words.contains { text.contains($0) } }
        let status = reply.status.map { [$0.subject, $0.detail] }
        func isOne(of statuses: [[UInt16]]) -> Bool { status.map { statuses.contains($0) } ?? true }
        guard reply.isTemporary else {
            self = .own
            return
        }
        self =
            if reply.code == 421, context.stage == .opening, context.othersAreOpen {
                .connections
            } else if reply.code == 432, status == [3, 2] {
                .connections
            } else if reply.code == 421 || status == [7, 0], says(Self.connectionWords) {
                .connections
            } else if says(Self.messageWords) {
                .messages
            } else if reply.code == 452, context.someAreAccepted, isOne(of: [[5, 3]]) || says(["too many recipients"]) {
                .recipients
            } else if [450, 451].contains(reply.code), isOne(of: [[2, 0], [7, 1]]), says(Self.greylistWords) {
                .greylist
            } else if Self.rateCodes.contains(reply.code), status == [7, 28] {
                .rate
            } else if Self.rateCodes.contains(reply.code), isOne(of: Self.rateStatuses),
                says(Self.rateWords) || Self.namesRate(text) || Self.hasBracketCode(text)
            {
                .rate
            } else if [450, 451].contains(reply.code), isOne(of: [[2, 0], [7, 1]]),
                context.isFirstForGreylister || Self.namesWait(text)
            {
                .greylist
            } else {
                .own
            }
    }

    private static let connectionWords = ["too many connections", "too many concurrent", "concurrent connections"]
    private static let messageWords = [
        "too many messages in this session", "too many messages on this connection", "messages per connection",
        "maximum messages per", "max messages per",
    ]
    private static let greylistWords = ["greylist", "graylist", "grey list", "gray list"]
    private static let rateWords = ["limit", "exceed", "throttl", "unusual", "slow down", "temporarily deferred"]
    private static let rateCodes: Set<UInt16> = [421, 450, 451, 452]
    private static let rateStatuses: [[UInt16]] = [[7, 0], [7, 1], [7, 28], [4, 5], [5, 3]]

    /// Whether a word begins with "rate": "corporate" does not.
    private static func namesRate(_ text: String) -> Bool {
        text.utf8.split { !$0.isASCIILowercase }.contains { $0.starts(with: "rate".utf8) }
    }

    /// Whether a code of the provider's own stands in brackets, such as "[TSS04]": two or more letters, then digits.
    private static func hasBracketCode(_ text: String) -> Bool {
        text.utf8.split(separator: UInt8(ascii: "[")).dropFirst(text.utf8.first == UInt8(ascii: "[") ? 0 : 1)
            .contains { part in
                guard let end = part.firstIndex(of: UInt8(ascii: "]")) else { return false }
                let code = part[..<end]
                let digits = code.drop { $0.isASCIILowercase }
                return (2...4).contains(code.count - digits.count) && (1...4).contains(digits.count)
                    && digits.allSatisfy(\.isASCIIDigit)
            }
    }

    /// "try again in 300 seconds"
    private static func namesWait(_ text: String) -> Bool {
        let words = text.split(separator: " ")
        return words.indices.dropLast(3).contains { place in
            words[place] == "try" && words[place + 1] == "again" && words[place + 2] == "in"
                && words[place + 3].utf8.first?.isASCIIDigit == true
        }
    }
}

extension Reply {
    /// The text with every run of digits as one sign: what a site says to many recipients in the same words.
    var wording: String {
        var out: [UInt8] = []
        for octet in text.utf8.prefix(200) {
            if !octet.isASCIIDigit {
                out.append(octet)
            } else if out.last != UInt8(ascii: "#") {
                out.append(UInt8(ascii: "#"))
            }
        }
        return String(decoding: out, as: UTF8.self)
    }
}
