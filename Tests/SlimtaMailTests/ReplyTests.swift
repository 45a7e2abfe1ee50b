// Replies, and the outcomes that they are for the queue.

import SlimtaMail
import Testing

@Suite struct ReplyTests {
    @Test func classes() {
        let positive = Reply(250, .init(2, 0, 0), "Ok")
        #expect(positive.isPositive && !positive.isTemporary && !positive.isPermanent)
        let temporary = Reply(452, .init(4, 5, 3), "Too many recipients")
        #expect(!temporary.isPositive && temporary.isTemporary && !temporary.isPermanent)
        let permanent = Reply(599, nil, "No")
        #expect(!permanent.isPositive && !permanent.isTemporary && permanent.isPermanent)
        let intermediate = Reply(354, nil, "Go on")
        #expect(!intermediate.isPositive && !intermediate.isTemporary && !intermediate.isPermanent)
    }

    @Test func text() {
        let reply = Reply(250, nil, lines: ["one", "two", ""])
        #expect(reply.text == "one two ")
        #expect(reply.description == "250 one two ")
        #expect(Reply(550, .init(5, 1, 1), "No such user").description == "550 5.1.1 No such user")
        #expect(Reply(250, nil, lines: []).lines == [""], "a reply has a line")
    }

    @Test func effectiveStatus() {
        #expect(Reply(450, nil, "").effectiveStatus == .init(4, 0, 0))
        #expect(Reply(550, nil, "").effectiveStatus == .init(5, 0, 0))
        #expect(Reply(250, .init(2, 1, 5), "").effectiveStatus == .init(2, 1, 5))
    }

    static let results: [(UInt16, Outcome.Result)] = [
        (200, .delivered), (250, .delivered), (299, .delivered), (354, .temporary), (421, .temporary),
        (450, .temporary), (499, .temporary), (500, .permanent), (554, .permanent), (599, .permanent),
    ]

    @Test(arguments: results) func outcome(_ code: UInt16, _ result: Outcome.Result) {
        #expect(Outcome.result(of: Reply(code, nil, "")) == result)
    }
}
