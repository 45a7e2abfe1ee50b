// Mail of a node that does not deliver it: whatever happens to a bucket meanwhile, who has it in the end is told of each message,
// once. With a real server; what happens at which moment is decided in what the storage calls, on its own threads.

import Foundation
import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster

/// A node as its queue sees it: lets go of what it is asked for, at once, and notes what it is told of twice.
private final class Follower: Sendable {
    struct State {
        var known: Set<QueueID> = []
        var twice: [QueueID] = []
        var withdrawn: [QueueID] = []
        /// Pages of summaries that it was told.
        var pages = 0
    }

    let storage: ClusterStorage
    private let state = Mutex(State())
    /// Called with each event before anything is done about it, on the storage's thread.
    private let hook = Mutex<(@Sendable (QueueEvent) -> Void)?>(nil)

    init(_ storage: any QueueBackend, _ hook: (@Sendable (Follower, QueueEvent) -> Void)? = nil) async throws {
        self.storage = try #require(storage as? ClusterStorage)
        if let hook { onEvent { [unowned self] in hook(self, $0) } }
        try await storage.start { [weak self] in self?.receive($0) }
    }

    var now: State { state.withLock { $0 } }

    func onEvent(_ body: (@Sendable (QueueEvent) -> Void)?) { hook.withLock { $0 = body } }

    private func receive(_ events: [QueueEvent]) {
        for event in events {
            hook.withLock { $0 }?(event)
            switch event {
            case .acquired(let summaries):
                state.withLock { state in
                    state.pages += 1
                    for summary in summaries where !state.known.insert(summary.id).inserted {
                        state.twice.append(summary.id)
                    }
                }
            case .command, .sites: break
            case .releasing(let buckets):
                state.withLock { state in state.known = state.known.filter { !buckets.contains($0) } }
                storage.released(buckets)
            case .withdrawn(let ids):
                state.withLock { state in
                    state.known.subtract(ids)
                    state.withdrawn += ids
                }
            }
        }
    }
}

/// Commits on a thread that waits.
extension ClusterStorage {
    fileprivate func perform(_ commit: QueueCommit) -> StorageError? {
        let answer = Mutex<Result<Void, StorageError>?>(nil)
        self.commit(commit) { result in answer.withLock { $0 = result } }
        guard blocked({ answer.withLock { $0 != nil } }), let result = answer.withLock({ $0 }) else {
            return .failed("no answer")
        }
        if case .failure(let error) = result { return error }
        return nil
    }

    /// A message at a place in a bucket; its id, or nil if it was not taken.
    fileprivate func put(at place: Int64, in bucket: UInt16, isForOthers: Bool = true) -> QueueID? {
        let time = Timestamp(milliseconds: 1_700_000_000_000 + place)
        let envelope = Envelope(
            id: QueueID(at: time, bucket: bucket), sender: Mailbox(parsing: "a@example.com"),
            recipients: [Mailbox(parsing: "b@example.org")].compactMap { $0 }, received: time,
            client: ClientInfo(address: "192.0.2.1", name: "client", protocolWord: "ESMTP"))
        var commit = QueueCommit(
            accepted: [.init(envelope, due: time)], message: Message(head: ByteBuffer(string: "Subject: x\r\n\r\n")))
        commit.isForOthers = isForOthers
        return perform(commit) == nil ? envelope.id : nil
    }
}

/// What was put where, by whoever did.
private final class Written: Sendable {
    private let ids = Mutex<(all: Set<QueueID>, refused: Int)>(([], 0))

    func note(_ id: QueueID?) {
        ids.withLock { ids in
            if let id { ids.all.insert(id) } else { ids.refused += 1 }
        }
    }

    var all: Set<QueueID> { ids.withLock { $0.all } }
    var refused: Int { ids.withLock { $0.refused } }
}

/// False: it never came.
private func waited(_ isSo: () -> Bool) async -> Bool {
    for _ in 0..<6000 {
        if isSo() { return true }
        try? await Task.sleep(for: .milliseconds(10))
    }
    return false
}

/// The same on a thread of the storage's, which waits.
private func blocked(_ isSo: () -> Bool) -> Bool {
    for _ in 0..<60_000 {
        if isSo() { return true }
        usleep(1_000)
    }
    return false
}

@Suite(
    "Mail that another node delivers", .enabled(if: PostgresServer.isThere, Comment(rawValue: PostgresServer.missing)),
    .serialized)
struct InboxTests {
    /// Nodes whose names begin with "edge" deliver nothing.
    private static func place(
        buckets: Int = 4, _ change: @escaping @Sendable (inout ClusterOptions) -> Void = { _ in }
    ) throws -> ClusterPlace {
        try ClusterPlace(buckets: buckets) { options in
            if options.node.hasPrefix("edge") { options.roles = .edge }
            options.summaryPage = 2
            change(&options)
        }
    }

    private static func follower(_ place: ClusterPlace, _ node: String) async throws -> Follower {
        try await Follower(place.open(node: node))
    }

    private static func names(_ place: ClusterPlace) throws -> String {
        try place.server.sql("select count(*) from slimtad.inbox", in: place.name)
    }

    private static func owners(_ place: ClusterPlace) throws -> String {
        try place.server.sql(
            "select coalesce(string_agg(distinct owner, ' '), '') from slimtad.bucket", in: place.name)
    }

    /// When the other node puts its mail into a bucket that changes hands.
    enum Moment: CaseIterable, Sendable {
        /// Long before; nobody was called and no beat came.
        case before
        /// The owner is asked for the bucket, and has it.
        case asked
        /// The heir has the bucket and has read nothing of it.
        case taken
        /// It has read the first of three pages.
        case firstPage
        case secondPage
        /// It has read all.
        case after
    }

    @Test(arguments: Moment.allCases, [true, false])
    func aBucketThatChangesHands(_ moment: Moment, calls: Bool) async throws {
        let written = Written()
        let taken = Mutex<(@Sendable () -> Void)?>(nil)
        let place = try Self.place { $0.calls = calls }
        let first = try await Self.follower(place, "first")
        let edge = try await Self.follower(place, "edge")
        let put: @Sendable () -> Void = {
            // Before, between and behind what is there.
            for at: Int64 in [5, 15, 25, 35, 60] { written.note(edge.storage.put(at: at, in: 0)) }
        }
        for at: Int64 in [10, 20, 30, 40, 50] { written.note(first.storage.put(at: at, in: 0, isForOthers: false)) }
        let fromFirst = written.all
        if moment == .before { put() }
        let isPut = Mutex(false)
        let once: @Sendable () -> Void = {
            let isFirst = isPut.withLock { isPut in
                defer { isPut = true }
                return !isPut
            }
            if isFirst { put() }
        }
        if moment == .asked { first.onEvent { if case .releasing = $0 { once() } } }
        let link = try TestKit.PostgresLink(to: place.server.port)
        let second = ClusterStorage(place.options("second", link)) { event in
            if case .buckets = event { taken.withLock { $0 }?() }
        }
        let heir = try await Follower(second)
        if moment == .taken { taken.withLock { $0 = once } }
        heir.onEvent { event in
            guard case .acquired = event else { return }
            // Before it counts as told.
            switch (moment, heir.now.pages) {
            case (.firstPage, 0), (.secondPage, 1): once()
            default: break
            }
        }
        await place.move(QueueBuckets(numbers: [0]), to: "second")
        #expect(await waited { heir.now.known.isSuperset(of: fromFirst) }, "what was there before")
        if moment == .after { put() }
        #expect(await waited { heir.now.known == written.all && written.all.count == 10 }, "\(heir.now.known.count)")
        #expect(await waited { (try? Self.names(place)) == "0" }, "names are taken away")
        // A beat that finds nothing more.
        let begun = try place.server.sql("select clock_timestamp()", in: place.name)
        #expect(
            await waited {
                (try? place.server.sql(
                    "select bool_and(beat > timestamptz '\(begun)' + interval '1 second') from slimtad.node",
                    in: place.name)) == "t"
            })
        #expect(heir.now.known == written.all && written.refused == 0)
        #expect(heir.now.twice.isEmpty && first.now.twice.isEmpty && edge.now.known.isEmpty)
        let ledger = try await heir.storage.ledger()
        #expect(ledger.isBalanced && ledger.submitted.accepted == 10)
        for node in [first, heir, edge] { await node.storage.close() }
    }

    /// The owner is gone when its queue was told, and before the name was taken away; the next one reads all of the bucket.
    @Test(arguments: [1, 5]) func anOwnerThatDies(_ count: Int) async throws {
        let place = try Self.place()
        let first = try await Self.follower(place, "first")
        let edge = try await Self.follower(place, "edge")
        let heir = try await Self.follower(place, "heir")
        first.onEvent { event in
            if case .acquired(let some) = event, !some.isEmpty { Thread.detachNewThread { first.storage.abandon() } }
        }
        let written = Written()
        for number in 0..<count { written.note(edge.storage.put(at: Int64(number), in: UInt16(number % 4))) }
        #expect(await waited { !first.now.known.isEmpty })
        await place.fence("first", heir: "heir")
        // Into buckets of the heir, who may not have read them yet.
        for number in 0..<count { written.note(edge.storage.put(at: Int64(100 + number), in: UInt16(number % 4))) }
        #expect(await waited { heir.now.known == written.all && written.all.count == 2 * count })
        #expect(await waited { (try? Self.names(place)) == "0" })
        #expect(heir.now.twice.isEmpty)
        for node in [heir, edge] { await node.storage.close() }
    }

    /// It reads a bucket in which all is named, and does not know yet that it was taken for dead: names that it could not take
    /// away are not told again.
    @Test func oneThatIsTakenForDeadWhileItReads() async throws {
        let place = try Self.place(buckets: 1)
        let edge = try await Self.follower(place, "edge")
        let written = Written()
        for number in 0..<20 { written.note(edge.storage.put(at: Int64(number), in: 0)) }
        let owner = try await Follower(place.open(node: "owner")) { owner, event in
            guard case .acquired = event else { return }
            if owner.now.pages == 0 {
                // As others do it.
                _ = try? place.server.sql(
                    "update slimtad.node set incarnation = incarnation + 1, is_gone = true where name = 'owner'",
                    in: place.name)
            }
            // Between two pages it may look for names.
            usleep(UInt32(2 * Inbox.pause) * 1000)
        }
        #expect(await waited { place.events.contains(.fenced) })
        #expect(await waited { owner.now.known == written.all && written.all.count == 20 })
        #expect(owner.now.twice.isEmpty)
        #expect(await waited { (try? Self.names(place)) == "0" })
        for node in [owner, edge] { await node.storage.close() }
    }

    /// Mail comes without a pause while buckets go round and nodes are taken for dead.
    @Test(arguments: [true, false]) func nothingIsForgottenOrToldTwice(calls: Bool) async throws {
        let place = try Self.place(buckets: 12) { $0.calls = calls }
        let names = ["a", "b", "c"]
        var nodes: [Follower] = []
        for name in names { nodes.append(try await Self.follower(place, name)) }
        let edge = try await Self.follower(place, "edge")
        let written = Written()
        let isOver = Mutex(false)
        async let writing: Void = withCheckedContinuation { continuation in
            Thread.detachNewThread {
                var number: Int64 = 0
                while !isOver.withLock({ $0 }) {
                    let id = edge.storage.newID(at: .now())
                    number += 1
                    // Some into the past of their bucket: where it is read already.
                    written.note(edge.storage.put(at: number % 7 == 0 ? -number : number, in: id.bucket))
                }
                continuation.resume()
            }
        }
        for round in 0..<12 {
            let bucket = QueueBuckets(numbers: [UInt16.random(in: 0..<12), UInt16.random(in: 0..<12)])
            await place.move(bucket, to: names.randomElement() ?? "a")
            if round % 5 == 4 { await place.fence(names[round % 3], heir: names[(round + 1) % 3]) }
            try await Task.sleep(for: .milliseconds(300))
        }
        isOver.withLock { $0 = true }
        await writing
        let everything = written.all
        #expect(
            await waited { nodes.reduce(0) { $0 + $1.now.known.count } == everything.count },
            "\(nodes.map(\.now.known.count)) of \(everything.count)")
        #expect(nodes.reduce(into: Set<QueueID>()) { $0.formUnion($1.now.known) } == everything)
        #expect(nodes.flatMap(\.now.twice) == [])
        #expect(await waited { (try? Self.names(place)) == "0" })
        for node in nodes + [edge] { await node.storage.close() }
    }

    /// Beats are so far apart that only a call can be the reason.
    @Test func anOwnerIsCalled() async throws {
        let place = try Self.place { $0.lease = .seconds(3000) }
        let owner = try await Self.follower(place, "owner")
        let edge = try await Self.follower(place, "edge")
        for number in 0..<3 {
            let id = edge.storage.put(at: Int64(number), in: 1)
            #expect(await waited { id.map { owner.now.known.contains($0) } ?? false })
        }
        #expect(owner.now.known.count == 3 && owner.now.twice.isEmpty)
        for node in [owner, edge] { await node.storage.close() }
    }

    /// It is named for whoever comes, and read by him with all else.
    @Test func nobodyDelivers() async throws {
        let place = try Self.place()
        let edge = try await Self.follower(place, "edge")
        #expect(edge.storage.status().node?.relays == 0 && edge.storage.admission(of: 1) == .open)
        #expect(await waited { place.events.contains(.noRelays) })
        let written = Written()
        for number in 0..<5 {
            let bucket = edge.storage.newID(at: .now()).bucket
            written.note(edge.storage.put(at: Int64(number), in: bucket))
        }
        let owner = try await Self.follower(place, "owner")
        #expect(await waited { owner.now.known == written.all && written.all.count == 5 })
        #expect(await waited { (try? Self.names(place)) == "0" })
        #expect(await waited { place.events.contains(.relaysBack) && edge.storage.status().node?.relays == 1 })
        #expect(owner.now.twice.isEmpty && edge.storage.status().node?.buckets == 0)
        for node in [owner, edge] { await node.storage.close() }
    }

    /// One that delivered in its former life, and was killed, gives back what it had.
    @Test func oneThatDeliversNoMore() async throws {
        let place = try Self.place()
        let link = try TestKit.PostgresLink(to: place.server.port)
        var options = place.options("edge", link)
        options.roles = [.edge, .relay]
        let former = ClusterStorage(options) { _ in }
        let before = try await Follower(former)
        let id = former.put(at: 1, in: 1, isForOthers: false)
        #expect(try Self.owners(place) == "edge")
        former.abandon()
        let edge = try await Self.follower(place, "edge")
        let owner = try await Self.follower(place, "owner")
        #expect(await waited { (try? Self.owners(place)) == "owner" })
        #expect(await waited { owner.now.known == Set([id].compactMap { $0 }) && id != nil })
        #expect(edge.now.known.isEmpty && before.now.known.isEmpty)
        for node in [owner, edge] { await node.storage.close() }
    }

    // MARK: Doubt

    /// The answer to an acceptance is lost. By the time that the edge looks, the owner has delivered the message, or has not
    /// begun, or is at it.
    @Test(arguments: ["delivered", "deferred", "untouched"]) func doubt(_ fate: String) async throws {
        let place = try Self.place()
        let owner = try await Self.follower(place, "owner")
        let edge = try await Self.follower(place, "edge")
        await place.doubtNext("edge", cameThrough: true)
        let time = Timestamp(milliseconds: 1_700_000_000_000)
        let envelope = Envelope(
            id: QueueID(at: time, bucket: 1), sender: Mailbox(parsing: "a@example.com"),
            recipients: [Mailbox(parsing: "b@example.org")].compactMap { $0 }, received: time,
            client: ClientInfo(address: "192.0.2.1", name: "client", protocolWord: "ESMTP"))
        var commit = QueueCommit(
            accepted: [.init(envelope, due: time)], message: Message(head: ByteBuffer(string: "Subject: x\r\n\r\n")))
        commit.isForOthers = true
        // The edge's line looks when this returns.
        let answer: StorageError? = await withCheckedContinuation { continuation in
            edge.storage.commit(commit) { result in
                if fate != "untouched" {
                    // Nobody is called in doubt: the beat finds it.
                    #expect(blocked { owner.now.known.contains(envelope.id) })
                }
                if fate == "delivered" {
                    #expect(owner.storage.perform(QueueCommit(ended: [Ending(id: envelope.id, delivered: 1)])) == nil)
                }
                if case .failure(let error) = result { continuation.resume(returning: error) }
            }
        }
        #expect(answer == .doubtful)
        #expect(await waited { edge.storage.perform(QueueCommit()) == nil }, "it has looked")
        if fate == "deferred" {
            #expect(await waited { edge.now.withdrawn == [envelope.id] })
            var state = EnvelopeState(of: envelope, due: time)
            state.attempts = 1
            #expect(owner.storage.perform(QueueCommit(states: [state])) == nil)
            #expect(await waited { owner.now.withdrawn == [envelope.id] }, "it hears that it is gone")
            // Its end counts for nothing.
            #expect(owner.storage.perform(QueueCommit(ended: [Ending(id: envelope.id, bounced: 1)])) == nil)
        }
        let isDelivered = fate == "delivered"
        #expect(await waited { edge.now.withdrawn == (isDelivered ? [] : [envelope.id]) })
        #expect(place.events.contains(.leftInDoubt([envelope.id])) == isDelivered)
        #expect(place.events.contains(.vanished([envelope.id])) == (fate == "deferred"))
        #expect(await waited { (try? Self.names(place)) == "0" })
        let ledger = try await owner.storage.ledger()
        #expect(ledger.isBalanced && ledger.mismatched == 0, "\(ledger)")
        #expect(ledger.submitted.accepted == (isDelivered ? 1 : 0))
        #expect(ledger.submitted.delivered == (isDelivered ? 1 : 0) && ledger.submitted.bounced == 0)
        let audit = try await owner.storage.audit()
        #expect(audit.isClean)
        for node in [owner, edge] { await node.storage.close() }
    }

    /// The same with a key. The client was told to come again, and finds with its key what came through, whatever has become of it
    /// since: the owner has delivered one of two messages, or both, or none.
    @Test(arguments: [0, 1, 2], [Receipt.Reach.anywhere, .here])
    func doubtWithAKey(_ delivered: Int, _ reach: Receipt.Reach) async throws {
        let place = try Self.place()
        let owner = try await Self.follower(place, "owner")
        let edge = try await Self.follower(place, "edge")
        await place.doubtNext("edge", cameThrough: true)
        let envelopes = [makeEnvelope(1), makeEnvelope(2)]
        let commit = makeCommit(envelopes, reach)
        let answer: StorageError? = await withCheckedContinuation { continuation in
            edge.storage.commit(commit) { result in
                #expect(blocked { owner.now.known.isSuperset(of: envelopes.map(\.id)) })
                for envelope in envelopes.prefix(delivered) {
                    #expect(owner.storage.perform(QueueCommit(ended: [Ending(id: envelope.id, delivered: 1)])) == nil)
                }
                if case .failure(let error) = result { continuation.resume(returning: error) }
            }
        }
        #expect(answer == .doubtful)
        #expect(await waited { edge.storage.perform(QueueCommit()) == nil }, "it has looked")
        #expect(edge.storage.perform(makeCommit([makeEnvelope(1), makeEnvelope(2)], reach)) == .repeated)
        let receipt = try await edge.storage.receipt(for: try #require(commit.receipts.first).key)
        #expect(receipt?.id == envelopes[0].id && receipt?.envelopes.map(\.id) == envelopes.map(\.id))
        #expect(edge.now.withdrawn == [] && place.events.contains(.leftInDoubt(envelopes.map(\.id))))
        for envelope in envelopes.dropFirst(delivered) {
            #expect(owner.storage.perform(QueueCommit(ended: [Ending(id: envelope.id, delivered: 1)])) == nil)
        }
        #expect(await waited { (try? Self.names(place)) == "0" })
        let ledger = try await owner.storage.ledger()
        #expect(ledger.isBalanced && ledger.mismatched == 0, "\(ledger)")
        #expect(ledger.submitted.accepted == 2 && ledger.submitted.delivered == 2, "each once")
        #expect(owner.now.twice.isEmpty && owner.now.withdrawn.isEmpty)
        for node in [owner, edge] { await node.storage.close() }
    }

    /// A key that the client does not come again with protects nothing: what is still there is taken out.
    @Test func doubtWithAKeyOfItsOwn() async throws {
        let place = try Self.place()
        let owner = try await Self.follower(place, "owner")
        let edge = try await Self.follower(place, "edge")
        await place.doubtNext("edge", cameThrough: true)
        let envelope = makeEnvelope(1)
        let commit = makeCommit([envelope], .itself)
        #expect(edge.storage.perform(commit) == .doubtful)
        #expect(await waited { edge.now.withdrawn == [envelope.id] })
        #expect(try await edge.storage.receipt(for: try #require(commit.receipts.first).key) == nil)
        #expect(try await owner.storage.ledger().submitted.accepted == 0)
        for node in [owner, edge] { await node.storage.close() }
    }
}

private func makeEnvelope(_ bucket: UInt16) -> Envelope {
    let time = Timestamp(milliseconds: 1_700_000_000_000)
    return Envelope(
        id: QueueID(at: time, bucket: bucket), sender: Mailbox(parsing: "a@example.com"),
        recipients: [Mailbox(parsing: "b@example.org")].compactMap { $0 }, received: time,
        client: ClientInfo(address: "192.0.2.1", name: "client", protocolWord: "HTTP"))
}

/// An acceptance for others, always with the same key.
private func makeCommit(_ envelopes: [Envelope], _ reach: Receipt.Reach) -> QueueCommit {
    var commit = QueueCommit(
        accepted: envelopes.map { .init($0, due: $0.received) },
        message: Message(head: ByteBuffer(string: "Subject: x\r\n\r\n")))
    var receipt = makeReceipt(1, of: envelopes)
    receipt.reach = reach
    commit.receipts = [receipt]
    commit.isForOthers = true
    return commit
}
