// What helpers, commands and spamd say, and what is said to them: requests and answers of pipes, answers of spamd, and
// addresses that are put into command lines and forwarded.

import NIOCore
import SlimtaMail

@testable import SlimtaPAM
@testable import SlimtaPipe
@testable import SlimtaPolicy
@testable import SlimtaRules

extension FuzzTarget {
    /// A request is read as it was written or not at all, and no beginning of it is another one; answers likewise.
    static let pipe = FuzzTarget(name: "pipe", maximumLength: 1000) { octets in
        switch PipeRequest.read(octets) {
        case .more: break
        case .malformed: try hold(octets.count >= 4, "nothing is malformed")
        case .request(let request):
            try same(request.octets, octets, "a request")
            for count in octets.indices { try same(PipeRequest.read(Array(octets[..<count])), .more, "a part of it") }
        }
        if let answer = PipeAnswer(octets) { try same(PipeAnswer(answer.octets), answer, "an answer") }
        var run = PipeRun(timeout: 1, 0)
        run.wrote(octets)
        // An argument is a word, whatever is put in; and no address is an option.
        guard let text = String(validating: octets, as: UTF8.self), let recipient = Mailbox(parsing: text) else {
            return
        }
        let values = CommandValues(sender: nil, recipient: recipient, queueID: QueueID(high: 0, low: 0))
        let template = try CommandTemplate(["/x", "{recipient}", "{user}", "{extension}", "{domain}", "<{user}>"])
        guard let words = try? template.filled(values) else {
            return try hold(recipient.unquotedLocalPart.contains("-"), "refused without a hyphen")
        }
        try same(words.count, template.words.count, "words")
        try hold(words.allSatisfy { $0.utf8.first != UInt8(ascii: "-") }, "an option")
    }

    /// As for pipes; and no name is a path.
    static let pam = FuzzTarget(name: "pam", maximumLength: 3000) { octets in
        switch PAMQuestion.read(octets) {
        case .more: break
        case .malformed: try hold(octets.count >= 4, "nothing is malformed")
        case .question(let question):
            try same(question.octets, octets, "a question")
            try hold(!question.login.utf8.contains(UInt8(ascii: "/")), "a path")
            try hold(!question.password.contains(0), "a password that ends early")
            for count in octets.indices { try same(PAMQuestion.read(Array(octets[..<count])), .more, "a part of it") }
        }
        if let answer = PAMAnswer(octets) { try same(PAMAnswer(answer.octets), answer, "an answer") }
    }

    /// Whatever spamd says, a message gets whole fields of one line each, or none.
    static let spamd = FuzzTarget(name: "spamd", maximumLength: 1000) { octets in
        guard let verdict = try? SpamVerdict(ByteBuffer(bytes: octets)) else { return }
        try hold(verdict.score.isFinite, "a score of \(verdict.score)")
        for field in verdict.fields {
            let block = HeaderBlock(scanning: ByteBuffer(string: field + "\r\n"))
            try hold(block.fields.count == 1 && block.isWellFormed, "no field: \(field.visible)")
            try hold(field.split(separator: "\r\n").allSatisfy { $0.utf8.count <= 78 }, "a line that is too long")
        }
    }

    /// Forwarding comes to an end, gives each address once, and what it gives is an address.
    static let forward = FuzzTarget(name: "forward", maximumLength: 300) { octets in
        let parts = octets.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
        guard let first = parts.first, let recipient = Mailbox(parsing: first) else { return }
        var rules: [ForwardRule] = []
        for index in stride(from: 1, to: parts.count - 1, by: 2) {
            if let rule = try? ForwardRule(parts[index], to: [parts[index + 1]]) { rules.append(rule) }
            if let rule = try? ForwardRule(parts[index], reject: parts[index + 1]) { rules.append(rule) }
        }
        switch ForwardRules(rules).result(for: recipient) {
        case .unchanged: break
        case .refused(let reply, _): try hold((400...599).contains(reply.code), "code \(reply.code)")
        case .to(let mailboxes):
            try same(Set(mailboxes.map { $0.text.foldedAsAddress() }).count, mailboxes.count, "addresses")
            for mailbox in mailboxes {
                try hold(Mailbox(parsing: mailbox.text) != nil, "no address: \(mailbox.text.visible)")
            }
        }
    }
}
