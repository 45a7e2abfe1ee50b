// What one session has looked up, and what it is looking up: each fact is begun once, awaited by whoever needs it, and ends
// with the session. SessionGate has one if the rules, lists or services of its edge need facts that take time.

package import NIOCore
package import SlimtaMail
package import SlimtaRules

/// The lookups of a session. Confined to its event loop.
///
/// ```
/// begin, values ──▶ running ──▶ known      by an answer, or by the end of its time: then it has failed, which is known too
///                      └──▶ replaced       by another subject: a new EHLO, a new MAIL
/// end ──▶ all are cancelled
/// ```
package final class SessionLookups {
    /// What is asked about, beside the client.
    package typealias Subject = LookupSubject

    /// Facts that are known, those that nobody could find out too.
    package struct Known: Sendable {
        /// What the client's address is called; nil: not asked for, or not known yet. The others the same.
        package var ptr: PTRFact?
        /// Whether the client may send for the sender's domain.
        package var spf: SPFFact?
        /// By the names of lists.
        package var listings: [String: ListingFact] = [:]

        /// Nothing.
        package init() {}

        /// Adds them to what a session knows by itself.
        package func fill(_ facts: inout Facts) {
            if let ptr { facts.ptr = ptr }
            if let spf { facts.spf = spf }
            facts.listings.merge(listings) { $1 }
        }

        fileprivate mutating func add(_ value: LookupValue, of fact: Fact) {
            switch value {
            case .ptr(let value): ptr = value
            case .spf(let value): spf = value
            case .listing(let value): if case .dnsbl(let name) = fact { listings[name] = value }
            }
        }
    }

    private struct Entry {
        let key: LookupPlan.Key
        let number: UInt64
        let transaction: UInt64
        var value: LookupValue?
        var task: Task<Void, Never>?
        var timer: Scheduled<Void>?
        /// Until when it counts although it has failed.
        var end: NIODeadline?

        func isFresh(at now: NIODeadline) -> Bool { end.map { now < $0 } ?? false }
    }

    private struct Waiter {
        /// By the numbers of their entries.
        var missing: [Fact: UInt64] = [:]
        var known = Known()
        let completion: (Known) -> Void
    }

    /// For tasks and timers, which must not keep a session alive.
    private struct Reference {
        weak var lookups: SessionLookups?
    }

    private let lookups: Lookups
    private let client: LookupPlan.Client
    private let loop: any EventLoop
    private var entries: [Fact: Entry] = [:]
    private var waiters: [Waiter] = []
    private var next: UInt64 = 0
    private var hasEnded = false

    init(_ lookups: Lookups, client: LookupPlan.Client, loop: any EventLoop) {
        (self.lookups, self.client, self.loop) = (lookups, client, loop)
    }

    deinit { for entry in entries.values { entry.task?.cancel() } }

    /// How many are being looked up.
    var runningCount: Int { entries.values.count { $0.value == nil } }

    /// Begins to look up those of `facts` that can be known about `subject`. Those that were begun about it before go on.
    package func begin(_ facts: some Sequence<Fact>, about subject: Subject) {
        guard !hasEnded else { return }
        for fact in facts { begin(fact, subject) }
    }

    /// Calls `completion` once, on the event loop, when all `facts` are known: within this call if they are already. What is
    /// not begun yet is begun. Each fact becomes known, at the latest when its time is over; one that needs what `subject`
    /// does not have is known to have failed. After ``end()`` nobody is called.
    package func values(_ facts: Set<Fact>, about subject: Subject, completion: @escaping (Known) -> Void) {
        guard !hasEnded else { return }
        begin(facts, about: subject)
        var waiter = Waiter(completion: completion)
        for fact in facts {
            switch LookupPlan(fact, about: subject, of: client, lookups) {
            case .later: waiter.known.add(.failed(fact, "nothing is known yet that could be looked up"), of: fact)
            case .known, .lookUp:
                guard let entry = entries[fact] else { continue }
                if let value = entry.value {
                    waiter.known.add(value, of: fact)
                } else {
                    waiter.missing[fact] = entry.number
                }
            }
        }
        if waiter.missing.isEmpty { completion(waiter.known) } else { waiters.append(waiter) }
    }

    /// What of it is known now about `subject`.
    package func known(about subject: Subject) -> Known {
        var known = Known()
        for (fact, entry) in entries {
            guard let value = entry.value, LookupPlan(fact, about: subject, of: client, lookups).key == entry.key else {
                continue
            }
            known.add(value, of: fact)
        }
        return known
    }

    /// The session is over: what runs is cancelled, who waits is not called.
    package func end() {
        hasEnded = true
        waiters = []
        for fact in Array(entries.keys) { _ = remove(fact) }
    }

    // MARK: One fact

    private func begin(_ fact: Fact, _ subject: Subject) {
        let plan = LookupPlan(fact, about: subject, of: client, lookups)
        guard let key = plan.key, !has(fact, key, subject) else { return }
        if let old = remove(fact) {
            settle(fact, old, .failed(fact, "the session has gone on"))
        }
        let number = next
        next += 1
        var entry = Entry(key: key, number: number, transaction: subject.transaction)
        switch plan {
        case .later: return
        case .known(_, let value):
            entry.value = value
            if value.hasFailed { lookups.count(value, of: fact) }
        case .lookUp(_, let limit, let work): run(work, limit: limit, fact, &entry)
        }
        entries[fact] = entry
    }

    /// Whether it was begun, and need not be again. What failed is tried once more for the next message; but whose names
    /// nobody knows would wait for them with each.
    private func has(_ fact: Fact, _ key: LookupPlan.Key, _ subject: Subject) -> Bool {
        guard let entry = entries[fact], entry.key == key else { return false }
        if entry.transaction == subject.transaction || entry.value?.hasFailed != true { return true }
        switch fact {
        case .ptr: return entry.isFresh(at: loop.now)
        case .spf, .dnsbl: return false
        }
    }

    private func run(_ work: @escaping LookupPlan.Work, limit: Duration, _ fact: Fact, _ entry: inout Entry) {
        let this = NIOLoopBound(Reference(lookups: self), eventLoop: loop)
        let number = entry.number
        let interim = Interim()
        entry.task = Task { [loop] in
            let value = await work(interim)
            // Cancelled by the end of its time, of its session, or by another subject: nobody waits.
            guard !Task.isCancelled else { return }
            loop.execute { this.value.lookups?.found(fact, number, value) }
        }
        entry.timer = loop.scheduleTask(in: TimeAmount(limit)) {
            this.value.lookups?.timePassed(fact, number, limit, interim)
        }
    }

    private func found(_ fact: Fact, _ number: UInt64, _ value: LookupValue) {
        guard var entry = entries[fact], entry.number == number, entry.value == nil else { return }
        entry.timer?.cancel()
        (entry.timer, entry.task, entry.value) = (nil, nil, value)
        entry.end = loop.now + TimeAmount(lookups.limits.namesKept)
        entries[fact] = entry
        lookups.count(value, of: fact)
        settle(fact, number, value)
    }

    private func timePassed(_ fact: Fact, _ number: UInt64, _ limit: Duration, _ interim: Interim) {
        guard let entry = entries[fact], entry.number == number, entry.value == nil else { return }
        entry.task?.cancel()
        lookups.timePassed(fact)
        found(fact, number, interim.value ?? .failed(fact, "no answer within \(limit)"))
    }

    /// Forgets it; its number if somebody may wait for it.
    private func remove(_ fact: Fact) -> UInt64? {
        guard let entry = entries.removeValue(forKey: fact) else { return nil }
        entry.task?.cancel()
        entry.timer?.cancel()
        return entry.value == nil ? entry.number : nil
    }

    /// Tells those who wait. They may ask for more within their call.
    private func settle(_ fact: Fact, _ number: UInt64, _ value: LookupValue) {
        var ready: [Waiter] = []
        for index in waiters.indices where waiters[index].missing[fact] == number {
            waiters[index].missing[fact] = nil
            waiters[index].known.add(value, of: fact)
            if waiters[index].missing.isEmpty { ready.append(waiters[index]) }
        }
        guard !ready.isEmpty else { return }
        waiters.removeAll { $0.missing.isEmpty }
        for waiter in ready where !hasEnded { waiter.completion(waiter.known) }
    }
}

extension Lookups {
    /// The lookups of a session that has begun.
    ///
    /// - Parameter isTrusted: whether the client may send without having logged in, by its address.
    package func session(
        client: ConnectionFacts.Endpoint, isTrusted: Bool, on loop: any EventLoop
    ) -> SessionLookups {
        SessionLookups(self, client: .init(endpoint: client, isTrusted: isTrusted), loop: loop)
    }
}
