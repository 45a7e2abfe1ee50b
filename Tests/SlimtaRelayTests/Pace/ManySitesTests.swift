// A million messages over 10,000 sites of which some are dead and some limit rates: the scheduler of the queue and the paces of
// the sites together, on a clock of its own, without a network. `make bench-sites`; in a test a thousandth of it.

import Foundation
import SlimtaMail
import SlimtaQueue
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(30)))
struct ManySitesTests {
    /// What is on the way everywhere must not wait for what is not.
    @Test func few() {
        var simulation = ManySites(sites: 200, messagesEach: 20, seed: 1)
        simulation.run()
        #expect(simulation.undelivered == 0, "\(simulation.report)")
        #expect(simulation.goodDrained < 60, "\(simulation.report)")
    }

    @Test(.enabled(if: ProcessInfo.processInfo.environment["BENCH_SITES"] != nil))
    func many() {
        let start = ContinuousClock.now
        var simulation = ManySites(sites: 10_000, messagesEach: 100, seed: 1)
        simulation.run()
        let spent = ContinuousClock.now - start
        print(simulation.report)
        print("processor time, debug build: \(spent.components.seconds) s; memory: \(Self.peakMemory) MiB at most")
        #expect(simulation.undelivered == 0)
    }

    private static var peakMemory: Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) / 1024
    }
}

/// Of twenty sites one is dead and one takes sixty messages a minute; each has the mail of one domain.
struct ManySites: ~Copyable {
    private static let start = Timestamp(milliseconds: 1_800_000_000_000)
    private static let (connect, message, timeout): (Duration, Duration, Duration) = (
        .milliseconds(300), .milliseconds(200), .seconds(30)
    )
    /// Dead ones answer again by then.
    private static let outage: Duration = .seconds(1200)
    private static let places = 500
    private static let visitor = SiteVisitor()
    private static let schedule = RetrySchedule(
        intervals: [60, 300, 900, 1800, 3600, 7200, 14_400].map { .seconds($0) }, expire: .seconds(432_000),
        warn: .seconds(14_400))

    enum Kind: CaseIterable {
        case good, dead, slow
    }

    private struct Place {
        let kind: Kind
        var machine: SiteMachine<Int>
        var line = SiteLine()
        var idle = 0
        /// What it took in the last minute.
        var taken: [Timestamp] = []
        var left: Int
        var drained: Timestamp?
        var firstDelivery: Timestamp?
    }

    private enum Event {
        case look
        case begin(UInt64)
        case connected(UInt64)
        case sent(UInt64)
    }

    private var queue: QueueMachine
    private var sites: [Place]
    private var attempts: [UInt32]
    private var ids: [QueueID]
    private let each: Int
    private var events = EventHeap<Event>()
    private var now = start
    private var nextLook: Timestamp?
    private var generator: SeededGenerator
    private(set) var undelivered: Int
    private(set) var refused = 0
    private(set) var timeouts = 0
    private(set) var postponed = 0

    init(sites count: Int, messagesEach each: Int, seed: UInt64) {
        self.each = each
        generator = SeededGenerator(seed: seed)
        queue = QueueMachine(
            limits: .init(attempts: Self.places, attemptsPerDestination: 20), schedule: Self.schedule)
        sites = (0..<count).map { number in
            let kind: Kind = number % 20 == 7 ? .dead : number % 20 == 13 ? .slow : .good
            return Place(kind: kind, machine: SiteMachine(at: Self.start), left: each)
        }
        undelivered = count * each
        attempts = Array(repeating: 0, count: count * each)
        ids = (0..<count * each).map {
            QueueID(high: UInt64(Self.start.milliseconds) << 16, low: UInt64($0))
        }
        // Message by message, as senders of many lists do.
        for number in 0..<count * each {
            queue.added(
                QueuedSummary(
                    id: ids[number], received: Self.start, due: Self.start, attempts: 0, isHeld: false,
                    destination: Self.domain(number % count)), acceptedAt: Self.start)
        }
    }

    private static func domain(_ site: Int) -> String { "d\(site).example" }

    private func site(_ message: UInt64) -> Int { Int(message) % sites.count }

    mutating func run() {
        events.push(.look, at: now)
        while undelivered > 0, let (time, event) = events.pop(), time - Self.start < .seconds(86_400) {
            now = time
            switch event {
            case .look:
                if nextLook == now { nextLook = nil }
            case .begin(let message): begin(message)
            case .connected(let message): connected(message)
            case .sent(let message): sent(message)
            }
            look()
        }
    }

    private mutating func look() {
        while true {
            let taken = queue.takeDue(now: now)
            for one in taken {
                if let failure = one.failure { end(one.id.low, failure) } else { enter(one.id.low) }
            }
            guard let due = queue.nextDue else { return }
            if due > now {
                if nextLook.map({ due < $0 || $0 < now }) ?? true {
                    nextLook = due
                    events.push(.look, at: due)
                }
                return
            }
            if taken.isEmpty {
                events.push(.look, at: now + .milliseconds(5))
                return
            }
        }
    }

    private mutating func enter(_ message: UInt64) {
        let number = site(message)
        let loser = sites[number].line.join(message, for: Self.domain(number), Self.visitor, capacity: 100)
        serve(number)
        if let loser { postpone(loser, .seconds(5)) }
    }

    private mutating func serve(_ number: Int) {
        while !sites[number].line.isEmpty {
            switch sites[number].machine.turn(at: now) {
            case .full: return
            case .go(let time):
                guard let message = sites[number].line.next() else { return }
                events.push(.begin(message), at: time)
            case .wait(let time):
                while let message = sites[number].line.next() { postpone(message, time - now + .seconds(1)) }
            }
        }
    }

    private mutating func begin(_ message: UInt64) {
        let number = site(message)
        if sites[number].idle > 0 {
            sites[number].idle -= 1
            events.push(.sent(message), at: now + Self.message)
        } else if sites[number].machine.choose(from: [[0]], at: now) != nil {
            let isDead = sites[number].kind == .dead && now - Self.start < Self.outage
            events.push(.connected(message), at: now + (isDead ? Self.timeout : Self.connect))
        } else {
            let until = sites[number].machine.reachable([0], at: now)
            leave(number)
            var outcome = Self.unreachable
            outcome.postponed = until - now
            postponed += 1
            end(message, outcome)
        }
    }

    private static let unreachable = Outcome(
        .temporary, Reply(451, EnhancedStatus(4, 4, 1), "timed out"), isHostFailure: true)

    private mutating func connected(_ message: UInt64) {
        let number = site(message)
        guard sites[number].kind == .dead, now - Self.start - Self.timeout < Self.outage,
            now - Self.start >= Self.timeout
        else {
            sites[number].machine.opened(0)
            events.push(.sent(message), at: now + Self.message)
            return
        }
        timeouts += 1
        _ = sites[number].machine.failed(0, nil, at: now, jitter: Double.random(in: -1...1, using: &generator))
        leave(number)
        end(message, Self.unreachable)
    }

    private mutating func sent(_ message: UInt64) {
        let number = site(message)
        let pair = GreylistMemory.Pair(sender: "s", recipient: "r\(message)")
        sites[number].taken.removeAll { now - $0 >= .seconds(60) }
        if sites[number].kind == .slow, sites[number].taken.count >= 60 {
            refused += 1
            let reply = Reply(450, EnhancedStatus(4, 7, 1), "rate limit")
            var outcome = Outcome(.temporary, reply, isRemote: true)
            let disposition = sites[number].machine.refused(
                reply, pair, at: now, spread: Double.random(in: 0...1, using: &generator))
            if case .postponed(let until) = disposition {
                postponed += 1
                outcome.postponed = until - now
            }
            done(number)
            end(message, outcome)
            return
        }
        if sites[number].kind == .slow { sites[number].taken.append(now) }
        sites[number].machine.accepted([pair], at: now)
        sites[number].left -= 1
        sites[number].firstDelivery = sites[number].firstDelivery ?? now
        if sites[number].left == 0 { sites[number].drained = now }
        undelivered -= 1
        _ = queue.ended(ids[Int(message)], report: .answered, now: now)
        done(number)
    }

    /// The session waits for the next message.
    private mutating func done(_ number: Int) {
        sites[number].idle += 1
        leave(number)
    }

    private mutating func leave(_ number: Int) {
        sites[number].machine.leave()
        serve(number)
    }

    private mutating func postpone(_ message: UInt64, _ wait: Duration) {
        postponed += 1
        var outcome = Outcome(.temporary, Reply(451, EnhancedStatus(4, 4, 5), "waits"))
        outcome.postponed = wait
        end(message, outcome)
    }

    /// As AttemptResolution and the queue's driver have it.
    private mutating func end(_ message: UInt64, _ outcome: Outcome) {
        let number = Int(message)
        let report: HostReport =
            outcome.isHostFailure ? .unreachable(outcome) : outcome.postponed.map { .paced($0) } ?? .answered
        let wait: Duration
        if let postponed = outcome.postponed {
            wait = postponed
        } else {
            attempts[number] += 1
            let age = AttemptAge(begun: now - Self.start, ended: now - Self.start)
            wait = Self.schedule.wait(after: attempts[number], age) ?? .zero
        }
        _ = queue.attempted(
            ids[number], next: now + wait, destination: Self.domain(site(message)), isWarned: false, report: report,
            now: now)
    }

    // MARK: Figures

    private func seconds(_ time: Timestamp?) -> Double {
        time.map { Double(($0 - Self.start).milliseconds) / 1000 } ?? .infinity
    }

    /// When the last message for a good site was there.
    var goodDrained: Double { drained(.good).last ?? 0 }

    private func drained(_ kind: Kind) -> [Double] {
        sites.filter { $0.kind == kind }.map { seconds($0.drained) }.sorted()
    }

    var report: String {
        var lines = [
            "\(sites.count * each) messages over \(sites.count) sites, \(Self.places) places: \(undelivered) not delivered, "
                + "\(refused) refused, \(timeouts) time-outs, \(postponed) postponed"
        ]
        for kind in Kind.allCases {
            let all = drained(kind)
            guard !all.isEmpty else { continue }
            let first = sites.filter { $0.kind == kind }.map { seconds($0.firstDelivery) }.sorted()
            let (half, last) = (all.count / 2, all.count - 1)
            lines.append(
                "  \(kind): \(all.count) sites; first message after \(first[half]) s in the middle, \(first[last]) s at "
                    + "most; drained after \(all[0]) s at least, \(all[half]) s in the middle, \(all[last]) s at most")
        }
        return lines.joined(separator: "\n")
    }
}
