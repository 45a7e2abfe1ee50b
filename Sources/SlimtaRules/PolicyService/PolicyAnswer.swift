// What a policy server says: the verbs of Postfix's access(5) that mean something to a submission server, and what is to be
// told of an answer. PolicyAnswerParser reads them, PolicyRound puts them together.

package import SlimtaMail

/// What becomes of a question that got no answer: the setting `on_failure` of a service.
package enum PolicyOnFailure: String, CaseIterable, Hashable, Sendable {
    /// As if the service had nothing against it.
    case accept
    /// The client is told to try again.
    case tempfail

    /// The answer in place of the service's.
    package var answer: PolicyAnswer {
        switch self {
        case .accept: PolicyAnswer(.goOn, verb: "on_failure")
        // As Postfix: the client cannot help it, and it passes.
        case .tempfail:
            PolicyAnswer(
                .refuse(451, PolicyAnswer.Text(status: EnhancedStatus(4, 3, 5), "Policy service not available")),
                verb: "on_failure")
        }
    }
}

/// The answer of a policy server: its action.
package struct PolicyAnswer: Hashable, Sendable {
    /// The text behind a verb, with the enhanced status code that may stand before it.
    package struct Text: Hashable, Sendable {
        /// As the server wrote it, whatever its class; nil: none.
        package let status: EnhancedStatus?
        /// Empty: none. May have any character but NUL and LF in it.
        package let text: String

        /// The parts.
        package init(status: EnhancedStatus?, _ text: String) {
            self.status = status
            self.text = text
        }

        /// "5.7.9 no", "no", "".
        init(_ text: some StringProtocol) {
            let text = text.trimmed
            if let word = text.split(separator: " ", maxSplits: 1).first, let status = EnhancedStatus(prefixOf: word) {
                self.init(status: status, String(text.dropFirst(word.count).trimmed))
            } else {
                self.init(status: nil, String(text))
            }
        }
    }

    /// What is to be done.
    package enum Action: Hashable, Sendable {
        /// DUNNO, and what we do not know: whoever is next is asked.
        case goOn
        /// OK: nobody else is asked at this stage.
        case accept
        /// REJECT, DEFER, and replies by their code, 400 to 599.
        case refuse(UInt16, Text)
        /// DEFER_IF_PERMIT: refused for now, unless somebody behind refuses for good.
        case deferIfPermit(Text)
        /// DEFER_IF_REJECT: if somebody behind refuses for good, it is for now.
        case deferIfReject(Text)
        /// PREPEND: a field, "Name: text", not looked at yet.
        case prepend(String)
        /// HOLD: the whole message waits in the queue. The text is for the log.
        case hold(String)
        /// WARN and INFO: the text is for the log.
        case note(String)
    }

    /// What an operator should know of an answer that counts for less than it may be meant to.
    package enum Doubt: Hashable, Sendable {
        /// An action that we do not have: counts as DUNNO.
        case unknownAction
        /// Digits alone: OK to Postfix, and to us.
        case bareNumber
        /// No action at all.
        case empty
    }

    /// What is to be done.
    package let action: Action
    /// The word that the server said, in upper case, cut to 32 octets: "REJECT", "550".
    package let verb: String
    /// nil: the answer is as it should be.
    package let doubt: Doubt?

    /// An answer.
    package init(_ action: Action, verb: String, doubt: Doubt? = nil) {
        self.action = action
        self.verb = verb
        self.doubt = doubt
    }

    /// Reads what is behind `action=`: a verb, whatever its case, then text.
    package init(_ value: String) {
        let value = value.trimmed
        let word = value.prefix { $0 != " " && $0 != "\t" }
        let rest = value.dropFirst(word.count)
        // Not uppercased(): only ASCII's letters have two cases here.
        let verb = String(word).asciiUppercased.cut(toOctets: 32)
        if !word.isEmpty, word.utf8.allSatisfy(\.isASCIIDigit) {
            self = Self.number(verb, word, rest)
            return
        }
        let action: Action? =
            switch verb {
            case "OK", "PERMIT": .accept
            case "DUNNO": .goOn
            case "REJECT": .refuse(554, Text(rest))
            case "DEFER": .refuse(450, Text(rest))
            case "DEFER_IF_PERMIT": .deferIfPermit(Text(rest))
            case "DEFER_IF_REJECT": .deferIfReject(Text(rest))
            case "PREPEND": .prepend(String(rest.trimmed))
            case "HOLD": .hold(String(rest.trimmed))
            case "WARN", "INFO": .note(String(rest.trimmed))
            default: nil
            }
        self.init(action ?? .goOn, verb: verb, doubt: action != nil ? nil : word.isEmpty ? .empty : .unknownAction)
    }

    /// "550 5.1.1 nobody" refuses, "550" alone accepts [Postfix: "a numerical value is OK"], "250 x" means nothing.
    private static func number(_ verb: String, _ word: Substring, _ rest: Substring) -> PolicyAnswer {
        guard !rest.trimmed.isEmpty else { return PolicyAnswer(.accept, verb: verb, doubt: .bareNumber) }
        guard word.utf8.count == 3, let code = UInt16(word), (400...599).contains(code) else {
            return PolicyAnswer(.goOn, verb: verb, doubt: .unknownAction)
        }
        return PolicyAnswer(.refuse(code, Text(rest)), verb: verb)
    }
}

extension StringProtocol {
    /// Without blanks at both ends.
    var trimmed: SubSequence {
        let start = firstIndex { $0 != " " && $0 != "\t" } ?? endIndex
        guard let last = lastIndex(where: { $0 != " " && $0 != "\t" }) else { return self[endIndex...] }
        return self[start...last]
    }
}

extension String {
    /// ASCII letters in upper case, everything else unchanged.
    fileprivate var asciiUppercased: String {
        String(decoding: utf8.map { $0.isASCIILowercase ? $0 & 0xDF : $0 }, as: UTF8.self)
    }
}
