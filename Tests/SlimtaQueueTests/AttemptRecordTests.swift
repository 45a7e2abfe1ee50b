// The history of attempts: grouped by answer, bounded in number and length.

import SlimtaMail
import Testing

@testable import SlimtaQueue

private let time = Timestamp(milliseconds: 1_795_255_200_000)

private func outcome(_ text: String, relay: String? = "mx.test[192.0.2.2]:25") -> Outcome {
    Outcome(
        .temporary, Reply(450, .init(4, 2, 0), text), isRemote: true, relay: relay,
        tls: TLSDescription(version: "TLSv1.3", cipher: "AES"))
}

@Suite struct AttemptRecordTests {
    private func state(_ recipients: Int) -> EnvelopeState {
        EnvelopeState(
            id: QueueID(at: time), due: time, recipients: Array(repeating: RecipientState(), count: recipients))
    }

    @Test func sameAnswersAreOneRecord() {
        var state = state(4)
        state.record(
            [(0, outcome("later")), (1, outcome("busy")), (2, outcome("later")), (3, outcome("later"))], at: time)
        #expect(state.history.map(\.recipient) == [0, 1])
        #expect(state.history.map(\.count) == [3, 1])
        #expect(state.history[0].reply == "450 4.2.0 later")
        #expect(state.history[0].tls == "TLSv1.3 AES")
        #expect(state.history[0].relay == "mx.test[192.0.2.2]:25")
    }

    @Test func theLastOnesAreKept() {
        var state = state(1)
        for attempt in 0..<40 { state.record([(0, outcome("\(attempt)"))], at: time + .seconds(attempt)) }
        #expect(state.history.map(\.reply) == (24..<40).map { "450 4.2.0 \($0)" })
        var many = self.state(1000)
        many.record((0..<1000).map { ($0, outcome("\($0)")) }, at: time)
        #expect(many.history.count == AttemptRecord.limit)
    }

    /// Also where a character is longer than what a scalar can be: a stranger's reply must not end the process.
    @Test(arguments: ["x", "é", "😀", "e\u{301}\u{302}\u{303}", "👩🏽‍👩🏽‍👧🏽"])
    func longRepliesAreCut(_ character: String) {
        var state = state(1)
        state.record([(0, outcome(String(repeating: character, count: 5000)))], at: time)
        #expect(state.history[0].reply.utf8.count <= AttemptRecord.replyLimit)
        #expect(state.history[0].reply.utf8.count > AttemptRecord.replyLimit - 8)
        var one = self.state(1)
        one.record([(0, outcome("e" + String(repeating: "\u{301}", count: 1000)))], at: time)
        #expect(one.history[0].reply.utf8.count > AttemptRecord.replyLimit - 8)
    }
}
