// Who is asked next: every stage of a transaction, every way in which it can go wrong, and every result.

import NIOCore
import SlimtaMail
import SlimtaSMTP
import Testing

@testable import SlimtaRelay

struct HostTrialMachineTests {
    typealias Machine = HostTrialMachine

    static func host(_ number: Int) throws -> ConnectionKey {
        let host = MailHost(
            address: try SocketAddress(ipAddress: "192.0.2.\(number)", port: 25), name: "mx\(number).test")
        return ConnectionKey(host: host, plan: SessionPlan(demand: TLSPlan(.ifOffered, serverName: nil)))
    }

    static func machine(_ recipients: Int, hosts: Int = 3) throws -> Machine {
        var machine = Machine(recipients: recipients, end: .distantFuture)
        machine.add(try (1...hosts).map(host))
        return machine
    }

    static func outcome(_ result: Outcome.Result, isRemote: Bool = true, _ text: String = "x") -> Outcome {
        let reply: Reply =
            switch result {
            case .delivered: Reply(250, nil, text)
            case .temporary: Reply(451, nil, text)
            case .permanent: Reply(550, nil, text)
            }
        return Outcome(result, reply, isRemote: isRemote)
    }

    static let delivered = (outcome(.delivered), OutcomeCause(.finalReply, .reply))

    /// The whole product of stage, kind of failure and result; what is not named goes to the next host.
    @Test func whoIsNext() throws {
        for stage in OutcomeCause.Stage.allCases {
            for kind in OutcomeCause.Kind.allCases {
                for result in [Outcome.Result.delivered, .temporary, .permanent] {
                    let outcome = Self.outcome(result, isRemote: kind == .reply)
                    let verdict = Machine.verdict(outcome, OutcomeCause(stage, kind))
                    let expected: Machine.Verdict =
                        switch (result, kind, stage) {
                        case (.delivered, _, _): .settled
                        case (.permanent, .reply, _), (_, .message, _): .settled
                        case (_, .tooManyRecipients, _): .sameHost
                        case (_, .lost, .finalReply), (_, .timedOut, .finalReply), (_, .protocolError, .finalReply):
                            .nextAttempt
                        default: .nextHost
                        }
                    #expect(verdict == expected, "\(stage) \(kind) \(result)")

                    // And the machine does so.
                    var machine = try Self.machine(1)
                    let first = try #require(machine.next(at: .now()) { _ in nil })
                    _ = machine.answered(first, [outcome], [OutcomeCause(stage, kind)])
                    let second = machine.next(at: .now()) { _ in nil }
                    switch verdict {
                    case .settled, .nextAttempt:
                        #expect(second == nil && machine.isSettled)
                        #expect(machine.outcomes == [outcome])
                    // Nothing was taken, so that it would be the same again.
                    case .nextHost, .sameHost:
                        #expect(second == .init(key: try Self.host(2), recipients: [0]))
                        #expect(machine.outcomes == [outcome])
                    }
                }
            }
        }
    }

    @Test func everyRecipientItsOwnWay() throws {
        var machine = try Self.machine(4)
        let first = try #require(machine.next(at: .now()) { _ in nil })
        #expect(first.recipients == [0, 1, 2, 3])
        let later = (Self.outcome(.temporary, "greylisted"), OutcomeCause(.recipient, .reply))
        let never = (Self.outcome(.permanent), OutcomeCause(.recipient, .reply))
        var all = [Self.delivered, later, never, later]
        #expect(machine.answered(first, all.map(\.0), all.map(\.1)) == [])
        let second = try #require(machine.next(at: .now()) { _ in nil })
        #expect(second == .init(key: try Self.host(2), recipients: [1, 3]))
        all = [Self.delivered, later]
        _ = machine.answered(second, all.map(\.0), all.map(\.1))
        let third = try #require(machine.next(at: .now()) { _ in nil })
        #expect(third.recipients == [3])
        machine.unusable(HostFailure(outcome: Self.outcome(.temporary, isRemote: false, "dead")))
        #expect(machine.next(at: .now()) { _ in nil } == nil)
        #expect(machine.outcomes?.map(\.result) == [.delivered, .delivered, .permanent, .temporary])
        // What a host said is more telling than what another did not.
        #expect(machine.outcomes?[3].reply.text == "greylisted")
        #expect(machine.outcomes?[3].isHostFailure == false)
    }

    /// 100 recipients at ten a transaction: all at once, and at ten from the second on.
    @Test func furtherTransactions() throws {
        var machine = try Self.machine(100)
        var limit: Int?
        var asked: [Int] = []
        let tooMany = (
            Outcome(.temporary, Reply(452, EnhancedStatus(4, 5, 3), "x"), isRemote: true),
            OutcomeCause(.recipient, .tooManyRecipients)
        )
        while let question = machine.next(at: .now(), limit: { _ in limit }) {
            #expect(question.key == (try Self.host(1)))
            asked.append(question.recipients.count)
            let all = question.recipients.indices.map { $0 < 10 ? Self.delivered : tooMany }
            for lesson in machine.answered(question, all.map(\.0), all.map(\.1)) {
                guard case .takes(let count) = lesson else { continue }
                limit = count
            }
        }
        #expect(asked == [100] + Array(repeating: 10, count: 9))
        #expect(machine.isSettled && machine.outcomes!.allSatisfy { $0.result == .delivered })
    }

    /// What a host has announced (LIMITS) is asked again of the next session, and nothing is learned of it.
    @Test func announcedLimits() throws {
        var machine = try Self.machine(3)
        let announced = (
            Outcome(.temporary, Reply(452, EnhancedStatus(4, 5, 3), "the server takes 2 recipients at a time")),
            OutcomeCause(.recipient, .tooManyRecipients)
        )
        let first = try #require(machine.next(at: .now()) { _ in nil })
        let all = [Self.delivered, Self.delivered, announced]
        #expect(machine.answered(first, all.map(\.0), all.map(\.1)).isEmpty)
        #expect(machine.next(at: .now()) { _ in nil }?.recipients == [2])
    }

    /// Without progress the next host is asked: a server that says it to everyone is not asked for ever.
    @Test func noProgress() throws {
        var machine = try Self.machine(3, hosts: 2)
        let tooMany = (Self.outcome(.temporary), OutcomeCause(.recipient, .tooManyRecipients))
        let later = (Self.outcome(.temporary), OutcomeCause(.finalReply, .reply))
        let first = try #require(machine.next(at: .now()) { _ in nil })
        _ = machine.answered(first, [later.0, tooMany.0, tooMany.0], [later.1, tooMany.1, tooMany.1])
        let second = try #require(machine.next(at: .now()) { _ in nil })
        #expect(second == .init(key: try Self.host(2), recipients: [0, 1, 2]))
        #expect(machine.outcomes?.count == 3)
    }

    /// A host that goes away between two transactions is not asked for the rest.
    @Test func lostBetweenTransactions() throws {
        for last in [OutcomeCause.Kind.lost, .timedOut, .protocolError] {
            var machine = try Self.machine(6)
            let first = try #require(machine.next(at: .now()) { _ in 2 })
            _ = machine.answered(first, [Self.delivered.0, Self.delivered.0], [Self.delivered.1, Self.delivered.1])
            let second = try #require(machine.next(at: .now()) { _ in 2 })
            #expect(second == .init(key: try Self.host(1), recipients: [2, 3]))
            let lost = Self.outcome(.temporary, isRemote: false)
            let cause = OutcomeCause(.mail, last)
            #expect(
                machine.answered(second, [lost, lost], [cause, cause]) == [last == .timedOut ? .hung : .dead])
            #expect(machine.outcomes?.count == 6)
            let third = try #require(machine.next(at: .now()) { _ in nil })
            #expect(third == .init(key: try Self.host(2), recipients: [2, 3, 4, 5]))
        }
    }

    @Test func lessons() throws {
        let silent = Self.outcome(.temporary, isRemote: false)
        for stage in OutcomeCause.Stage.allCases {
            for (kind, expected) in [
                (OutcomeCause.Kind.timedOut, [Machine.Lesson.hung]), (.lost, stage == .mail ? [.dead] : []),
                (.protocolError, stage == .mail ? [.dead] : []), (.reply, []), (.lacking, []),
                (.lacksEightBit, []), (.cancelled, []),
            ] {
                var machine = try Self.machine(1)
                let question = try #require(machine.next(at: .now()) { _ in nil })
                let lessons = machine.answered(question, [silent], [OutcomeCause(stage, kind)])
                let hasDoubt = stage == .finalReply && [.timedOut, .lost, .protocolError].contains(kind)
                #expect(lessons == Set(expected + (hasDoubt ? [.mayHaveIt] : [])), "\(stage) \(kind)")
            }
        }
        var machine = try Self.machine(1)
        #expect(machine.next(at: .now()) { _ in nil } != nil)
        machine.unusable(HostFailure(outcome: silent, isTimeout: true))
        #expect(machine.outcomes?.map(\.isHostFailure) == [true])
        // Mail that waits for TLS says nothing of the host for other mail.
        machine = try Self.machine(1)
        #expect(machine.next(at: .now()) { _ in nil } != nil)
        machine.unusable(HostFailure(outcome: silent, isTLSFailure: true))
        #expect(machine.outcomes?.map(\.isHostFailure) == [false])
    }

    /// What the site has put off is for no other of its hosts; that it has no room for a session is, and says less than what
    /// any of them says.
    @Test func paced() throws {
        var machine = try Self.machine(2)
        let question = try #require(machine.next(at: .now()) { _ in nil })
        var slow = Self.outcome(.temporary, "slow down")
        slow.postponed = .seconds(30)
        let busy = Self.outcome(.temporary, "busy")
        let cause = OutcomeCause(.recipient, .reply)
        #expect(machine.answered(question, [slow, busy], [cause, cause]) == [])
        let next = try #require(machine.next(at: .now()) { _ in nil })
        #expect(next.recipients == [1])
        machine.crowdedOut(Self.outcome(.temporary, "too many connections"))
        #expect(machine.outcomes?.map(\.reply.text) == ["slow down", "busy"])
        machine = try Self.machine(1)
        #expect(machine.next(at: .now()) { _ in nil } != nil)
        machine.crowdedOut(Self.outcome(.temporary, "too many connections"))
        #expect(machine.outcomes?.allSatisfy { $0.postponed != nil && !$0.isHostFailure } == true)
        let third = try #require(machine.next(at: .now()) { _ in nil })
        _ = machine.answered(third, [busy], [cause])
        #expect(machine.outcomes?.map(\.reply.text) == ["busy"])
    }

    @Test func bounds() throws {
        // Hosts without a session.
        var machine = try Self.machine(1, hosts: 50)
        var count = 0
        while machine.next(at: .now(), limit: { _ in nil }) != nil {
            count += 1
            machine.unusable(HostFailure(outcome: Self.outcome(.temporary)))
        }
        #expect(count == Machine.maximumHosts)
        // Hosts that get the message and put it off.
        machine = try Self.machine(1, hosts: 50)
        count = 0
        while let question = machine.next(at: .now(), limit: { _ in nil }) {
            count += 1
            _ = machine.answered(question, [Self.outcome(.temporary)], [OutcomeCause(.finalReply, .reply)])
        }
        #expect(count == Machine.maximumSessions)
        // Time: the first is always asked.
        machine = Machine(recipients: 1, end: .now())
        machine.add(try (1...2).map(Self.host))
        #expect(machine.next(at: .now() + .hours(1)) { _ in nil } != nil)
        machine.unusable(HostFailure(outcome: Self.outcome(.temporary)))
        #expect(machine.next(at: .now() + .hours(1)) { _ in nil } == nil)
        // Nobody to ask, nothing to say.
        machine = Machine(recipients: 1, end: .distantFuture)
        #expect(machine.next(at: .now()) { _ in nil } == nil && machine.outcomes == nil)
    }

    /// Hosts without 8BITMIME are asked again when no other is left, for those who still have nothing that counts.
    @Test func sevenBit() throws {
        let lacking = (Self.outcome(.permanent, isRemote: false, "8BITMIME"), OutcomeCause(.mail, .lacksEightBit))
        let never = (Self.outcome(.permanent), OutcomeCause(.recipient, .reply))
        var machine = Machine(recipients: 3, end: .distantFuture, convertsToSevenBit: true)
        machine.add(try (1...3).map(Self.host))
        var question = try #require(machine.next(at: .now()) { _ in nil })
        _ = machine.answered(question, [lacking.0, lacking.0, lacking.0], [lacking.1, lacking.1, lacking.1])
        question = try #require(machine.next(at: .now()) { _ in nil })
        #expect(question == .init(key: try Self.host(2), recipients: [0, 1, 2]))
        let later = (Self.outcome(.temporary, "busy"), OutcomeCause(.recipient, .reply))
        _ = machine.answered(question, [Self.delivered.0, later.0, later.0], [Self.delivered.1, later.1, later.1])
        question = try #require(machine.next(at: .now()) { _ in nil })
        _ = machine.answered(question, [lacking.0, lacking.0], [lacking.1, lacking.1])
        #expect(machine.next(at: .now()) { _ in nil } == nil)
        // Broken off here, nobody is told that it is over.
        #expect(machine.outcomes?.map(\.result) == [.delivered, .temporary, .temporary])
        var broken = machine
        var isTurned = machine.turnToSevenBit()
        #expect(isTurned)
        question = try #require(machine.next(at: .now()) { _ in nil })
        #expect(question == .init(key: try Self.host(1), recipients: [1, 2]))
        _ = machine.answered(question, [Self.delivered.0, never.0], [Self.delivered.1, never.1])
        #expect(machine.next(at: .now()) { _ in nil } == nil)
        #expect(machine.outcomes?.map(\.result) == [.delivered, .delivered, .permanent])
        isTurned = machine.turnToSevenBit()
        #expect(!isTurned)

        // That somebody else may take it later weighs more than that it cannot be converted.
        isTurned = broken.turnToSevenBit()
        #expect(isTurned)
        broken.notSevenBit(.permanent, Reply(554, EnhancedStatus(5, 6, 3), "signed"))
        let last = broken.next(at: .now()) { _ in nil }
        #expect(last == nil)
        #expect(broken.outcomes?[1].reply.text == "busy")

        var alone = Machine(recipients: 1, end: .distantFuture, convertsToSevenBit: true)
        alone.add([try Self.host(1)])
        question = try #require(alone.next(at: .now()) { _ in nil })
        _ = alone.answered(question, [lacking.0], [lacking.1])
        #expect(alone.outcomes == [SMTPJob.cancelled])
        isTurned = alone.turnToSevenBit()
        #expect(isTurned)
        alone.notSevenBit(.permanent, Reply(554, EnhancedStatus(5, 6, 3), "signed"))
        #expect(alone.outcomes?.map(\.result) == [.permanent])

        // Where nothing is converted, it counts at once.
        var plain = try Self.machine(1, hosts: 1)
        question = try #require(plain.next(at: .now()) { _ in nil })
        _ = plain.answered(question, [lacking.0], [lacking.1])
        isTurned = plain.turnToSevenBit()
        #expect(plain.outcomes == [lacking.0] && !isTurned)
    }
}

struct OutcomeCauseTests {
    /// What a site counts: nothing was said of the message, or something was.
    @Test func whatAHostWasToldOf() {
        for kind in OutcomeCause.Kind.allCases {
            let before = OutcomeCause.Stage.allCases.filter { OutcomeCause($0, kind).isBeforeMessage }
            switch kind {
            case .cancelled: #expect(before == [.mail])
            // Behind DATA it is the content that has it.
            case .lacking, .lacksEightBit, .message: #expect(before == [.mail, .recipient])
            case .reply, .tooManyRecipients, .lost, .timedOut, .protocolError: #expect(before == [])
            }
        }
    }
}
