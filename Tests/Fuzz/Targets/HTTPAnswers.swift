// What the relay over HTTP reads in an answer's fields: X-Smtp-Reply, and the dates of Retry-After.

import NIOHTTP1
import SlimtaEdge
import SlimtaMail

@testable import SlimtaNet
@testable import SlimtaRelay

extension FuzzTarget {
    /// A reply that is read is bounded and harmless, is read again as the edge writes it, and decides as its code says; no
    /// answer at all is read in two ways.
    static let httpAnswer = FuzzTarget(name: "http-answer", maximumLength: 600) { octets in
        let text = String(decoding: octets, as: UTF8.self)
        if let reply = SMTPReplyField.reply(text) {
            try hold([2, 4, 5].contains(reply.code / 100), "a code of \(text)")
            try hold(reply.text.utf8.count <= 512 && reply.text.isVisible, "the text of \(text)")
            try same(SMTPReplyField.reply(HTTPReply.field(reply)), reply, "\(text) as the edge writes it")
        }
        if let date = Timestamp(httpDate: text) {
            try hold(abs(date.seconds) < 400_000_000_000, "a date of \(text)")
        }
        var choices = Choices(octets)
        let status = 200 + Int(choices.integer(UInt16.self)) % 400
        let fields = [("X-Smtp-Reply", choices.text()), ("Retry-After", choices.text())]
        let head = HTTPResponseHead(
            version: .http1_1, status: .init(statusCode: status, reasonPhrase: choices.text()), headers: .init(fields))
        let outcome = HTTPVerdict(HTTPAnswer(head), now: Timestamp(milliseconds: 0)).outcome
        try hold(!outcome.reply.text.hasControls, "a reply of \(octets)")
        try hold(outcome.retryAfter == nil || outcome.result == .temporary, "a wait of \(octets)")
        try hold(outcome.result != .delivered || (200...299).contains(status), "\(status) is no delivery")
        try hold(outcome.result != .permanent || !outcome.reply.isPositive, "a refusal that says yes")
    }
}
