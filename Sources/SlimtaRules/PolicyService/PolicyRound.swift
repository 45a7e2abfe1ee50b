// What the policy services of one stage say together: the rules of Postfix's restriction lists, as a value. SlimtaEdge's gate
// asks one service after the other and tells the answers here.

internal import SlimtaMail

/// The services of one stage, asked one after another in the configuration's order.
///
/// - OK and every refusal end the round; all else lets the next service be asked.
/// - DEFER_IF_PERMIT and DEFER_IF_REJECT are remembered to the end of it, the first of each: the first makes 450 of what
///   would be let through, the other one 450 of what would be refused for good. A greylist thus never delays what the next
///   service does not want at all.
/// - A refusal is of the command that was asked about: a recipient that is refused leaves the others alone.
package struct PolicyRound: Hashable, Sendable {
    private let stage: Stage
    private let subject: String?
    private let smtpUTF8: Bool
    private var deferIfPermit: Remembered?
    private var deferIfReject: Remembered?
    private var decider: String?
    private var isOver = false
    private var result = Verdict()

    /// What counts at the end, and who has said it.
    private struct Remembered: Hashable {
        let text: PolicyAnswer.Text
        let service: String
    }

    /// Nothing was answered yet.
    package init(_ facts: Facts, at stage: Stage, in session: PolicySession) {
        self.stage = stage
        subject = Self.subject(facts, stage)
        smtpUTF8 = session.smtpUTF8
    }

    /// What `service` has answered. false: nobody else is to be asked at this stage.
    package mutating func answered(_ answer: PolicyAnswer, by service: String) -> Bool {
        guard !isOver else { return false }
        var note = answer.verb
        switch answer.action {
        case .goOn: break
        case .accept:
            result.decision = .accept
            isOver = true
        case .refuse(let code, let text):
            refuse(code, text)
            decider = service
            isOver = true
        case .deferIfPermit(let text): deferIfPermit = deferIfPermit ?? Remembered(text: text, service: service)
        case .deferIfReject(let text): deferIfReject = deferIfReject ?? Remembered(text: text, service: service)
        case .prepend(let text):
            if let field = PolicyField.field(text, smtpUTF8: smtpUTF8) {
                result.fields.append(field)
            } else {
                note += " ignored, no header field: \(text.visible.cut(toOctets: 100))"
            }
        case .hold(let text):
            result.heldBy = result.heldBy ?? service
            if !text.isEmpty { note += ": \(text.visible.cut(toOctets: 200))" }
        case .note(let text): note += ": \(text.visible.cut(toOctets: 200))"
        }
        // What changes nothing need not be told.
        if answer.action != .goOn, answer.action != .accept {
            result.notes.append(Verdict.Note(rule: service, action: note))
        }
        return !isOver
    }

    /// What they say, when all were asked that are to be.
    package var verdict: Verdict {
        var verdict = result
        if let refusal { verdict.decision = .refuse(refusal.reply) }
        return verdict
    }

    /// The service whose word it is that refuses; nil: none does.
    package var refusedBy: String? { refusal?.service }

    private var refusal: (reply: Reply, service: String)? {
        let overruling: Remembered?
        switch result.decision {
        case .goOn, .accept: overruling = deferIfPermit
        case .refuse(let reply):
            guard reply.isPermanent, let deferIfReject else { return (reply, decider ?? "") }
            overruling = deferIfReject
        }
        return overruling.map { (reply(450, $0.text, Self.unavailable), $0.service) }
    }

    private static let denied = "Access denied"
    private static let unavailable = "Service unavailable"

    private mutating func refuse(_ code: UInt16, _ text: PolicyAnswer.Text) {
        result.decision = .refuse(reply(code, text, Self.denied))
    }

    /// Servers send half sentences, for Postfix puts what they are about before them; so do we.
    private func reply(_ code: UInt16, _ text: PolicyAnswer.Text, _ usual: String) -> Reply {
        let words = text.text.isEmpty ? usual : text.text
        return Reply(code, status(code, text.status), (subject.map { "<\($0)>: \(words)" } ?? words).asReplyText)
    }

    /// The class is the code's (RFC 2034 section 4). Subject 1 is about an address, of which there is one at MAIL and RCPT
    /// alone: elsewhere it becomes x.0.0, as in Postfix.
    private func status(_ code: UInt16, _ status: EnhancedStatus?) -> EnhancedStatus {
        let statusClass = UInt8(code / 100)
        guard let status else { return EnhancedStatus(statusClass, 7, 1) }
        let isAboutAddress = stage == .mail || stage == .rcpt
        return status.subject == 1 && !isAboutAddress
            ? EnhancedStatus(statusClass, 0, 0) : status.with(class: statusClass)
    }

    /// What is refused, for the client to see; nil: all of the message.
    private static func subject(_ facts: Facts, _ stage: Stage) -> String? {
        switch stage {
        case .connect: facts.client.description
        case .ehlo: facts.ehlo ?? ""
        case .mail:
            switch facts.sender {
            case .mailbox(let mailbox): mailbox.text
            case .null, nil: ""
            }
        case .rcpt: facts.recipient?.text ?? ""
        case .starttls, .auth, .data, .message: nil
        }
    }
}

/// The fields that services put on top of messages.
enum PolicyField {
    /// The whole field of "Name: text", with CRLF, folded at blanks (RFC 5322 section 2.2.3) so that lines have at most 78
    /// octets where they can. nil: it is no field, or one that this message cannot have: octets above 127 are for messages
    /// with SMTPUTF8 (RFC 6532), and no line may have more than 998.
    static func field(_ text: String, smtpUTF8: Bool) -> String? {
        guard let colon = text.firstIndex(of: ":") else { return nil }
        let name = text[..<colon]
        let value = text[text.index(after: colon)...].trimmed
        guard (1...76).contains(name.utf8.count), name.utf8.allSatisfy({ (33...126).contains($0) }), !value.isEmpty,
            value.unicodeScalars.allSatisfy({ $0 == "\t" || !$0.endsLineOrSteers }), smtpUTF8 || value.isASCII
        else { return nil }
        var lines = ["\(name):"]
        // Blanks are kept: a line is broken before one, which then begins the next line.
        var rest = (" " + value)[...]
        while !rest.isEmpty {
            let blanks = rest.prefix { $0 == " " || $0 == "\t" }
            let word = rest.dropFirst(blanks.count).prefix { $0 != " " && $0 != "\t" }
            rest = rest.dropFirst(blanks.count + word.count)
            let last = lines[lines.count - 1]
            // Not behind the name: a first line without a word is not to be read everywhere.
            let isName = lines.count == 1 && last.utf8.count == name.utf8.count + 1
            if !isName, last.utf8.count + blanks.utf8.count + word.utf8.count > 78 {
                lines.append("\(blanks)\(word)")
            } else {
                lines[lines.count - 1] += "\(blanks)\(word)"
            }
        }
        guard lines.allSatisfy({ $0.utf8.count <= 998 }) else { return nil }
        return lines.joined(separator: "\r\n") + "\r\n"
    }
}

extension String {
    /// Printable ASCII that has room in one line of a reply, which is 512 octets with its codes (RFC 5321 section
    /// 4.5.3.1.5): all else is shown as its number.
    fileprivate var asReplyText: String {
        let text = unicodeScalars.reduce(into: "") { text, scalar in
            text +=
                (0x20...0x7E).contains(scalar.value)
                ? String(scalar) : "\\u{\(String(hexadecimal: scalar.value, digits: 4))}"
        }
        return text.cut(toOctets: 490)
    }
}
