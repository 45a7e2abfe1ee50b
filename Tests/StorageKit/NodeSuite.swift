// What storages owe of which several have parts of one queue. Run for MemoryStorage; whoever writes one for a cluster runs
// it too.

import SlimtaMail
import SlimtaQueue

/// One thing that storages of several nodes owe.
package struct NodeCheck: Sendable, CustomStringConvertible {
    package let description: String
    /// On a place where nothing is yet.
    package let run: @Sendable (any SharedPlace) async throws -> Void
}

/// What storages owe that share a queue.
package enum NodeSuite {
    /// Each is to be run on a place of its own.
    package static let checks: [NodeCheck] = [
        NodeCheck(description: "buckets change hands", run: handOver),
        NodeCheck(description: "a node that is taken for dead", run: fenced),
        NodeCheck(description: "a node that ends", run: ended),
        NodeCheck(description: "doubt about new mail", run: doubtfulAcceptance),
        NodeCheck(description: "doubt about an outcome", run: doubtfulOutcome),
        NodeCheck(description: "away", run: away),
        NodeCheck(description: "commands for what another node has", run: commands),
        NodeCheck(description: "a command for all nodes", run: commandForAll),
        NodeCheck(description: "mail of a node that delivers none", run: edge),
        NodeCheck(description: "doubt about mail with a key that others deliver", run: doubtfulKey),
        NodeCheck(description: "nobody delivers", run: nobodyDelivers),
    ]

    /// Two nodes, of which the first has all.
    private static func two(_ place: any SharedPlace) async throws -> (Bench, Bench) {
        let first = try await Bench(place, try await place.open(node: "first"))
        return (first, try await Bench(place, try await place.open(node: "second")))
    }

    private static func close(_ benches: Bench...) async {
        for bench in benches { await bench.storage.close() }
    }

    static func handOver(_ place: any SharedPlace) async throws {
        let (first, second) = try await two(place)
        let envelopes = try await withBuckets(first)
        let moved = envelopes[0]
        let buckets = QueueBuckets(numbers: [moved.id.bucket])
        await place.move(buckets, to: "second")
        try await first.eventually("an owner is asked before buckets change hands") {
            $0.contains { if case .releasing(let told) = $0 { told.numbers == buckets.numbers } else { false } }
        }
        try demand(second.events.ours.isEmpty, "nobody has them until the owner has answered")
        // What was under way may end.
        var state = EnvelopeState(of: moved, due: Bench.due)
        state.attempts = 1
        try await first.storage.commit(QueueCommit(states: [state]))
        first.storage.released(buckets)
        try await second.eventually("then the other has them") { _ in second.events.ours[moved.id] != nil }
        try demand(second.events.ours.keys.allSatisfy(buckets.contains), "and nothing else")
        try demand(second.events.ours[moved.id]?.attempts == 1, "as they are")
        try demand(await first.outcome(QueueCommit(states: [state])) == .lost, "who had them changes nothing more")
        try demand(await first.failure(of: moved.id) == .lost, "nor reads")
        try demand(await second.outcome(QueueCommit(states: [state])) == nil, "who has them does")
        for _ in 0..<50 {
            try demand(
                !buckets.contains(first.storage.newID(at: Bench.due)), "new mail goes into the node's own buckets")
            try demand(buckets.contains(second.storage.newID(at: Bench.due)), "of the other as well")
        }
        await close(first, second)
    }

    static func fenced(_ place: any SharedPlace) async throws {
        let (first, second) = try await two(place)
        let envelopes = try await withBuckets(first)
        let before = try await second.storage.ledger()
        await place.fence("first", heir: "second")
        try await second.eventually("the heir has all of it") { _ in second.events.ours.count == envelopes.count }
        try await first.eventually("the node hears of it") { _ in
            first.events.events.contains {
                switch $0 {
                case .withdrawn(let ids): Set(ids) == Set(envelopes.map(\.id))
                case .releasing(let buckets): envelopes.allSatisfy { buckets.contains($0.id) }
                case .acquired, .command, .sites: false
                }
            }
        }
        for envelope in envelopes {
            let ending = QueueCommit(ended: [Ending(id: envelope.id, delivered: 1)])
            try demand(await first.outcome(ending) == .lost, "nothing that it records counts")
        }
        var both = Bench.acceptance([first.envelope(beside: envelopes[0].id)])
        both.ended = [Ending(id: envelopes[0].id, bounced: 1)]
        try demand(await first.outcome(both) == .lost, "nor a part of it")
        try demand(try await second.storage.ledger() == before, "and nothing has happened")
        // It may have joined again, and take mail for who has its buckets: as a node that delivers none.
        try demand(!first.storage.keeps(envelopes[0].id), "it delivers no mail")
        await close(first, second)
    }

    static func ended(_ place: any SharedPlace) async throws {
        let first = try await Bench(place, try await place.open(node: "first"))
        let envelopes = try await withBuckets(first)
        await first.storage.close()
        let second = try await Bench(place, try await place.open(node: "second"))
        try demand(Set(second.events.ours.keys) == Set(envelopes.map(\.id)), "what a node had is free when it ends")
        await close(second)
    }

    static func doubtfulAcceptance(_ place: any SharedPlace) async throws {
        let (first, second) = try await two(place)
        for cameThrough in [false, true] {
            let envelope = first.envelope()
            await place.doubtNext("first", cameThrough: cameThrough)
            try demand(await first.outcome(Bench.acceptance([envelope])) == .doubtful, "a doubt is told")
            if cameThrough {
                try await first.eventually("what came through is taken back, and that is told") {
                    $0.contains { if case .withdrawn([envelope.id]) = $0 { true } else { false } }
                }
            }
            try demand(await first.failure(of: envelope.id) == .notFound, "the client comes back with it")
            let ledger = try await first.storage.ledger()
            try demand(
                ledger.isBalanced && ledger.submitted.accepted == 0, "it was never accepted: \(ledger.submitted)")
        }
        await close(first, second)
    }

    static func doubtfulOutcome(_ place: any SharedPlace) async throws {
        let (first, second) = try await two(place)
        for cameThrough in [false, true] {
            let envelope = try await first.accept(first.envelope())
            // A bounce: the end of one, and the notice of it.
            let notice = first.envelope(to: ["a@example.com"], sender: nil, beside: envelope.id)
            var commit = Bench.acceptance([notice])
            commit.ended = [Ending(id: envelope.id, bounced: 1)]
            await place.doubtNext("first", cameThrough: cameThrough)
            try demand(await first.outcome(commit) == .doubtful, "a doubt is told")
            try demand(await first.outcome(commit) == nil, "an outcome can be made again")
            try demand(await first.failure(of: envelope.id) == .notFound, "the original is gone")
            try demand(await first.failure(of: notice.id) == nil, "and the notice is there")
        }
        let ledger = try await first.storage.ledger()
        try demand(
            ledger.isBalanced && ledger.submitted.bounced == 2 && ledger.notices.accepted == 2, "all once: \(ledger)")
        await close(first, second)
    }

    static func away(_ place: any SharedPlace) async throws {
        let (first, second) = try await two(place)
        let envelope = try await first.accept(first.envelope())
        await place.setAway("first", "no route")
        guard case .away = first.storage.admission(of: 1) else { throw Breach(description: "MAIL is told") }
        let accepted = await first.outcome(Bench.acceptance([first.envelope()]))
        guard case .away = accepted else { throw Breach(description: "nothing is accepted") }
        guard case .away = await first.failure(of: envelope.id) else { throw Breach(description: "nothing is read") }
        try demand(first.storage.status().failure != nil, "status says it")
        await place.setAway("first", nil)
        try demand(first.storage.admission(of: 1) == .open, "then mail is taken again")
        try demand(await first.failure(of: envelope.id) == nil, "and all is as it was")
        try demand(try await second.storage.ledger().submitted.accepted == 1, "nothing came of what was refused")
        await close(first, second)
    }

    static func commands(_ place: any SharedPlace) async throws {
        let (first, second) = try await two(place)
        let envelopes = try await withBuckets(first)
        let stranger = QueueID(at: Bench.due, bucket: envelopes[0].id.bucket)
        let ids = [envelopes[0].id, stranger, envelopes[1].id]
        async let answer = second.storage.ask(OperatorCommand(.hold, ids, because: "a rule", by: "ann"))
        let (command, tell) = try await first.command()
        try demand(Set(command.ids) == [envelopes[0].id, envelopes[1].id], "who has them is asked for what is queued")
        try demand(command.verb == .hold && command.by == "ann" && command.reason == "a rule", "and told all of it")
        tell(OperatorAnswer(done: 1, failed: [.init(id: envelopes[1].id, error: .inFlight)]))
        let told = await answer
        try demand(
            told.done == 1
                && Set(told.failed) == [
                    .init(id: stranger, error: .notFound), .init(id: envelopes[1].id, error: .inFlight),
                ], "what came of it is told: \(told)")
        try demand(
            !second.events.events.contains { if case .command = $0 { true } else { false } }, "nobody else is asked")
        await close(first, second)
    }

    static func commandForAll(_ place: any SharedPlace) async throws {
        let (first, second) = try await two(place)
        async let answer = second.storage.ask(OperatorCommand(.flushAll, [], by: "ann"))
        let (command, tell) = try await first.command()
        try demand(command == OperatorCommand(.flushAll, [], by: "ann"), "all other nodes are asked")
        tell(OperatorAnswer(done: 7))
        try demand(await answer == OperatorAnswer(done: 7), "and their answers added up")
        await close(first, second)
    }

    static func edge(_ place: any SharedPlace) async throws {
        let (first, second) = try await two(place)
        let moved = QueueBuckets(numbers: Set(0..<8))
        await place.move(moved, to: "second")
        try await first.eventually("an owner is asked") {
            $0.contains { if case .releasing = $0 { true } else { false } }
        }
        first.storage.released(moved)
        let edge = try await Bench(place, try await place.open(edge: "edge"))
        try demand(edge.storage.admission(of: 1) == .open, "it takes mail")
        var ids: Set<QueueID> = []
        for number in 0..<40 {
            let envelope = edge.envelope(at: Int64(number))
            try demand(!edge.storage.keeps(envelope.id), "and does not deliver it")
            var commit = Bench.acceptance([envelope])
            commit.isForOthers = true
            try demand(await edge.outcome(commit) == nil, "it is stored")
            ids.insert(envelope.id)
        }
        try await first.eventually("who delivers is told") { _ in
            Set(first.events.ours.keys).union(second.events.ours.keys) == ids
        }
        try demand(ids.allSatisfy { first.events.count($0) + second.events.count($0) == 1 }, "each once")
        try demand(edge.events.ours.isEmpty, "and nobody else")
        for one in [first, second] {
            guard let id = one.events.ours.keys.first else { throw Breach(description: "it is spread") }
            try demand(await one.failure(of: id) == nil, "the owner reads it")
            try demand(await edge.failure(of: id) == .lost, "who took it does not")
            var ending = QueueCommit(ended: [Ending(id: id, delivered: 1)])
            try demand(await edge.outcome(ending) == .lost, "nor ends it")
            ending.isForOthers = true
            try demand(await edge.outcome(ending) == .lost, "in no way")
            ending.isForOthers = false
            try demand(await one.outcome(ending) == nil, "the owner does")
        }
        let ledger = try await edge.storage.ledger()
        let fates = ledger.submitted
        try demand(ledger.isBalanced && fates.accepted == 40 && fates.delivered == 2, "all once: \(ledger)")
        await close(first, second, edge)
    }

    static func doubtfulKey(_ place: any SharedPlace) async throws {
        let first = try await Bench(place, try await place.open(node: "first"))
        let edge = try await Bench(place, try await place.open(edge: "edge"))
        for (number, cameThrough) in [false, true].enumerated() {
            func commit(_ envelope: Envelope) -> QueueCommit {
                var commit = Bench.acceptance([envelope])
                commit.receipts = [makeReceipt(number, of: [envelope])]
                commit.isForOthers = true
                return commit
            }
            let (envelope, again) = (edge.envelope(), edge.envelope())
            await place.doubtNext("edge", cameThrough: cameThrough)
            try demand(await edge.outcome(commit(envelope)) == .doubtful, "a doubt is told")
            let repeated: StorageError? = cameThrough ? .repeated : nil
            try demand(await edge.outcome(commit(again)) == repeated, "the key tells whether it came through")
            let id = cameThrough ? envelope.id : again.id
            try await first.eventually("who delivers has one of the two") { _ in first.events.ours[id] != nil }
            try demand(first.events.ours.count == number + 1, "and not the other")
            let receipt = try await edge.storage.receipt(for: makeReceipt(number).key)
            try demand(receipt?.id == id, "and the key that one's answer")
        }
        let ledger = try await first.storage.ledger()
        try demand(ledger.isBalanced && ledger.submitted.accepted == 2, "each once: \(ledger.submitted)")
        await close(first, edge)
    }

    static func nobodyDelivers(_ place: any SharedPlace) async throws {
        let edge = try await Bench(place, try await place.open(edge: "edge"))
        try demand(edge.storage.admission(of: 1) == .open, "mail is taken")
        var ids: Set<QueueID> = []
        for number in 0..<5 {
            let envelope = edge.envelope(at: Int64(number))
            var commit = Bench.acceptance([envelope])
            commit.isForOthers = true
            try demand(await edge.outcome(commit) == nil, "and stored")
            ids.insert(envelope.id)
        }
        let first = try await Bench(place, try await place.open(node: "first"))
        try await first.eventually("who comes has it") { _ in Set(first.events.ours.keys) == ids }
        let late = edge.envelope(at: 100)
        var commit = Bench.acceptance([late])
        commit.isForOthers = true
        try demand(await edge.outcome(commit) == nil, "mail is stored")
        try await first.eventually("and he has it") { _ in first.events.ours[late.id] != nil }
        try demand(ids.union([late.id]).allSatisfy { first.events.count($0) == 1 }, "each once")
        await close(edge, first)
    }

    /// Envelopes in several buckets.
    private static func withBuckets(_ bench: Bench) async throws -> [Envelope] {
        var envelopes: [Envelope] = []
        for number in 0..<20 { envelopes.append(try await bench.accept(bench.envelope(at: Int64(number)))) }
        try demand(Set(envelopes.map(\.id.bucket)).count > 1, "ids are spread over buckets")
        return envelopes
    }
}

extension Bench {
    /// What the storage says of a commit; nil: it came through.
    func outcome(_ commit: QueueCommit) async -> StorageError? {
        do throws(StorageError) {
            try await storage.commit(commit)
            return nil
        } catch {
            return error
        }
    }

    /// Waits for a command that was asked on another node.
    func command() async throws -> (OperatorCommand, @Sendable (OperatorAnswer) -> Void) {
        try await eventually("a node is asked for what it has") {
            $0.contains { if case .command = $0 { true } else { false } }
        }
        for case .command(let command, let answer) in events.events { return (command, answer) }
        throw Breach(description: "a command is told")
    }

    /// Waits until the storage has told enough.
    func eventually(_ rule: String, _ isTold: ([QueueEvent]) -> Bool) async throws {
        for _ in 0..<2000 {
            if isTold(events.events) { return }
            try? await Task.sleep(for: .milliseconds(5))
        }
        throw Breach(description: rule)
    }
}
