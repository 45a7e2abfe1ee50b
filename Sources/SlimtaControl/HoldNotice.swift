// What the operator is told by mail when the breaker holds a login: which one, why, what was counted, and what to type next. A
// value; Control puts it into the queue.

import NIOCore
import SlimtaMail
import SlimtaRules

/// A message about a login that is held.
struct HoldNotice {
    /// What is held of the login in the queue.
    struct Held {
        /// Recipients of the envelopes, by their domain.
        private var domains: [String: Int] = [:]
        private(set) var messages = 0

        /// One of its envelopes.
        mutating func add(_ envelope: Envelope) {
            messages += 1
            for recipient in envelope.recipients { domains[recipient.foldedDomain, default: 0] += 1 }
        }

        /// The domains with most of the recipients.
        func top(_ count: Int) -> [(domain: String, recipients: Int)] {
            let sorted = domains.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            return sorted.prefix(count).map { ($0.key, $0.value) }
        }
    }

    private let facts: QuotaFacts
    private let held: Held
    private let action: QuotaRules.Action
    private let hostname: String

    /// Of a login that is held, and what of it is in the queue. `hostname` is our name.
    init(_ facts: QuotaFacts, _ held: Held, _ action: QuotaRules.Action, hostname: String) {
        self.facts = facts
        self.held = held
        self.action = action
        self.hostname = hostname
    }

    private var login: String { facts.subject.description.visible }

    /// From the null reverse-path: no notice is ever made about it. It has come in by no edge, so no rule is asked, and it
    /// counts for nobody.
    func envelope(_ id: QueueID, to address: Mailbox, at now: Timestamp) -> Envelope {
        Envelope(
            id: id, sender: nil, recipients: [address], received: now,
            body: address.needsSMTPUTF8 ? .eightBitMIME : .sevenBit, smtpUTF8: address.needsSMTPUTF8,
            client: ClientInfo(address: "", name: hostname, protocolWord: "LOCAL"))
    }

    /// Its content.
    func message(_ id: QueueID, to address: Mailbox, at now: Timestamp) -> Message {
        let sender = Mailbox(localPart: "MAILER-DAEMON", domain: hostname)
        var draft = MailDraft(from: .init(name: "Mail Delivery System", sender))
        draft.to = [.init(address)]
        draft.subject = "Login \(login) is held"
        draft.text = text(now)
        // RFC 3834 section 5.1: nobody has asked for it.
        draft.fields = [.init("Auto-Submitted", "auto-generated")]
        let composed = ComposedMessage(
            draft,
            .init(
                hostname: hostname, date: now, zoneOffset: now.localOffset, id: id,
                boundary: (.random(in: 0 ... .max), .random(in: 0 ... .max))))
        var head = ByteBuffer()
        for var piece in composed { head.writeBuffer(&piece) }
        return Message(head: head)
    }

    private func text(_ now: Timestamp) -> String {
        let zone = now.localOffset
        var lines = ["This is the mail system at \(hostname).", ""]
        lines.append("The login \(login) is held since \((facts.hold?.since ?? now).mailDate(offset: zone)):")
        lines += ["", "    \(facts.hold?.reason.visible ?? "")", ""]
        lines.append("It suddenly sends otherwise than it did: most likely somebody else has its password.")
        switch action {
        case .hold: lines.append("What it sends is accepted and held, and nothing of it is delivered.")
        case .refuse: lines.append("What it sends is refused with 450 4.7.1.")
        }
        lines += ["", "    within an hour:  \(words(facts.hour))", "    within a day:    \(words(facts.day))"]
        lines.append("    last recipients: \(facts.refused.count) of \(facts.refused.of) were refused")
        lines.append("    held by now:     \(counted(held.messages, "message")) in the queue")
        let domains = held.top(5).map { "\($0.domain.visible) (\($0.recipients))" }
        if !domains.isEmpty { lines.append("    most of it is for \(domains.joined(separator: ", "))") }
        lines += ["", "To see more of it:", ""]
        lines += commands("login show \(argument)", "queue list --login \(argument) --state held")
        lines += ["", "If it was the login's owner, this lets the mail go:", ""]
        lines += commands("login release \(argument)")
        lines += ["", "If not, shut the login or give it another password first. Then give the held mail up, of which"]
        lines += ["its senders are told, or take it out without a word, and end the hold:", ""]
        lines += commands(
            "login bounce \(argument)", "queue remove --login \(argument) --reason \(Quotas.heldReason)",
            "login release \(argument)")
        return lines.joined(separator: "\n") + "\n"
    }

    private func commands(_ commands: String...) -> [String] { commands.map { "    slimtad \($0)" } }

    private func words(_ amounts: QuotaAmounts) -> String {
        QuotaCounter.allCases.map { "\(amounts[$0]) \($0.words)" }.joined(separator: ", ")
    }

    private func counted(_ count: Int, _ word: String) -> String { "\(count) \(word)\(count == 1 ? "" : "s")" }

    /// The login as a shell takes it for one word.
    private var argument: String {
        let isPlain = login.utf8.allSatisfy { $0.isASCIILetterOrDigit || "@._+=-".utf8.contains($0) }
        return isPlain ? login : "'\(login.replacing("'", with: "'\\''"))'"
    }
}
