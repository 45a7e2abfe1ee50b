// The rules of the connection pool, in any order of events.

import TestKit
import Testing

@testable import SlimtaNet

private func wrong(_ what: String) { Issue.record("\(what)") }

extension Int: PoolDestination {
    /// As if each had an address of its own.
    package var group: Int { self }
}

/// A machine and connections that do what it says. Work is a number, and so is a destination: work w is for w % 10.
struct PoolWorld {
    enum Phase {
        case connecting, busy, idle, closing
    }

    var machine: ConnectionPoolMachine<Int, Int>
    let limits: ConnectionPoolMachine<Int, Int>.Limits
    var connections: [UInt64: (destination: Int, phase: Phase, work: Int?)] = [:]
    var waiting: Set<Int> = []
    var started: [Int] = []
    var done: Set<Int> = []
    var failed: Set<Int> = []

    init(total: Int, perDestination: Int) {
        limits = .init(total: total, perDestination: perDestination)
        machine = .init(limits)
    }

    mutating func perform(_ action: ConnectionPoolMachine<Int, Int>.Action) {
        switch action {
        case .none: break
        case .start(let id, let work):
            let phase = connections[id]?.phase
            #expect(phase == .idle || phase == .busy)
            #expect(connections[id]?.destination == work % 10)
            connections[id] = (work % 10, .busy, work)
            begin(work)
        case .connect(let id, let work):
            #expect(connections[id] == nil)
            connections[id] = (work % 10, .connecting, work)
            begin(work)
        case .retire(let id):
            let phase = connections[id]?.phase
            #expect(phase == .idle || phase == .busy)
            connections[id]?.phase = .closing
            connections[id]?.work = nil
        }
        #expect(connections.count <= limits.total)
        for destination in 0..<10 {
            #expect(connections.values.count { $0.destination == destination } <= limits.perDestination)
        }
        #expect(machine.openCount == connections.count)
    }

    private mutating func begin(_ work: Int) {
        #expect(waiting.remove(work) != nil)
        started.append(work)
    }

    mutating func submit(_ work: Int, isRepeated: Bool = false) {
        waiting.insert(work)
        perform(machine.submit(work, for: work % 10, isRepeated: isRepeated))
    }

    mutating func opened(_ id: UInt64) {
        machine.opened(id)
        connections[id]?.phase = .busy
    }

    mutating func failed(_ id: UInt64) {
        let work = connections[id]!.work!
        connections[id]?.phase = .closing
        connections[id]?.work = nil
        waiting.insert(work)
        let (lost, action) = machine.failed(id, work: work)
        for work in lost {
            #expect(waiting.remove(work) != nil)
            failed.insert(work)
        }
        perform(action)
    }

    mutating func released(_ id: UInt64) {
        done.insert(connections[id]!.work!)
        connections[id]?.work = nil
        let action = machine.released(id)
        if case .none = action { connections[id]?.phase = .idle }
        perform(action)
    }

    mutating func expired(_ id: UInt64) { perform(machine.expired(id)) }

    mutating func closed(_ id: UInt64) {
        connections[id] = nil
        perform(machine.closed(id))
    }

    func ids(_ phase: Phase) -> [UInt64] { connections.filter { $0.value.phase == phase }.map(\.key).sorted() }
}

struct ConnectionPoolMachineTests {
    @Test func idleConnectionsAreUsedAgain() {
        var world = PoolWorld(total: 10, perDestination: 5)
        world.submit(1)
        #expect(world.ids(.connecting) == [1])
        world.opened(1)
        world.released(1)
        #expect(world.ids(.idle) == [1])
        world.submit(11)
        #expect(world.ids(.busy) == [1])
        // In a hurry, a second one.
        world.submit(21)
        #expect(world.connections.count == 2)
        world.released(1)
        // Nothing is kept when all are closed.
        world.opened(world.ids(.connecting)[0])
        for id in world.ids(.busy) { world.released(id) }
        for id in world.ids(.idle) { world.expired(id) }
        #expect(world.ids(.closing).count == 2)
        for id in world.ids(.closing) { world.closed(id) }
        #expect(world.machine.destinationCount == 0)
        #expect(world.done == [1, 11, 21])
    }

    @Test func connectionsAreUsedUp() {
        var machine = ConnectionPoolMachine<Int, Int>(.init(total: 5, perDestination: 1, uses: 2))
        guard case .connect(let id, 1) = machine.submit(1, for: 1) else { return wrong("not connected") }
        machine.opened(id)
        guard case .none = machine.released(id) else { return wrong("not idle") }
        guard case .start(id, 2) = machine.submit(2, for: 1) else { return wrong("not used again") }
        guard case .none = machine.submit(3, for: 1) else { return wrong("more than one") }
        guard case .retire(id) = machine.released(id) else { return wrong("not retired") }
        guard case .connect(let next, 3) = machine.closed(id) else { return wrong("not connected") }
        machine.opened(next)
        guard case .retire(next) = machine.released(next, isOld: true) else { return wrong("not retired") }
        guard case .none = machine.closed(next) else { return wrong("work from nowhere") }
        #expect(machine.openCount == 0 && machine.destinationCount == 0)
    }

    /// A name, and the address where it leads.
    struct Named: PoolDestination {
        let name: String
        let group: Int
    }

    /// Names at one address: none uses the other's connections, and together they have no more of them.
    @Test func namesAtOneAddress() {
        let (one, two, far) = (Named(name: "one", group: 1), Named(name: "two", group: 1), Named(name: "far", group: 2))
        var machine = ConnectionPoolMachine<Named, Int>(.init(total: 10, perDestination: 2))
        guard case .connect(let first, _) = machine.submit(1, for: one),
            case .connect(let second, _) = machine.submit(2, for: one)
        else { return wrong("not connected") }
        guard case .none = machine.submit(3, for: two) else { return wrong("more than the address may have") }
        guard case .connect = machine.submit(4, for: far) else { return wrong("another address waits") }
        machine.opened(first)
        machine.opened(second)
        // One of them makes room, though its own name would have more to do.
        guard case .none = machine.submit(5, for: one) else { return wrong("more than the address may have") }
        guard case .retire(first) = machine.released(first) else { return wrong("no room for the other name") }
        guard case .connect(let third, 3) = machine.closed(first) else { return wrong("not connected") }
        machine.opened(third)
        guard case .start(second, 5) = machine.released(second) else { return wrong("not its own work") }
        guard case .none = machine.released(second), case .none = machine.released(third) else {
            return wrong("not idle")
        }
        // An idle one of another name is closed, and not used.
        guard case .start(third, 6) = machine.submit(6, for: two), case .retire(second) = machine.submit(7, for: two)
        else { return wrong("no room made") }
        guard case .connect(_, 7) = machine.closed(second) else { return wrong("not connected") }
    }

    @Test func repeatedWorkWantsANewConnection() {
        var world = PoolWorld(total: 2, perDestination: 2)
        world.submit(1)
        world.opened(1)
        world.released(1)
        world.submit(11, isRepeated: true)
        #expect(world.connections.count == 2 && world.ids(.idle) == [1])
        // Where there is no room for one, an idle one is better than none.
        world.submit(21, isRepeated: true)
        #expect(world.connections[1]?.work == 21)
    }

    @Test func inOrder() {
        var world = PoolWorld(total: 10, perDestination: 1)
        for work in stride(from: 1, to: 101, by: 10) { world.submit(work) }
        world.opened(1)
        for _ in 0..<10 { world.released(1) }
        #expect(world.started == Array(stride(from: 1, to: 101, by: 10)))
        #expect(world.connections.count == 1)
    }

    @Test func idleConnectionsMakeRoom() {
        var world = PoolWorld(total: 2, perDestination: 2)
        for work in [1, 2] { world.submit(work) }
        for id in world.ids(.connecting) { world.opened(id) }
        for id in world.ids(.busy) { world.released(id) }
        world.submit(3)
        // The one that was idle for longest.
        #expect(world.ids(.closing) == [1])
        #expect(world.waiting == [3])
        world.closed(1)
        #expect(world.waiting.isEmpty)
        #expect(world.ids(.connecting).count == 1)
    }

    /// A destination with endless work does not keep another waiting.
    @Test(arguments: [(1, 1), (2, 2), (4, 2)])
    func nobodyStarves(_ total: Int, _ perDestination: Int) {
        var world = PoolWorld(total: total, perDestination: perDestination)
        for work in 0..<400 where work % 10 < 3 { world.submit(work) }
        world.submit(405)
        var steps = 0
        while !world.started.contains(405) {
            steps += 1
            #expect(steps < 40)
            if steps >= 40 { return }
            for id in world.ids(.connecting) { world.opened(id) }
            if let id = world.ids(.busy).first { world.released(id) }
            for id in world.ids(.closing) { world.closed(id) }
        }
    }

    /// With room for all, connections do not go back and forth between destinations.
    @Test func connectionsStayWhereTheyAre() {
        var world = PoolWorld(total: 4, perDestination: 4)
        for work in 0..<2000 where work % 10 < 2 { world.submit(work) }
        var retired = 0
        for _ in 0..<300 {
            for id in world.ids(.connecting) { world.opened(id) }
            for id in world.ids(.busy) { world.released(id) }
            retired += world.ids(.closing).count
            for id in world.ids(.closing) { world.closed(id) }
        }
        #expect(world.done.count == 400)
        #expect(retired <= 6)
    }

    @Test func failureFailsAllWhoWait() {
        var world = PoolWorld(total: 10, perDestination: 1)
        for work in [1, 11, 21, 2] { world.submit(work) }
        world.failed(1)
        #expect(world.failed == [1, 11, 21])
        world.closed(1)
        #expect(world.machine.destinationCount == 1)
    }

    /// A server that takes three connections and no more is sent everything over three.
    @Test func theOtherSidesLimit() {
        var world = PoolWorld(total: 100, perDestination: 20)
        for work in stride(from: 1, to: 501, by: 10) { world.submit(work) }
        for id in world.ids(.connecting).prefix(3) { world.opened(id) }
        for id in world.ids(.connecting) { world.failed(id) }
        for id in world.ids(.closing) { world.closed(id) }
        #expect(world.connections.count == 3)
        while let id = world.ids(.busy).first {
            world.released(id)
            #expect(world.connections.count == 3)
        }
        #expect(world.done.count == 50 && world.failed.isEmpty)
    }

    @Test func withdrawn() {
        var world = PoolWorld(total: 1, perDestination: 1)
        for work in [1, 11, 2] { world.submit(work) }
        #expect(world.machine.withdraw(for: 1, where: { $0 == 11 }) == 11)
        #expect(world.machine.withdraw(for: 1, where: { $0 == 11 }) == nil)
        #expect(world.machine.withdraw(for: 2, where: { $0 == 2 }) == 2)
        #expect(world.machine.withdraw(for: 7, where: { _ in true }) == nil)
        #expect(world.machine.destinationCount == 1)
    }

    @Test func shutDown() {
        var world = PoolWorld(total: 2, perDestination: 1)
        for work in [1, 2, 11, 3] { world.submit(work) }
        for id in world.ids(.connecting) { world.opened(id) }
        #expect(world.machine.withdraw(for: 3, where: { _ in true }) == 3)
        world.released(2)
        let (waiting, idle) = world.machine.shutDown()
        #expect(waiting == [11])
        #expect(idle == [2])
        world.closed(2)
        world.waiting = []
        world.released(1)
        #expect(world.ids(.closing) == [1])
        world.closed(1)
        #expect(world.machine.destinationCount == 0 && world.machine.openCount == 0)
    }

    /// Any events in any order: the limits hold, and in the end all work is done or has failed and nothing is kept.
    @Test(arguments: 0..<100) func anyOrder(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var world = PoolWorld(
            total: Int.random(in: 1...12, using: &random), perDestination: Int.random(in: 1...5, using: &random))
        let mayFail = Bool.random(using: &random)
        var submitted = 0
        for step in 0..<600 {
            let events = Int.random(in: 0..<10, using: &random)
            switch events {
            case 0...2 where step < 400:
                world.submit(submitted, isRepeated: Int.random(in: 0..<10, using: &random) == 0)
                submitted += 1
            case 3, 4: if let id = world.ids(.connecting).randomElement(using: &random) { world.opened(id) }
            case 5, 6: if let id = world.ids(.busy).randomElement(using: &random) { world.released(id) }
            case 7: if let id = world.ids(.idle).randomElement(using: &random) { world.expired(id) }
            case 8: if let id = world.ids(.closing).randomElement(using: &random) { world.closed(id) }
            default:
                guard mayFail else { break }
                if Bool.random(using: &random) {
                    if let id = world.ids(.connecting).randomElement(using: &random) { world.failed(id) }
                } else if let id = world.ids(.idle).randomElement(using: &random) {
                    // The server hangs up.
                    world.closed(id)
                }
            }
        }
        // Whatever is still to be done gets done.
        var rounds = 0
        while !world.ids(.connecting).isEmpty || !world.ids(.busy).isEmpty || !world.ids(.closing).isEmpty {
            for id in world.ids(.connecting) { world.opened(id) }
            for id in world.ids(.busy) where world.connections[id]?.phase == .busy { world.released(id) }
            for id in world.ids(.closing) { world.closed(id) }
            rounds += 1
            #expect(rounds < 10_000)
            if rounds >= 10_000 { return }
        }
        #expect(world.waiting.isEmpty)
        #expect(world.done.count + world.failed.count == submitted)
        #expect(world.done.isDisjoint(with: world.failed))
        for id in world.ids(.idle) { world.expired(id) }
        for id in world.ids(.closing) { world.closed(id) }
        #expect(world.machine.openCount == 0)
        #expect(world.machine.destinationCount == 0)
    }
}
