// What follows from an attempt: states, endings, notices; and the schedule.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaQueue

private let start = Timestamp(milliseconds: 1_795_255_200_000)
private let schedule = RetrySchedule(
    intervals: [.seconds(60), .seconds(300)], expire: .seconds(3600), warn: .seconds(600))

private func stored(
    _ recipients: [String], from sender: String? = "a@example.com", attempts: UInt32 = 0,
    content: String = "Subject: x\r\n\r\nbody\r\n"
) -> StoredEnvelope {
    let envelope = Envelope(
        id: QueueID(at: start), sender: sender.map { Mailbox(parsing: $0)! },
        recipients: recipients.map { Mailbox(parsing: $0)! }, received: start,
        client: ClientInfo(address: "192.0.2.1", name: "c", protocolWord: "ESMTP"),
        prependedFields: ByteBuffer(string: "Received: here\r\n"))
    var state = EnvelopeState(of: envelope, due: start)
    state.attempts = attempts
    return StoredEnvelope(envelope: envelope, state: state, message: Message(head: ByteBuffer(string: content)))
}

private let ok = Outcome(.delivered, Reply(250, .init(2, 0, 0), "ok"), isRemote: true, relay: "mx.test[192.0.2.2]:25")
private let later = Outcome(
    .temporary, Reply(450, .init(4, 2, 0), "later"), isRemote: true, relay: "mx.test[192.0.2.2]:25")
private let refuse = Outcome(
    .permanent, Reply(550, .init(5, 1, 1), "no such user"), isRemote: true, relay: "mx.test[192.0.2.2]:25",
    remoteHost: "mx.test")

private func resolve(
    _ stored: StoredEnvelope, _ outcomes: [Outcome], after seconds: Int64 = 1, begun: Int64? = nil, isFinal: Bool = true
) -> AttemptResolution {
    AttemptResolution(
        stored, outcomes: outcomes, isFinal: isFinal,
        AttemptAge(begun: .seconds(begun ?? seconds), ended: .seconds(seconds)), now: start + .seconds(seconds),
        schedule: schedule,
        notices: NoticeBuilder(hostname: "mail.example.com", zoneOffset: 0, newID: { time, _ in QueueID(at: time) }))
}

@Suite struct AttemptResolutionTests {
    @Test func deliveredLeavesTheQueue() {
        let mail = stored(["b@x.test", "c@x.test"])
        let result = resolve(mail, [ok, ok])
        #expect(result.state == nil)
        #expect(result.commit.ended.map(\.counts) == [Ending(id: mail.envelope.id, delivered: 2)])
        #expect(result.commit.ended[0].recipients.map(\.fate) == [.delivered, .delivered])
        #expect(result.notices.isEmpty)
        #expect(result.events.map(\.kind) == [.delivered, .delivered])
    }

    /// What a host asked for makes the wait longer, never shorter, and never longer than there is time.
    @Test func howLongAHostWantsToBeLeftAlone() throws {
        func due(_ after: Duration?..., result: Outcome.Result = .temporary) throws -> Timestamp {
            let outcomes = after.map { Outcome(result, Reply(450, nil, "later"), retryAfter: $0) }
            let recipients = outcomes.indices.map { "r\($0)@x.test" }
            return try #require(resolve(stored(recipients + ["z@x.test"]), outcomes + [later]).state).due
        }
        #expect(try due(.seconds(200)) == start + .seconds(201))
        #expect(try due(.seconds(5)) == start + .seconds(61))
        #expect(try due(nil, .seconds(100), .seconds(200)) == start + .seconds(201))
        #expect(try due(.seconds(1 << 40)) == start + .seconds(3600))
        #expect(try due(.seconds(200), result: .permanent) == start + .seconds(61))
    }

    /// A TLS report is given up after a day, and its sender is not told that it waits.
    @Test func reportsEndAfterADay() {
        let long = RetrySchedule(intervals: [.seconds(60)], expire: .seconds(432_000), warn: .seconds(600))
        var mail = stored(["b@x.test"])
        mail.envelope.isTLSReport = true
        #expect(long.of(mail.envelope).expire == .seconds(86_400) && long.of(mail.envelope).warn == nil)
        // Never for longer than others.
        #expect(schedule.of(mail.envelope).expire == .seconds(3600))
        #expect(resolve(mail, [later], after: 700).notices.isEmpty)
        mail.envelope.isTLSReport = false
        #expect(long.of(mail.envelope) == long && resolve(mail, [later], after: 700).notices.count == 1)
    }

    /// Whoever added a recipient may have said of what the sender is told (RFC 3461 section 4.1).
    @Test(
        arguments: [
            (nil, true, true), ([], false, false), (.failure, true, false), (.delay, false, true),
            (.success, false, false),
        ] as [(NotifyConditions?, Bool, Bool)])
    func notifications(_ conditions: NotifyConditions?, _ failure: Bool, _ delay: Bool) throws {
        var mail = stored(["b@x.test", "c@x.test"])
        if let conditions { mail.envelope.setNotifications(conditions, of: mail.envelope.recipients[1]) }
        func told(_ outcomes: [Outcome]) -> [String] {
            resolve(mail, outcomes, after: 700).notices.map { String(buffer: $0.message.head) }
        }
        #expect(told([ok, refuse]).count == (failure ? 1 : 0))
        #expect(told([ok, later]).count == (delay ? 1 : 0))
        // Of the other one as ever.
        for (outcome, isTold) in [(refuse, failure), (later, delay)] {
            let both = told([outcome, outcome])
            #expect(both.count == 1 && both[0].contains("<b@x.test>") && both[0].contains("<c@x.test>") == isTold)
        }
        // It fails and waits all the same, and a delay of which nobody was told is not taken for told.
        let result = resolve(mail, [ok, later], after: 700)
        #expect(result.state?.isWarned == delay && result.events.map(\.kind) == [.delivered, .deferred])
        #expect(resolve(mail, [ok, refuse], after: 700).commit.ended.map(\.bounced) == [1])
    }

    /// What a site puts off as a whole is no attempt: only the clock goes on.
    @Test func postponed() throws {
        func put(_ seconds: Int64) -> Outcome {
            var outcome = later
            outcome.postponed = .seconds(seconds)
            return outcome
        }
        let mail = stored(["b@x.test", "c@x.test", "d@x.test"], attempts: 1)
        var result = resolve(mail, [put(5), ok, put(9)])
        var state = try #require(result.state)
        #expect(state.attempts == 1 && state.due == start + .seconds(10))
        #expect(result.events.map(\.kind) == [.postponed, .delivered, .postponed])
        // The same again says nothing new; somebody who was asked makes it an attempt.
        var again = mail
        again.state = state
        result = resolve(again, [put(5), put(5)])
        #expect(result.state?.history == state.history)
        state = try #require(resolve(again, [put(500), later]).state)
        #expect(state.attempts == 2 && state.due == start + .seconds(501))
        #expect(try #require(resolve(again, [put(5), later]).state).due == start + .seconds(301))
        // The sender is told of the delay, and of the end, which is not put off.
        result = resolve(mail, [put(5), put(5), put(5)], after: 600)
        #expect(result.state?.isWarned == true && result.notices.count == 1 && result.state?.attempts == 1)
        #expect(resolve(mail, [put(5000), put(5), put(5)]).state?.due == start + .seconds(3600))
        result = resolve(mail, [put(5), put(5), put(5)], after: 3600)
        #expect(result.state == nil && result.events.allSatisfy { $0.kind == .expired })
        // A host that nobody asks because it does not answer is as one that did not.
        var dead = put(5)
        dead.isHostFailure = true
        #expect(resolve(stored(["b@x.test"]), [dead]).events.map(\.kind) == [.deferred])
    }

    @Test func partsHaveTheirOwnFates() throws {
        let mail = stored(["b@x.test", "c@x.test", "d@x.test"])
        let result = resolve(mail, [ok, later, refuse])
        let state = try #require(result.state)
        #expect(state.recipients.map(\.fate) == [.delivered, .pending, .bounced])
        #expect(state.attempts == 1)
        #expect(state.due == start + .seconds(61))
        #expect(result.commit.states == [state])
        #expect(result.commit.ended.isEmpty)
        // The bounce is for the refused one alone, and in the same commit.
        #expect(result.notices.count == 1)
        #expect(result.commit.accepted.map(\.envelope) == [result.notices[0].envelope])
        #expect(result.notices[0].envelope.sender == nil)
        #expect(result.notices[0].envelope.recipients.map(\.text) == ["a@example.com"])
        let text = String(buffer: result.notices[0].message.head)
        #expect(text.contains("Final-Recipient: rfc822; d@x.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"))
        #expect(!text.contains("c@x.test"))

        // The second attempt is about the one that is left, and ends it.
        var again = mail
        again.state = state
        #expect(again.state.pending == [1])
        let end = resolve(again, [ok], after: 61)
        #expect(end.commit.ended.map(\.counts) == [Ending(id: mail.envelope.id, delivered: 2, bounced: 1)])
        #expect(end.notices.isEmpty)
    }

    @Test func timeRunsOut() throws {
        let late = resolve(stored(["b@x.test"], attempts: 7), [later], after: 3600)
        #expect(late.state == nil)
        #expect(late.events.map(\.kind) == [.expired])
        #expect(late.commit.ended.first?.expired == 1)
        let text = String(buffer: try #require(late.notices.first).message.head)
        #expect(text.contains("Status: 5.4.7\r\n"))
        #expect(text.contains("450 4.2.0 later"))
    }

    /// An attempt that was under way when time ran out, or slept through it, is not the last one.
    @Test(arguments: [3599, 1]) func anAttemptThatBeganBeforeTheEndIsNotTheLast(begun: Int64) throws {
        let mail = stored(["b@x.test"], attempts: 7)
        let result = resolve(mail, [later], after: 6 * 86_400, begun: begun)
        let state = try #require(result.state)
        #expect(state.due == start + .seconds(6 * 86_400))
        #expect(result.events.map(\.kind) == [.deferred])
        var again = mail
        again.state = state
        #expect(resolve(again, [later], after: 6 * 86_400 + 30, begun: 6 * 86_400).events.map(\.kind) == [.expired])
    }

    @Test func noNoticeOfANotice() {
        let result = resolve(stored(["b@x.test"], from: nil), [refuse])
        #expect(result.notices.isEmpty)
        #expect(result.commit.accepted.isEmpty)
        #expect(result.commit.ended.first?.bounced == 1)
        #expect(resolve(stored(["b@x.test"], from: nil), [later], after: 700).notices.isEmpty)
    }

    @Test func theSenderIsToldOfADelayOnce() throws {
        #expect(resolve(stored(["b@x.test"]), [later], after: 599).notices.isEmpty)
        let mail = stored(["b@x.test"])
        let result = resolve(mail, [later], after: 600)
        let text = String(buffer: try #require(result.notices.first).message.head)
        #expect(text.contains("Action: delayed\r\n"))
        #expect(text.contains("Will-Retry-Until: "))
        var again = mail
        again.state = try #require(result.state)
        #expect(resolve(again, [later], after: 900).notices.isEmpty)
    }

    @Test func anAttemptThatWeCutShortDoesNotCount() throws {
        let mail = stored(["b@x.test", "c@x.test"], attempts: 3)
        let result = resolve(mail, [later, ok], after: 4000, isFinal: false)
        let state = try #require(result.state)
        #expect(state.attempts == 3)
        #expect(state.due == mail.state.due)
        #expect(state.recipients.map(\.fate) == [.pending, .delivered])
        #expect(result.notices.isEmpty)
    }
}

@Suite struct RetryScheduleTests {
    @Test(arguments: [(1, 0, 60), (2, 100, 400), (3, 500, 800), (9, 1000, 1300), (3, 3400, 3600), (1, 3599, 3600)])
    func next(attempts: UInt32, now: Int64, expected: Int64) {
        let age = AttemptAge(begun: .seconds(now), ended: .seconds(now))
        #expect(schedule.wait(after: attempts, age) == .seconds(expected - now))
    }

    @Test func theEnd() {
        #expect(schedule.wait(after: 5, AttemptAge(begun: .seconds(3600), ended: .seconds(3600))) == nil)
        #expect(schedule.wait(after: 5, AttemptAge(begun: .seconds(3599), ended: .seconds(9999))) == .zero)
        // Accepted by a clock that is ahead.
        #expect(schedule.wait(after: 5, AttemptAge(begun: .seconds(-9999), ended: .seconds(-9999))) == .seconds(300))
    }
}

@Suite struct NoticeTests {
    private func bounce(_ mail: StoredEnvelope, _ outcome: Outcome = refuse) -> (Notice, String) {
        let notice = resolve(mail, mail.state.pending.map { _ in outcome }).notices[0]
        return (notice, String(buffer: notice.message.head))
    }

    @Test func theOriginalIsReturnedWhole() {
        let (_, text) = bounce(stored(["b@x.test"]))
        #expect(text.contains("Content-Type: message/rfc822\r\n"))
        #expect(text.contains("\r\n\r\nReceived: here\r\nSubject: x\r\n\r\nbody\r\n"))
    }

    @Test func aLargeOriginalIsItsHeader() {
        let body = String(repeating: "0123456789\r\n", count: 6000)
        let (_, text) = bounce(stored(["b@x.test"], content: "Subject: x\r\n\r\n" + body))
        #expect(text.contains("Content-Type: text/rfc822-headers\r\n"))
        #expect(text.contains("Received: here\r\nSubject: x\r\n"))
        #expect(!text.contains("0123456789"))
    }

    @Test func whatTheRemoteSaysStaysOnItsLine() {
        let nasty = Outcome(
            .permanent, Reply(550, nil, "bad\r\nTo: victim@x.test\u{0}" + String(repeating: "y", count: 5000)),
            isRemote: true, relay: "mx\r\nX: y", remoteHost: "mx\r\nX: y")
        let (_, text) = bounce(stored(["b@x.test"]), nasty)
        #expect(!text.contains("\r\nTo: victim"))
        #expect(!text.contains("\r\nX: y"))
        #expect(!text.contains("\u{0}"))
        #expect(text.split(separator: "\r\n").allSatisfy { $0.utf8.count <= 998 })
    }
}

extension Ending {
    /// Without what became of each.
    fileprivate var counts: Ending {
        var counts = self
        counts.recipients = []
        return counts
    }
}
