// Answers of policy servers: whoever runs one, or has taken its port, says what it likes.

import NIOCore
import SlimtaMail

@testable import SlimtaRules

extension FuzzTarget {
    /// Answers are the same however they come, nothing is kept without bound, and whatever they say, a client gets one line
    /// of printable ASCII and a message whole fields.
    static let policy = FuzzTarget(name: "policy", maximumLength: 1000) { octets in
        let read = try anyCut(octets) { chunks in
            var (read, parser) = (ReadAnswers(), PolicyAnswerParser())
            for var chunk in chunks {
                while chunk.readableBytes > 0, read.fault == nil {
                    switch parser.read(&chunk) {
                    case .more: break
                    case .answer(let answer): read.answers.append(answer)
                    case .malformed(let fault): read.fault = fault
                    }
                }
            }
            read.hasSeenCRLF = parser.hasSeenCRLF
            return read
        }
        if let fault = read.fault { try hold(fault.description.utf8.count < 200, "a fault of \(fault)") }
        // And what is behind "action=" without the rest.
        let answers = read.answers + [PolicyAnswer(String(decoding: octets, as: UTF8.self))]
        var facts = Facts(client: .unix, edge: "e", now: LocalTime(.now(), offset: 0))
        facts.recipient = Mailbox(localPart: "one", domain: "mx.test")
        facts.ehlo = String(decoding: octets, as: UTF8.self)
        facts.login = facts.ehlo
        for stage in PolicyRequest.stages {
            var session = PolicySession(id: 1, server: .unix)
            session.smtpUTF8 = stage == .mail
            var round = PolicyRound(facts, at: stage, in: session)
            for answer in answers where !round.answered(answer, by: "s") { break }
            try check(round.verdict)
            guard let request = PolicyRequest(facts, at: stage, in: session) else { continue }
            let lines = request.text(context: "").split(separator: "\n", omittingEmptySubsequences: false)
            try same(lines.count, 31, "lines of a request")
            try hold(lines.allSatisfy(\.hasNoASCIIControl), "a control character in a request")
        }
    }

    private static func check(_ verdict: Verdict) throws {
        if case .refuse(let reply) = verdict.decision {
            try hold((400...599).contains(reply.code), "code \(reply.code)")
            try same(reply.status.map { UInt16($0.statusClass) }, reply.code / 100, "the class of \(reply)")
            try hold(
                reply.description.utf8.count <= 510 && reply.text.utf8.allSatisfy { (0x20...0x7E).contains($0) },
                "a reply that is no line: \(reply.text.visible)")
        }
        for field in verdict.fields {
            let block = HeaderBlock(scanning: ByteBuffer(string: field + "\r\n"))
            try hold(block.fields.count == 1 && block.isWellFormed, "no field: \(field.visible)")
            try hold(field.split(separator: "\r\n").allSatisfy { $0.utf8.count <= 998 }, "a line that is too long")
        }
        for note in verdict.notes {
            try hold(note.action.isVisible, "a note that is not visible: \(note.action.visible)")
        }
    }
}

private struct ReadAnswers: Equatable {
    var answers: [PolicyAnswer] = []
    var fault: PolicyAnswerParser.Fault?
    var hasSeenCRLF = false
}
