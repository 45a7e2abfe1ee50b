// The scheduler under random events, beside a model that looks through all it has each time: due times, limits, turns,
// priorities, back-off, what is owed to senders, operators' commands.

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaQueue

extension SeededGenerator {
    fileprivate mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
}

private let refused = Outcome(
    .temporary, Reply(451, .init(4, 4, 1), "connection refused"), relay: "mx.test[192.0.2.1]:25", isHostFailure: true)

/// The rules, as plainly as they can be said.
private struct Model {
    struct Message {
        enum Place { case waiting, inFlight, probe, resolving, held }

        var place = Place.waiting
        var due: Int64
        var isNew: Bool
        var isWarned: Bool
        var destination: Int
        /// Whether it was due while the destination backed off: it may have lost its place among the new ones.
        var mayBeParked = false
        /// When the attempt in flight began.
        var began: Int64 = 0
    }

    struct Host {
        var window = 5
        var isBackingOff = false
        var until: Int64 = 0
        var probes = 0
        /// When the last attempt in vain began.
        var tried: Int64 = 0
        /// New ones that were taken one after the other though others were due; and others though new ones were.
        var newInARow = 0
        var othersInARow = 0
        var pace = Pace.unknown
        /// Its share of the places was taken when it asked for another: it asks again when it gives one back.
        var isHeldBack = false
    }

    static let schedule = RetrySchedule(
        intervals: [.seconds(20), .seconds(50)], expire: .seconds(4000), warn: .seconds(1500))
    static let attempts = 8
    static let perDestination = 4

    var messages: [QueueID: Message] = [:]
    var hosts: [Int: Host] = [:]
    /// Whose turn was how long ago.
    var lastTurn: [Int: Int] = [:]

    func inFlight(_ destination: Int? = nil) -> Int {
        messages.values.count {
            switch $0.place {
            case .inFlight, .probe, .resolving: destination == nil || $0.destination == destination
            case .waiting, .held: false
            }
        }
    }

    var probes: Int { messages.values.count { $0.place == .probe } }

    func due(_ destination: Int, _ now: Int64) -> [QueueID: Message] {
        messages.filter { $0.value.destination == destination && $0.value.place == .waiting && $0.value.due <= now }
    }

    func deadline(_ id: QueueID, _ message: Message) -> Int64 {
        (Self.schedule.deadline(received: id.time, isWarned: message.isWarned) - epoch).milliseconds / 1000
    }

    /// Attempts in flight for destinations of these paces.
    func inFlight(_ paces: Set<Pace>) -> Int {
        (0..<6).filter { paces.contains(hosts[$0]?.pace ?? .unknown) }.reduce(0) { $0 + inFlight($1) }
    }

    /// Whether its share lets the destination have one more place, of eight.
    func hasShare(_ pace: Pace, here: Int) -> Bool {
        if Set(messages.values.map(\.destination)).count <= 1 { return true }
        if here > 0, inFlight() >= 7 { return false }
        switch pace {
        case .quick: return true
        case .unknown: return inFlight([.unknown, .slow]) < (here == 0 ? 6 : 5)
        case .slow: return inFlight([.unknown, .slow]) < 5 || inFlight([.slow]) < 1
        }
    }

    /// Whether the destination has places, and its share does not let it have another.
    func isHeldBack(_ destination: Int) -> Bool {
        let (host, here) = (hosts[destination] ?? Host(), inFlight(destination))
        return here > 0 && !host.isBackingOff && !hasShare(host.pace, here: here)
    }

    /// Something happened to the destination.
    mutating func touched(_ destination: Int) {
        hosts[destination, default: Host()].isHeldBack = isHeldBack(destination)
    }

    /// What the destination may have taken of it now; nil: nothing.
    enum Allowed: Equatable { case attempt, probe, resolve(Set<QueueID>) }

    func allowed(_ destination: Int, _ now: Int64) -> Allowed? {
        let host = hosts[destination] ?? Host()
        let due = due(destination, now)
        if due.isEmpty || inFlight() >= Self.attempts { return nil }
        let here = inFlight(destination)
        guard host.isBackingOff else {
            return here < min(host.window, Self.perDestination) && hasShare(host.pace, here: here) ? .attempt : nil
        }
        if here >= Self.perDestination { return nil }
        let owed = due.filter { deadline($0.key, $0.value) <= now }
        func mayResolve(_ id: QueueID, _ message: Message) -> Bool {
            !Self.schedule.isEnd(isWarned: message.isWarned) || host.tried >= deadline(id, message)
        }
        // If the end of the first in line has come since the host was last tried, it goes as the next probe. Of many, not
        // all stand in line yet.
        if let first = owed.min(by: { (deadline($0.key, $0.value), $0.key) < (deadline($1.key, $1.value), $1.key) }),
            mayResolve(first.key, first.value)
        {
            return .resolve(Set(owed.filter { mayResolve($0.key, $0.value) }.keys))
        }
        let isProbing = messages.values.contains { $0.destination == destination && $0.place == .probe }
        let mayProbe = !isProbing && probes < Self.attempts / 2 && hasShare(.slow, here: 0)
        return host.until <= now && mayProbe ? .probe : nil
    }

    mutating func ended(_ id: QueueID, _ report: HostReport, _ now: Int64) {
        guard let message = messages[id], message.place != .resolving else { return }
        var host = hosts[message.destination] ?? Host()
        let isProbe = message.place == .probe
        if now - message.began > 10 { host.pace = .slow } else if report == .answered { host.pace = .quick }
        switch report {
        case .answered:
            host.window = .max
            host.isBackingOff = false
        case .unreachable:
            if !host.isBackingOff {
                host.window = min(host.window, Self.perDestination) / 2
                if host.window == 0 {
                    host.window = 1
                    host.isBackingOff = true
                    host.pace = .slow
                    host.probes = 0
                    host.tried = message.began
                    host.until = now + Self.schedule.probeInterval(after: 0).milliseconds / 1000
                }
            } else if isProbe {
                host.probes += 1
                host.pace = .slow
                host.tried = message.began
                host.until = now + Self.schedule.probeInterval(after: host.probes).milliseconds / 1000
            }
        // BackOffTests has these.
        case .paced: break
        case .unknown:
            if host.isBackingOff, isProbe {
                host.until = now + Self.schedule.probeInterval(after: host.probes).milliseconds / 1000
            }
        }
        hosts[message.destination] = host
    }

    mutating func forgetBackOff(_ destination: Int) {
        if hosts[destination]?.isBackingOff == true { hosts[destination] = Host() }
    }

    /// Nothing is known of a destination that has no envelope.
    mutating func forgetEmpty() {
        let used = Set(messages.values.map(\.destination))
        for (destination, host) in hosts where !used.contains(destination) {
            hosts[destination] = host.pace == .quick ? Host(pace: .quick) : nil
        }
    }
}

@Suite struct QueueModelTests {
    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func random(seed: UInt64) async {
        var random = SeededGenerator(seed: seed)
        var queue = QueueMachine(
            limits: .init(attempts: Model.attempts, attemptsPerDestination: Model.perDestination),
            schedule: Model.schedule)
        var model = Model()
        var now: Int64 = 0
        var counts = (attempts: 0, probes: 0, resolved: 0, cameBack: 0, retriesBeforeNew: 0)
        /// Destinations that answer, and those that do not; it changes.
        var isDead = (0..<6).map { $0 % 2 == 0 }

        for step in 1...2500 {
            switch random.below(20) {
            case 0...6:
                let id = QueueID(high: UInt64(time(now).milliseconds) << 16, low: UInt64(step))
                let due = random.below(4) == 0 ? now + Int64(random.below(40)) : now
                let attempts = UInt32(random.below(3))
                let destination = random.below(6)
                queue.added(
                    QueuedSummary(
                        id: id, received: time(now), due: time(due), attempts: attempts, isHeld: false,
                        isWarned: false, destination: "d\(destination)"))
                model.messages[id] = .init(due: due, isNew: attempts == 0, isWarned: false, destination: destination)
                model.touched(destination)
            case 7...9: now += Int64(random.below(15))
            case 10: now += Int64(random.below(200))
            case 11: isDead[random.below(6)].toggle()
            case 12:
                guard let id = some(model.messages.keys, &random) else { continue }
                command(id, &queue, &model, now, &random)
            case 13:
                guard random.below(10) == 0 else { continue }
                let destination = random.below(6)
                _ = queue.flush(destination: "d\(destination)", now: time(now))
                model.forgetBackOff(destination)
                for (id, message) in model.messages
                where message.destination == destination && message.place == .waiting {
                    model.messages[id]?.due = min(message.due, now)
                }
                model.touched(destination)
            default:
                let flying = model.messages.filter { $0.value.place != .waiting && $0.value.place != .held }.keys
                for _ in 0..<3 {
                    guard let id = some(flying, &random), let message = model.messages[id] else { break }
                    if message.place == .waiting { continue }
                    let report: HostReport =
                        random.below(12) == 0
                        ? .unknown : isDead[message.destination] ? .unreachable(refused) : .answered
                    end(id, report, &queue, &model, now, &random, &counts.cameBack)
                }
            }
            model.forgetEmpty()
            take(&queue, &model, now, &counts)
            if step % 64 == 0 { await Task.yield() }
            #expect(queue.count == model.messages.count)
            #expect(queue.inFlight == model.inFlight())
            #expect(queue.heldCount == model.messages.values.count { $0.place == .held })
        }
        // All of it has happened.
        #expect(counts.attempts > 200 && counts.probes > 20 && counts.cameBack > 3 && counts.retriesBeforeNew > 3)
        #expect(counts.resolved > 0)

        // Everything that is left comes out in the end, however dead its destination is.
        for round in 1...100_000 {
            if model.messages.isEmpty { break }
            now += 50
            take(&queue, &model, now, &counts)
            for (id, message) in model.messages {
                switch message.place {
                case .held:
                    _ = try? queue.claim(id)
                    queue.released(id, now: time(now))
                    model.messages[id]?.place = .waiting
                    model.messages[id]?.due = now
                    model.messages[id]?.isNew = true
                case .inFlight, .probe, .resolving:
                    model.ended(id, .answered, now)
                    _ = queue.ended(id, report: .answered, now: time(now))
                    model.messages[id] = nil
                case .waiting: break
                }
            }
            model.forgetEmpty()
            #expect(round < 5000)
            if round >= 5000 { return }
        }
        #expect(queue.count == 0)
    }

    private func some(_ ids: some Sequence<QueueID>, _ random: inout SeededGenerator) -> QueueID? {
        let ids = ids.sorted()
        return ids.isEmpty ? nil : ids[random.below(ids.count)]
    }

    /// An operator asks for something.
    private func command(
        _ id: QueueID, _ queue: inout QueueMachine, _ model: inout Model, _ now: Int64, _ random: inout SeededGenerator
    ) {
        guard let message = model.messages[id] else { return }
        let isFlush = random.below(2) == 0
        // What is refused changes nothing.
        let isRefused = message.place != .waiting && (isFlush || message.place != .held)
        defer { if !isRefused { model.touched(message.destination) } }
        if isFlush {
            let isDone = (try? queue.flush(id, now: time(now))) != nil
            switch message.place {
            case .waiting:
                #expect(isDone)
                model.forgetBackOff(message.destination)
                model.messages[id]?.due = now
                model.messages[id]?.isNew = true
                model.messages[id]?.mayBeParked = false
            case .inFlight, .probe: #expect(isDone)
            case .resolving, .held: #expect(!isDone)
            }
            return
        }
        let wasHeld = try? queue.claim(id)
        switch message.place {
        case .inFlight, .probe, .resolving: #expect(wasHeld == nil)
        case .waiting:
            #expect(wasHeld == false)
            queue.held(id)
            model.messages[id]?.place = .held
            model.messages[id]?.mayBeParked = false
        case .held:
            #expect(wasHeld == true)
            queue.released(id, now: time(now))
            model.messages[id]?.place = .waiting
            model.messages[id]?.due = now
            model.messages[id]?.isNew = true
        }
    }

    /// An attempt ends.
    private func end(
        _ id: QueueID, _ report: HostReport, _ queue: inout QueueMachine, _ model: inout Model, _ now: Int64,
        _ random: inout SeededGenerator, _ cameBack: inout Int
    ) {
        guard let message = model.messages[id] else { return }
        let wasBackingOff = model.hosts[message.destination]?.isBackingOff ?? false
        model.ended(id, report, now)
        let change: DestinationChange?
        if report == .answered, random.below(3) > 0 {
            change = queue.ended(id, report: report, now: time(now))
            model.messages[id] = nil
        } else {
            let next = now + 20 + Int64(random.below(60))
            // A part may be delivered: what is left may be for somebody else.
            let destination = random.below(10) == 0 ? random.below(6) : message.destination
            let isWarned = message.isWarned || message.place == .resolving
            change = queue.attempted(
                id, next: time(next), destination: "d\(destination)", isWarned: isWarned, report: report,
                now: time(now))
            model.messages[id] = .init(due: next, isNew: false, isWarned: isWarned, destination: destination)
            model.touched(destination)
        }
        model.touched(message.destination)
        if case .cameBack = change { cameBack += 1 }
        let isBackingOff = model.hosts[message.destination]?.isBackingOff ?? false
        #expect((change == .cameBack("d\(message.destination)")) == (wasBackingOff && !isBackingOff))
    }

    /// All that can be taken now: each as the rules allow it, and nothing that they allow is left.
    private func take(
        _ queue: inout QueueMachine, _ model: inout Model, _ now: Int64,
        _ counts: inout (attempts: Int, probes: Int, resolved: Int, cameBack: Int, retriesBeforeNew: Int)
    ) {
        for (id, message) in model.messages where message.place == .waiting && message.due <= now {
            if model.hosts[message.destination]?.isBackingOff == true { model.messages[id]?.mayBeParked = true }
        }
        // Turns: who could be served all the time is served before another is for the third time.
        var turns: [Int: Int] = [:]
        // Slow ones are served last.
        var passedOver = Set(
            (0..<6).filter {
                let host = model.hosts[$0] ?? Model.Host()
                return model.allowed($0, now) != nil && !host.isHeldBack && (host.pace != .slow || host.isBackingOff)
            })
        for taken in queue.takeAll(time(now)) {
            guard let message = model.messages[taken.id] else {
                Issue.record("taken, and not there")
                return
            }
            let destination = message.destination
            let allowed = model.allowed(destination, now)
            #expect(message.place == .waiting && message.due <= now)
            switch allowed {
            case nil: Issue.record("taken at \(now), and not allowed")
            case .resolve(let owed):
                #expect(taken.failure == refused && owed.contains(taken.id))
                model.messages[taken.id]?.place = .resolving
                counts.resolved += 1
            case .probe:
                #expect(taken.failure == nil)
                model.messages[taken.id]?.began = now
                model.messages[taken.id]?.place = .probe
                counts.probes += 1
            case .attempt:
                #expect(taken.failure == nil)
                counts.attempts += 1
                let due = model.due(destination, now).filter { $0.key != taken.id }
                let isNew = message.isNew && !message.mayBeParked
                var host = model.hosts[destination] ?? Model.Host()
                if !isNew { host.newInARow = 0 }
                if isNew || message.isNew { host.othersInARow = 0 }
                if isNew, due.values.contains(where: { !$0.isNew }) { host.newInARow += 1 }
                if !message.isNew, due.values.contains(where: { $0.isNew && !$0.mayBeParked }) {
                    host.othersInARow += 1
                    counts.retriesBeforeNew += 1
                }
                model.hosts[destination] = host
                #expect(host.newInARow <= 3)
                #expect(host.othersInARow <= 1)
                // The earliest of its kind.
                if isNew { #expect(due.values.allSatisfy { !$0.isNew || $0.mayBeParked || $0.due >= message.due }) }
                model.messages[taken.id]?.began = now
                model.messages[taken.id]?.place = .inFlight
            }
            turns[destination, default: 0] += 1
            passedOver = passedOver.filter { $0 != destination && model.allowed($0, now) != nil }
            if let count = turns[destination], count >= 3 {
                #expect(passedOver.isEmpty, "d\(destination) was served thrice before \(passedOver)")
            }
        }
        for destination in 0..<6 {
            let isLeft = model.allowed(destination, now) != nil && model.hosts[destination]?.isHeldBack != true
            if model.isHeldBack(destination) { model.hosts[destination, default: .init()].isHeldBack = true }
            #expect(
                !isLeft,
                """
                something is left for d\(destination) at \(now): \(model.hosts[destination] ?? .init()), here \
                \(model.inFlight(destination)) of \(model.inFlight()), unproven \(model.inFlight([.unknown, .slow])), \
                slow \(model.inFlight([.slow])), destinations \(Set(model.messages.values.map(\.destination)))
                """)
        }
    }
}
