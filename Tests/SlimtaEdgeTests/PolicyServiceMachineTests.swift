// The rules of questions to a policy server: every event in every state, and what they lead to over time.

import NIOCore
import TestKit
import Testing

@testable import SlimtaEdge

private typealias Machine = PolicyServiceMachine

@Suite struct PolicyServiceMachineTests {
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
    private static func at(_ seconds: Int64) -> NIODeadline { start + .seconds(seconds) }

    private static func limits(_ change: (inout Machine.Limits) -> Void = { _ in }) -> Machine.Limits {
        var limits = Machine.Limits()
        change(&limits)
        return limits
    }

    // MARK: One question

    @Test func aQuestionAndItsAnswer() {
        var machine = Machine(Self.limits())
        #expect(machine.asked(1, by: 9, Self.at(0)) == [.connect(1)])
        #expect(machine.connected(1, Self.at(0)) == [.send(1, 1)])
        #expect(machine.answered(1, isInOrder: true, Self.at(0)) == [.deliver(1)])
        #expect(machine.questionCount == 0 && machine.idleCount == 1)
        // The next one has the same connection.
        #expect(machine.asked(2, by: 9, Self.at(1)) == [.send(1, 2)])
        #expect(machine.answered(1, isInOrder: true, Self.at(1)) == [.deliver(2)])
    }

    @Test func oneQuestionOnAConnection() {
        var machine = Machine(Self.limits())
        #expect(machine.asked(1, by: 1, Self.at(0)) == [.connect(1)])
        #expect(machine.asked(2, by: 2, Self.at(0)) == [.connect(2)])
        #expect(machine.connected(2, Self.at(0)) == [.send(2, 2)])
        #expect(machine.connected(1, Self.at(0)) == [.send(1, 1)])
        #expect(machine.asked(3, by: 3, Self.at(0)) == [.connect(3)])
    }

    @Test func aSessionKeepsItsConnection() {
        var machine = Machine(Self.limits())
        for id in [UInt64(1), 2] {
            _ = machine.asked(id, by: id, Self.at(0))
            _ = machine.connected(id, Self.at(0))
        }
        for id in [UInt64(1), 2] { _ = machine.answered(id, isInOrder: true, Self.at(0)) }
        #expect(machine.asked(3, by: 1, Self.at(0)) == [.send(1, 3)])
        // A stranger has the one that was used last.
        #expect(machine.asked(4, by: 8, Self.at(0)) == [.send(2, 4)])
    }

    @Test func moreThanTheAnswerEndsTheConnection() {
        var machine = Self.busy()
        #expect(machine.answered(1, isInOrder: false, Self.at(0)) == [.deliver(1), .close(1)])
        #expect(machine.closed(1, Self.at(0)) == [] && machine.connectionCount == 0)
    }

    // MARK: Tries

    /// An idle connection that the server has closed costs nothing but another connection.
    @Test func anIdleConnectionThatIsGone() {
        var machine = Self.idle()
        #expect(machine.asked(2, by: 1, Self.at(1)) == [.send(1, 2)])
        #expect(machine.failed(1, "closed", Self.at(1)) == [.close(1), .connect(2)])
        #expect(machine.closed(1, Self.at(1)) == [])
        #expect(machine.connected(2, Self.at(1)) == [.send(2, 2)])
        #expect(machine.answered(2, isInOrder: true, Self.at(1)) == [.deliver(2)])
    }

    /// Not on another one that was idle as long, though.
    @Test func theSecondTryIsOnANewConnection() {
        var machine = Machine(Self.limits { $0.connections = 2 })
        for id in [UInt64(1), 2] {
            _ = machine.asked(id, by: id, Self.at(0))
            _ = machine.connected(id, Self.at(0))
        }
        for id in [UInt64(1), 2] { _ = machine.answered(id, isInOrder: true, Self.at(0)) }
        #expect(machine.asked(3, by: 1, Self.at(1)) == [.send(1, 3)])
        // There is room when the first is gone, or the other, which is idle.
        #expect(machine.failed(1, "closed", Self.at(1)) == [.close(1), .close(2)])
        #expect(machine.closed(2, Self.at(1)) == [.connect(3)])
        #expect(machine.closed(1, Self.at(1)) == [])
        #expect(machine.connected(3, Self.at(1)) == [.send(3, 3)])
    }

    @Test func aNewConnectionThatFailsIsTriedAgainAfterAPause() {
        var machine = Self.busy()
        #expect(machine.failed(1, "rubbish", Self.at(0)) == [.close(1)])
        #expect(machine.closed(1, Self.at(0)) == [])
        #expect(machine.nextDue.map { $0 <= Self.at(1) } == true)
        #expect(machine.timePassed(Self.at(0)) == [])
        #expect(machine.timePassed(Self.at(1)) == [.connect(2)])
        #expect(machine.connected(2, Self.at(1)) == [.send(2, 1)])
        // The second time is the last one.
        #expect(
            machine.failed(2, "rubbish", Self.at(2)) == [
                .close(2), .tellFailure(.connection("rubbish")), .giveUp(1, .connection("rubbish")),
            ])
        #expect(machine.questionCount == 0)
    }

    @Test func aConnectionThatCannotBeMade() {
        var machine = Machine(Self.limits())
        _ = machine.asked(1, by: 1, Self.at(0))
        #expect(machine.failed(1, "refused", Self.at(0)) == [.close(1)])
        #expect(machine.closed(1, Self.at(0)) == [])
        #expect(machine.timePassed(Self.at(1)) == [.connect(2)])
        #expect(machine.failed(2, "refused", Self.at(1)).last == .giveUp(1, .connection("refused")))
    }

    // MARK: Time

    @Test func aSilentServer() {
        var machine = Self.busy()
        #expect(machine.timePassed(Self.at(4)) == [] && machine.nextDue == Self.at(5))
        #expect(machine.timePassed(Self.at(5)) == [.close(1), .tellFailure(.timedOut), .giveUp(1, .timedOut)])
        // What it says then is for nobody.
        #expect(machine.answered(1, isInOrder: true, Self.at(5)) == [])
        #expect(machine.closed(1, Self.at(5)) == [] && machine.connectionCount == 0)
    }

    @Test func timeIsForBothTries() {
        var machine = Self.busy()
        _ = machine.failed(1, "closed", Self.at(4))
        _ = machine.closed(1, Self.at(4))
        // The pause would end with the time: what is over is over.
        #expect(machine.timePassed(Self.at(5)).last == .giveUp(1, .timedOut))
        #expect(machine.questionCount == 0 && machine.connectionCount == 0)
    }

    @Test func connectingTakesOfTheTimeToo() {
        var machine = Machine(Self.limits())
        _ = machine.asked(1, by: 1, Self.at(0))
        #expect(machine.timePassed(Self.at(5)) == [.close(1), .tellFailure(.timedOut), .giveUp(1, .timedOut)])
        #expect(machine.connected(1, Self.at(6)) == [])
        #expect(machine.closed(1, Self.at(6)) == [] && machine.connectionCount == 0)
    }

    @Test func idleConnectionsAreClosedInTime() {
        var machine = Self.idle()
        #expect(machine.timePassed(Self.at(59)) == [] && machine.nextDue == Self.at(60))
        #expect(machine.timePassed(Self.at(60)) == [.close(1)])
        #expect(machine.closed(1, Self.at(60)) == [] && machine.connectionCount == 0)
        #expect(machine.timePassed(Self.at(60)) == [] && machine.nextDue == nil)
    }

    // MARK: Bounds

    @Test func soManyConnectionsAndNoMore() {
        var machine = Machine(Self.limits { $0.connections = 2 })
        #expect(machine.asked(1, by: 1, Self.at(0)) == [.connect(1)])
        #expect(machine.asked(2, by: 2, Self.at(0)) == [.connect(2)])
        #expect(machine.asked(3, by: 3, Self.at(0)) == [])
        #expect(machine.asked(4, by: 4, Self.at(0)) == [])
        _ = machine.connected(1, Self.at(0))
        #expect(machine.answered(1, isInOrder: true, Self.at(0)) == [.deliver(1), .send(1, 3)])
        _ = machine.connected(2, Self.at(0))
        // One that was closed makes room.
        #expect(machine.answered(2, isInOrder: false, Self.at(0)) == [.deliver(2), .close(2)])
        #expect(machine.closed(2, Self.at(0)) == [.connect(3)])
    }

    @Test func soManyIdleOnesAndNoMore() {
        var machine = Machine(Self.limits { $0.idle = 1 })
        for id in [UInt64(1), 2] {
            _ = machine.asked(id, by: id, Self.at(0))
            _ = machine.connected(id, Self.at(0))
        }
        #expect(machine.answered(1, isInOrder: true, Self.at(0)) == [.deliver(1)])
        #expect(machine.answered(2, isInOrder: true, Self.at(0)) == [.deliver(2), .close(1)])
        #expect(machine.idleCount == 1)
    }

    @Test func soManyInLineAndNoMore() {
        var machine = Machine(Self.limits { ($0.connections, $0.waiting) = (1, 2) })
        for id in UInt64(1)...3 { _ = machine.asked(id, by: id, Self.at(0)) }
        #expect(machine.asked(4, by: 4, Self.at(0)) == [.tellFailure(.lineFull), .giveUp(4, .lineFull)])
        // Told once in a minute, whatever the failure.
        #expect(machine.asked(5, by: 5, Self.at(0)) == [.giveUp(5, .lineFull)])
        #expect(machine.questionCount == 3 && !machine.isBroken)
    }

    @Test func nobodyWaitsAnyMore() {
        var machine = Machine(Self.limits { ($0.connections, $0.waiting) = (1, 1) })
        _ = machine.asked(1, by: 1, Self.at(0))
        _ = machine.asked(2, by: 2, Self.at(0))
        #expect(machine.withdrawn(2, Self.at(0)) == [] && machine.questionCount == 1)
        #expect(machine.asked(3, by: 3, Self.at(0)) == [])
        // The connection that was made for it is for the next one.
        #expect(machine.withdrawn(1, Self.at(0)) == [])
        #expect(machine.connected(1, Self.at(0)) == [.send(1, 3)])
        // One that was sent has its answer.
        #expect(machine.withdrawn(3, Self.at(0)) == [] && machine.questionCount == 1)
        #expect(machine.answered(1, isInOrder: true, Self.at(0)) == [.deliver(3)])
        #expect(machine.questionCount == 0 && machine.idleCount == 1)
        #expect(machine.withdrawn(3, Self.at(0)) == [])
    }

    /// It is not asked a second time, and says something of the service all the same.
    @Test func nobodyWaitsForWhatFails() {
        var machine = Self.busy()
        _ = machine.withdrawn(1, Self.at(0))
        #expect(machine.failed(1, "x", Self.at(0)).last == .giveUp(1, .connection("x")))
        #expect(machine.questionCount == 0)
    }

    // MARK: Breaker

    /// The breaker opens at 30 s.
    private static func broken() -> Machine {
        var machine = Machine(limits { $0.tries = 1 })
        for id in UInt64(1)...3 {
            _ = machine.asked(id, by: id, at(0))
            let actions = machine.failed(id, "refused", at(0))
            _ = machine.closed(id, at(0))
            let expected: [Machine.Action] =
                switch id {
                case 1: [.close(1), .tellFailure(.connection("refused")), .giveUp(1, .connection("refused"))]
                case 2: [.close(2), .giveUp(2, .connection("refused"))]
                default: [.close(3), .tellOpened(.connection("refused")), .giveUp(3, .connection("refused"))]
                }
            #expect(actions == expected)
        }
        #expect(machine.isBroken)
        return machine
    }

    @Test func failuresInARowOpenIt() {
        var machine = Self.broken()
        #expect(machine.asked(4, by: 4, Self.at(29)) == [.giveUp(4, .breakerOpen)])
        #expect(machine.questionCount == 0 && machine.connectionCount == 0)
    }

    @Test func oneTrialForAll() {
        var machine = Self.broken()
        #expect(machine.asked(4, by: 4, Self.at(30)) == [.connect(4)])
        #expect(machine.asked(5, by: 5, Self.at(30)) == [.giveUp(5, .breakerOpen)])
        _ = machine.connected(4, Self.at(30))
        #expect(machine.answered(4, isInOrder: true, Self.at(30)) == [.tellRecovered, .deliver(4)])
        #expect(!machine.isBroken)
        #expect(machine.asked(6, by: 6, Self.at(30)) == [.send(4, 6)])
    }

    @Test func aTrialThatFails() {
        var machine = Self.broken()
        _ = machine.asked(4, by: 4, Self.at(31))
        // It was told within the minute.
        #expect(machine.failed(4, "refused", Self.at(32)) == [.close(4), .giveUp(4, .connection("refused"))])
        #expect(machine.asked(5, by: 5, Self.at(61)) == [.giveUp(5, .breakerOpen)])
        #expect(machine.asked(6, by: 6, Self.at(62)) == [.connect(5)])
        let reason = Machine.Failure.connection("refused")
        #expect(machine.failed(5, "refused", Self.at(62)) == [.close(5), .tellFailure(reason), .giveUp(6, reason)])
        _ = machine.asked(7, by: 7, Self.at(93))
        #expect(machine.failed(6, "refused", Self.at(93)) == [.close(6), .giveUp(7, reason)])
    }

    /// Questions 1 to `count`, sent and failed; the sessions are asked for by their numbers.
    private static func failing(_ count: UInt64, sessions: (UInt64) -> UInt64) -> Machine {
        var machine = Machine(limits { $0.tries = 1 })
        for id in UInt64(1)...count {
            _ = machine.asked(id, by: sessions(id), at(0))
            _ = machine.connected(id, at(0))
            _ = machine.failed(id, "closed", at(0))
            _ = machine.closed(id, at(0))
        }
        return machine
    }

    /// A client that finds words of which the server fails has it fail for itself.
    @Test func failuresOfOneSession() {
        #expect(!Self.failing(20) { _ in 7 }.isBroken)
        #expect(!Self.failing(20) { $0 % 2 }.isBroken)
        #expect(Self.failing(3) { $0 }.isBroken)
        #expect(Self.failing(20) { min($0, 3) }.isBroken)
    }

    @Test func timesOfOneSession() {
        var machine = Machine(Self.limits())
        for id in UInt64(1)...5 {
            _ = machine.asked(id, by: 1, Self.at(0))
            _ = machine.connected(id, Self.at(0))
        }
        _ = machine.timePassed(Self.at(5))
        #expect(machine.questionCount == 0 && !machine.isBroken)
    }

    /// Nobody has said anything yet when no connection can be made.
    @Test(arguments: [true, false]) func connectionsOfOneSession(isSilent: Bool) {
        var machine = Machine(Self.limits { $0.tries = 1 })
        for id in UInt64(1)...3 {
            _ = machine.asked(id, by: 1, Self.at(0))
            if !isSilent { _ = machine.failed(id, "refused", Self.at(0)) }
        }
        _ = machine.timePassed(Self.at(5))
        #expect(machine.isBroken)
    }

    @Test func aTrialThatNobodyWaitsFor() {
        var machine = Self.broken()
        _ = machine.asked(4, by: 4, Self.at(31))
        #expect(machine.withdrawn(4, Self.at(31)) == [])
        #expect(machine.asked(5, by: 5, Self.at(31)) == [.connect(5)])
    }

    @Test func anAnswerBetweenFailuresKeepsItClosed() {
        var machine = Machine(Self.limits { $0.tries = 1 })
        for id in UInt64(1)...9 {
            _ = machine.asked(id, by: id, Self.at(0))
            if id % 3 == 0 {
                _ = machine.connected(id, Self.at(0))
                _ = machine.answered(id, isInOrder: false, Self.at(0))
            } else {
                _ = machine.failed(id, "x", Self.at(0))
            }
            _ = machine.closed(id, Self.at(0))
        }
        #expect(!machine.isBroken)
    }

    /// Those in line wait for nothing; those on their way may still be answered.
    @Test func whoIsInLineIsGivenUp() {
        var machine = Machine(Self.limits { ($0.connections, $0.tries, $0.failures) = (2, 1, 1) })
        for id in UInt64(1)...4 { _ = machine.asked(id, by: id, Self.at(0)) }
        _ = machine.connected(2, Self.at(0))
        #expect(
            machine.failed(1, "x", Self.at(0)) == [
                .close(1), .tellOpened(.connection("x")), .giveUp(1, .connection("x")), .giveUp(3, .breakerOpen),
                .giveUp(4, .breakerOpen),
            ])
        #expect(machine.answered(2, isInOrder: true, Self.at(1)) == [.tellRecovered, .deliver(2)])
        #expect(!machine.isBroken)
    }

    // MARK: The end

    @Test func shutDown() {
        var machine = Machine(Self.limits { $0.connections = 2 })
        for id in UInt64(1)...3 { _ = machine.asked(id, by: id, Self.at(0)) }
        _ = machine.connected(1, Self.at(0))
        #expect(
            machine.shutDown() == [
                .giveUp(1, .shutDown), .giveUp(2, .shutDown), .giveUp(3, .shutDown), .close(1), .close(2),
            ])
        #expect(machine.asked(4, by: 4, Self.at(0)) == [.giveUp(4, .shutDown)])
        for id in UInt64(1)...2 { #expect(machine.closed(id, Self.at(0)) == []) }
        #expect(machine.connectionCount == 0 && machine.shutDown() == [])
    }

    // MARK: Every event in every state

    private static func busy() -> Machine {
        var machine = Machine(limits())
        _ = machine.asked(1, by: 1, at(0))
        _ = machine.connected(1, at(0))
        return machine
    }

    private static func idle() -> Machine {
        var machine = busy()
        _ = machine.answered(1, isInOrder: true, at(0))
        return machine
    }

    /// Connection 1 and question 1 in a state; none: both are unknown.
    enum State: CaseIterable, Sendable { case none, connecting, busy, idle, pausing, closing, broken, shutDown }

    private static func machine(_ state: State) -> Machine {
        var machine = Machine(limits())
        switch state {
        case .none: break
        case .connecting: _ = machine.asked(1, by: 1, at(0))
        case .busy: machine = busy()
        case .idle: machine = idle()
        case .pausing:
            machine = busy()
            _ = machine.failed(1, "x", at(0))
            _ = machine.closed(1, at(0))
        case .closing:
            machine = busy()
            _ = machine.timePassed(at(5))
        case .broken: machine = broken()
        case .shutDown:
            machine = busy()
            _ = machine.shutDown()
        }
        return machine
    }

    enum Event: CaseIterable, Sendable {
        case asked, withdrawn, connected, answered, answeredAndMore, failed, closed, timePassed, shutDown
    }

    private static func play(_ event: Event, _ machine: inout Machine, _ now: NIODeadline) -> [Machine.Action] {
        switch event {
        case .asked: machine.asked(77, by: 1, now)
        case .withdrawn: machine.withdrawn(1, now)
        case .connected: machine.connected(1, now)
        case .answered: machine.answered(1, isInOrder: true, now)
        case .answeredAndMore: machine.answered(1, isInOrder: false, now)
        case .failed: machine.failed(1, "y", now)
        case .closed: machine.closed(1, now)
        case .timePassed: machine.timePassed(now)
        case .shutDown: machine.shutDown()
        }
    }

    /// What each event leads to, as text: the table that the rules above are read from.
    private static let table: [State: [Event: [Machine.Action]]] = [
        .none: [.asked: [.connect(1)]],
        .connecting: [
            .asked: [.connect(2)], .connected: [.send(1, 1)], .answered: [.close(1)], .answeredAndMore: [.close(1)],
            .failed: [.close(1)], .shutDown: [.giveUp(1, .shutDown), .close(1)],
        ],
        .busy: [
            .asked: [.connect(2)], .answered: [.deliver(1)], .answeredAndMore: [.deliver(1), .close(1)],
            .failed: [.close(1)], .shutDown: [.giveUp(1, .shutDown), .close(1)],
        ],
        .idle: [
            .asked: [.send(1, 77)], .answered: [.close(1)], .answeredAndMore: [.close(1)], .failed: [.close(1)],
            .shutDown: [.close(1)],
        ],
        .pausing: [.asked: [.connect(2)], .timePassed: [.connect(2)], .shutDown: [.giveUp(1, .shutDown)]],
        .closing: [.asked: [.connect(2)]],
        .broken: [.asked: [.giveUp(77, .breakerOpen)]],
        .shutDown: [.asked: [.giveUp(77, .shutDown)]],
    ]

    @Test(arguments: State.allCases, Event.allCases)
    func event(_ state: State, _ event: Event) {
        var machine = Self.machine(state)
        let now = Self.at(state == .closing ? 5 : 1)
        #expect(Self.play(event, &machine, now) == Self.table[state]?[event] ?? [])
        #expect(machine.connectionCount <= 2 && machine.questionCount <= 2)
    }

    /// Whatever comes in whatever order: each question ends once, and nothing is left.
    @Test(arguments: 0..<200) func anyOrder(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var machine = Machine(Self.limits { ($0.connections, $0.idle, $0.waiting) = (3, 2, 4) })
        var model = PolicyServiceModel()
        var now = Self.at(0)
        for _ in 0..<400 {
            let id = UInt64.random(in: 1...UInt64(max(1, model.connections.count + 2)), using: &random)
            switch Int.random(in: 0..<9, using: &random) {
            case 0...2: model.ask(&machine, by: UInt64.random(in: 0..<4, using: &random), now)
            case 3: model.take(machine.connected(id, now))
            case 4:
                if model.isOpen(id) { model.take(machine.answered(id, isInOrder: Bool.random(using: &random), now)) }
            case 5: model.take(machine.failed(id, "x", now))
            case 6: if model.closing.contains(id) { model.closed(&machine, id, now) }
            case 7: model.withdraw(&machine, now)
            default:
                now = now + .milliseconds(Int64.random(in: 1...2000, using: &random))
                model.take(machine.timePassed(now))
            }
            #expect(machine.connectionCount <= 3 && machine.idleCount <= 2 && machine.questionCount <= 7)
        }
        for _ in 0..<10 {
            now = now + .seconds(70)
            model.take(machine.timePassed(now))
            for id in model.closing { model.closed(&machine, id, now) }
        }
        model.take(machine.shutDown())
        for id in model.closing { model.closed(&machine, id, now) }
        #expect(machine.connectionCount == 0 && machine.questionCount == 0 && model.pending.isEmpty)
    }
}
