// A backlog for one site, and the site: discrete events on a clock of their own, no sockets and no waiting. A minute of simulated
// trouble takes milliseconds, and is the same in every run. Used by SiteSimulationTests.

import SlimtaMail
import TestKit

@testable import SlimtaRelay

/// What the receiving side does.
struct SimulatedSite {
    var hosts = 1
    /// Those that do not answer.
    var dead: Set<Int> = []
    /// When the dead ones answer again.
    var comesBack: Timestamp?
    /// Sessions that a host takes at a time; one more is answered with 421.
    var connections: Int?
    /// Messages that it takes in any minute.
    var perMinute: Int?
    /// Whether those that it refused count as well.
    var countsRefused = false
    /// How long a refusal blocks all.
    var penalty: Duration = .zero
    /// How long somebody who is new waits.
    var greylist: Duration?

    private var open: [Int: Int] = [:]
    private var taken: [Timestamp] = []
    private var blocked = SiteSimulator.start
    private var seen: [Int: Timestamp] = [:]

    init() {}

    enum Answer {
        case open, refused, nothing
    }

    mutating func connect(_ host: Int, _ now: Timestamp) -> Answer {
        if dead.contains(host), comesBack.map({ now <= $0 }) ?? true { return .nothing }
        if let connections, open[host, default: 0] >= connections { return .refused }
        open[host, default: 0] += 1
        return .open
    }

    mutating func close(_ host: Int) { open[host, default: 0] -= 1 }

    /// nil: accepted.
    mutating func message(_ number: Int, _ now: Timestamp) -> Reply? {
        if let greylist {
            let first = seen[number] ?? now
            seen[number] = first
            if now - first < greylist { return Reply(450, EnhancedStatus(4, 2, 0), "greylisted, come back later") }
        }
        if let perMinute {
            taken.removeAll { now - $0 >= .seconds(60) }
            if now < blocked || taken.count >= perMinute {
                if countsRefused { taken.append(now) }
                blocked = max(blocked, now + penalty)
                return Reply(450, nil, "rate limit")
            }
            taken.append(now)
        }
        return nil
    }
}

/// Messages for a site, sent as ``SiteMachine`` says.
struct SiteSimulator {
    /// What it came to.
    struct Result: CustomStringConvertible {
        /// When the last one was accepted; nil: not all were.
        var drained: Double?
        /// Sessions and messages that were refused.
        var refused = 0
        var timeouts = 0
        var sessions = 0

        var description: String {
            "drained after \(drained.map { "\(Int($0)) s" } ?? "more than a day"), \(refused) refused, \(timeouts) time-outs, "
                + "\(sessions) sessions"
        }
    }

    static let start = Timestamp(milliseconds: 1_800_000_000_000)
    /// Up to EHLO after TLS; a message; a host that does not answer; one that says 421.
    private static let (connect, message, timeout, refusal): (Duration, Duration, Duration, Duration) = (
        .milliseconds(300), .milliseconds(200), .seconds(30), .milliseconds(50)
    )
    private static let limit: Duration = .seconds(86_400)

    private struct Message {
        var tried: Set<Int> = []
        var done: Timestamp?
    }

    private enum Event {
        case pump
        case begin(Int, host: Int)
        case connected(Int, host: Int, SimulatedSite.Answer)
        case sent(Int, host: Int)
        case due(Int)
    }

    private var site: SimulatedSite
    private var machine: SiteMachine<Int>
    private var messages: [Message]
    private var ready: [Int]
    private var events = EventHeap<Event>()
    private var now = start
    private var nextPump = start
    private var undone: Int
    private var generator: SeededGenerator
    private var result = Result()

    init(_ site: SimulatedSite, messages count: Int, seed: UInt64) {
        self.site = site
        machine = SiteMachine(at: Self.start)
        messages = Array(repeating: Message(), count: count)
        ready = Array(0..<count)
        undone = count
        generator = SeededGenerator(seed: seed)
    }

    /// Runs until all are accepted, or a day has passed.
    mutating func run() -> Result {
        pump()
        while undone > 0, let (time, event) = events.pop(), time - Self.start < Self.limit {
            now = time
            switch event {
            case .pump: pump()
            case .begin(let number, let host): begin(number, host)
            case .connected(let number, let host, let answer): connected(number, host, answer)
            case .sent(let number, let host): sent(number, host)
            case .due(let number):
                ready.append(number)
                pump()
            }
        }
        if undone == 0 {
            let last = messages.compactMap(\.done).max() ?? now
            result.drained = Double((last - Self.start).milliseconds) / 1000
        }
        return result
    }

    private mutating func random(_ range: ClosedRange<Double>) -> Double { Double.random(in: range, using: &generator) }

    private mutating func pump() {
        loop: while !ready.isEmpty {
            switch machine.turn(at: now) {
            case .go(let time):
                let number = ready.removeFirst()
                if let host = chooseHost(number) {
                    result.sessions += 1
                    events.push(.begin(number, host: host), at: time)
                } else {
                    machine.leave()
                    unreachable(number)
                }
            case .wait, .full: break loop
            }
        }
        // Ceilings and pauses end by themselves.
        if !ready.isEmpty, nextPump <= now {
            nextPump = now + .seconds(1)
            events.push(.pump, at: nextPump)
        }
    }

    private mutating func chooseHost(_ number: Int) -> Int? {
        let hosts = (0..<site.hosts).shuffled(using: &generator).filter { !messages[number].tried.contains($0) }
        return machine.choose(from: [hosts], at: now)
    }

    private mutating func unreachable(_ number: Int) {
        messages[number].tried = []
        let time = machine.reachable(Array(0..<site.hosts), at: now)
        events.push(.due(number), at: time + .seconds(random(0...2)))
    }

    private mutating func begin(_ number: Int, _ host: Int) {
        let answer = site.connect(host, now)
        let time =
            switch answer {
            case .open: Self.connect
            case .refused: Self.refusal
            case .nothing: Self.timeout
            }
        events.push(.connected(number, host: host, answer), at: now + time)
    }

    private mutating func connected(_ number: Int, _ host: Int, _ answer: SimulatedSite.Answer) {
        let reply: Reply?
        switch answer {
        case .open:
            machine.opened(host)
            events.push(.sent(number, host: host), at: now + Self.message)
            return
        case .refused:
            result.refused += 1
            reply = Reply(421, EnhancedStatus(4, 7, 0), "too many connections")
        case .nothing:
            result.timeouts += 1
            reply = nil
        }
        switch machine.failed(host, reply, at: now, jitter: random(-1...1)) {
        case .waitForPlace:
            machine.leave()
            ready.insert(number, at: 0)
        case .nextHost:
            messages[number].tried.insert(host)
            if let next = chooseHost(number) {
                result.sessions += 1
                events.push(.begin(number, host: next), at: now)
            } else {
                machine.leave()
                unreachable(number)
            }
        }
        pump()
    }

    private mutating func sent(_ number: Int, _ host: Int) {
        messages[number].tried = []
        let pair = GreylistMemory.Pair(sender: "s@example.com", recipient: "r\(number)@example.net")
        if let reply = site.message(number, now) {
            result.refused += 1
            let disposition = machine.refused(reply, pair, at: now, spread: random(0...1))
            let time: Timestamp
            switch disposition {
            // The first step of the retry schedule.
            case .own: time = now + .seconds(60 * random(1...1.2))
            case .postponed(let until), .retry(let until): time = until
            case .fewerRecipients, .newSession: time = now
            }
            events.push(.due(number), at: time)
        } else {
            machine.accepted([pair], at: now)
            messages[number].done = now
            undone -= 1
        }
        if !ready.isEmpty, let slot = machine.next(at: now) {
            events.push(.sent(ready.removeFirst(), host: host), at: slot + Self.message)
            return
        }
        site.close(host)
        machine.closed()
        machine.leave()
        pump()
    }
}

/// What comes next: a binary heap; what is of one time stays in its order.
struct EventHeap<Event> {
    private var items: [(time: Timestamp, number: Int, event: Event)] = []
    private var counter = 0

    mutating func push(_ event: Event, at time: Timestamp) {
        items.append((time, counter, event))
        counter += 1
        var place = items.count - 1
        while place > 0, isBefore(place, (place - 1) / 2) {
            items.swapAt(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    mutating func pop() -> (Timestamp, Event)? {
        guard !items.isEmpty else { return nil }
        items.swapAt(0, items.count - 1)
        let last = items.removeLast()
        var place = 0
        while true {
            let children = [2 * place + 1, 2 * place + 2].filter { $0 < items.count }
            guard let least = children.min(by: isBefore), isBefore(least, place) else { break }
            items.swapAt(place, least)
            place = least
        }
        return (last.time, last.event)
    }

    private func isBefore(_ a: Int, _ b: Int) -> Bool {
        (items[a].time, items[a].number) < (items[b].time, items[b].number)
    }
}
