// What a rule does where its conditions hold.

package import SlimtaMail

/// The action of a rule.
package enum Action: Hashable, Sendable {
    /// No further rule of this stage, nor what is behind rules there.
    case accept
    /// The client is refused with this.
    case reply(ReplyTemplate)
    /// The client is told 421 and the session ends.
    case close(ReplyTemplate)
    /// The message gets a field.
    case addField(FieldTemplate)
    /// The message waits in the queue until an operator releases it.
    case hold
    /// The reply waits.
    case delay(Duration)
    /// Nothing but a line in the log: to try a rule before it bites.
    case log

    /// Whether no rule behind it is looked at.
    var ends: Bool {
        switch self {
        case .accept, .reply, .close: true
        case .addField, .hold, .delay, .log: false
        }
    }

    /// Why it cannot stand at `stage`; nil: it can.
    package func problem(at stage: Stage) -> RuleError? {
        switch self {
        case .addField, .hold:
            if stage == .starttls {
                // RFC 3207 section 4.2: what was before TLS is forgotten with it.
                RuleError("\(word) at starttls, behind which it would be forgotten", "it at any other stage")
            } else if template?.placeholders.contains(.recipient) == true {
                // One message goes to all: who is a blind copy is nobody else's business (RFC 5321 section 7.2).
                RuleError("{recipient} in a field, which shows recipients to each other", "it in replies")
            } else {
                template?.problem(at: stage)
            }
        case .reply(let template), .close(let template): template.text.problem(at: stage)
        case .accept, .delay, .log: nil
        }
    }

    var template: Template? {
        switch self {
        case .reply(let reply), .close(let reply): reply.text
        case .addField(let field): field.value
        case .accept, .hold, .delay, .log: nil
        }
    }

    /// For logs: "accept", "reply", "close", "add_field", "hold", "delay", "log".
    package var word: String {
        switch self {
        case .accept: "accept"
        case .reply: "reply"
        case .close: "close"
        case .addField: "add_field"
        case .hold: "hold"
        case .delay: "delay"
        case .log: "log"
        }
    }
}

extension Template {
    /// Why it cannot be filled at `stage`; nil: it can.
    package func problem(at stage: Stage) -> RuleError? {
        guard
            let early = Placeholder.allCases.first(where: {
                placeholders.contains($0) && !stage.isAtOrBehind($0.firstStage)
            })
        else { return nil }
        return RuleError(
            "{\(early.rawValue)} at \(stage.rawValue), where it is not known", "it from \(early.firstStage.rawValue) on"
        )
    }
}

/// A reply with placeholders.
package struct ReplyTemplate: Hashable, Sendable, CustomStringConvertible {
    /// 400 to 599.
    package let code: UInt16
    /// Of the code's class.
    package let status: EnhancedStatus
    /// What is behind them.
    package let text: Template

    /// "550 5.7.1 no mail from {client}": the code, then, if it is there, an enhanced one of the same class (else x.7.1),
    /// then the text.
    package init(_ text: String) throws(RuleError) {
        let words = text.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
        guard words.count == 2, words[0].utf8.count == 3, let code = UInt16(words[0]) else {
            throw RuleError(
                "\"\(text)\"", "a code from 400 to 599 and a text, such as \"550 5.7.1 no mail from {client}\"")
        }
        try self.init(code, String(words[1]))
    }

    /// The same with the code apart, as `[spf]` has it.
    package init(_ code: UInt16, _ message: String) throws(RuleError) {
        guard (400...599).contains(code) else { throw RuleError("code \(code)", "a code from 400 to 599") }
        self.code = code
        var rest = String(message.drop { $0 == " " })
        if let first = message.split(separator: " ").first, let status = EnhancedStatus(prefixOf: first) {
            guard status.statusClass == code / 100 else {
                throw RuleError("\(status) behind \(code)", "an enhanced code that begins with \(code / 100)")
            }
            self.status = status
            rest = String(rest.dropFirst(first.count).drop { $0 == " " })
        } else {
            status = EnhancedStatus(UInt8(code / 100), 7, 1)
        }
        guard !rest.isEmpty, rest.utf8.count <= 400 else {
            throw RuleError(rest.isEmpty ? "no text" : "a text of \(rest.utf8.count) octets", "1 to 400 octets of text")
        }
        text = try Template(rest)
    }

    /// What the client is told where a rule closes and says nothing else (RFC 5321 section 4.2.2).
    package static let closing = ReplyTemplate(
        421, .init(4, 7, 0), fixed: "Service not available, closing transmission channel")

    private init(_ code: UInt16, _ status: EnhancedStatus, fixed text: String) {
        (self.code, self.status, self.text) = (code, status, Template(fixed: text))
    }

    /// The reply with everything in its place.
    func reply(_ value: (Template.Placeholder) -> String) -> Reply { Reply(code, status, lines: text.lines(value)) }

    /// As it is written: "550 5.7.1 no mail from {client}".
    package var description: String { "\(code) \(status) \(text)" }
}

/// A field with placeholders.
package struct FieldTemplate: Hashable, Sendable, CustomStringConvertible {
    /// As it is written, without ":".
    package let name: String
    /// What is behind the colon.
    package let value: Template

    /// "X-Name: text" (RFC 5322 section 2.2).
    package init(_ text: String) throws(RuleError) {
        let allowed = "a field such as \"X-Gate: {rule}\""
        guard let colon = text.firstIndex(of: ":") else {
            throw RuleError("\"\(text.visible.cut(toOctets: 64))\"", allowed)
        }
        let name = text[..<colon]
        guard (1...76).contains(name.utf8.count), name.utf8.allSatisfy({ (33...126).contains($0) }) else {
            throw RuleError("the name \"\(name.visible.cut(toOctets: 64))\"", allowed)
        }
        guard !Self.single.contains(String(name).asciiLowercased()) else {
            throw RuleError(
                "the field \(name), of which a message has its own and no second one", "another one, such as X-\(name)")
        }
        let value = text[text.index(after: colon)...].drop { $0 == " " }
        guard (1...500).contains(value.utf8.count) else {
            throw RuleError("a value of \(value.utf8.count) octets", "1 to 500")
        }
        self.name = String(name)
        self.value = try Template(String(value))
    }

    /// Fields that stand in a message once at most (RFC 5322 section 3.6, RFC 2045 section 3), or say who has handled it.
    private static let single: Set<String> = [
        "from", "sender", "reply-to", "to", "cc", "bcc", "message-id", "in-reply-to", "references", "subject", "date",
        "mime-version", "content-type", "content-transfer-encoding", "content-id", "content-description", "received",
        "return-path", "dkim-signature",
    ]

    /// The whole field with CRLF, folded at blanks where a line would have more than 78 octets; none has more than 998 (RFC
    /// 5322 section 2.1.1).
    package func field(_ value: (Template.Placeholder) -> String) -> String {
        // The blank before a line is one octet of it.
        let lines = self.value.filled(value).wrapped(within: 77, wordsOf: 900, used: name.utf8.count + 1)
        // Nothing but a name on a line is allowed, nothing but blanks is not (section 3.2.2).
        let first = lines[0].isEmpty ? "" : " " + lines[0]
        return "\(name):" + ([first] + lines.dropFirst().map { " " + $0 }).joined(separator: "\r\n") + "\r\n"
    }

    /// As it is written.
    package var description: String { "\(name): \(value)" }
}
