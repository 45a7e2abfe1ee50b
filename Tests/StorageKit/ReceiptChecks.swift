// What storages owe of receipts: a part of StorageSuite.

import NIOCore
import SlimtaMail
import SlimtaQueue
import Synchronization

enum ReceiptChecks {
    static let all: [StorageCheck] = [
        StorageCheck(description: "receipts", run: kept),
        StorageCheck(description: "a receipt's key comes once", run: once),
        StorageCheck(description: "a message and its receipt are one", run: oneCommit),
        StorageCheck(description: "what became of a submission", run: states),
        StorageCheck(description: "receipts end", run: end),
        StorageCheck(description: "receipts of one owner", run: limit),
    ]

    static let day = Duration.seconds(86_400)

    static func digest(_ number: Int) -> Receipt.Digest { Receipt.Digest(UInt64(number), 7, 1 << 63, .max) }

    static func receipt(
        _ number: Int, owner: UInt64 = 1, of envelope: Envelope? = nil, expires: Timestamp? = .now() + day
    ) -> Receipt {
        Receipt(
            key: digest(number), owner: .init(high: owner, low: 2), fingerprint: digest(1_000_000),
            id: envelope?.id ?? QueueID(high: UInt64(number), low: 1), answer: Array("answer \(number)".utf8),
            expires: expires)
    }

    /// Commits a message with its receipt; what of it is to be found.
    @discardableResult
    static func submit(
        _ number: Int, _ bench: Bench, owner: UInt64 = 1, expires: Timestamp? = .now() + day,
        to recipients: [[String]] = [["b@example.org"]]
    ) async throws -> Receipt {
        var envelopes: [Envelope] = []
        for group in recipients {
            envelopes.append(bench.envelope(to: group, at: Int64(number), beside: envelopes.first?.id))
        }
        var commit = Bench.acceptance(envelopes)
        let left = receipt(number, owner: owner, of: envelopes[0], expires: expires).of(envelopes)
        commit.receipts = [left]
        try await bench.storage.commit(commit)
        return left
    }

    static func kept(_ place: any StoragePlace) async throws {
        var bench = try await Bench(place)
        let first = try await submit(1, bench, to: [["b@example.org", "ü@x.test"], ["c@y.test"]])
        let forever = try await submit(2, bench, expires: nil)
        for afterCrash in [nil, true, false, true] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            for receipt in [first, forever] {
                try demand(
                    try await bench.storage.receipt(for: receipt.key) == receipt, "a receipt is found by its key")
                try demand(try await bench.storage.receipt(of: receipt.id) == receipt, "and by the id that was told")
            }
            try demand(try await bench.storage.receipt(for: digest(3)) == nil, "what is not there is not found")
            try demand(
                try await bench.storage.receipt(of: first.envelopes[1].id) == nil, "nor by an id that nobody was told")
        }
        await bench.storage.close()
    }

    static func once(_ place: any StoragePlace) async throws {
        var bench = try await Bench(place)
        let first = try await submit(1, bench)
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            let before = try await bench.storage.ledger()
            let second = bench.envelope()
            var commit = Bench.acceptance([second])
            commit.receipts = [receipt(1, of: second).of([second])]
            try demand(await bench.outcome(commit) == .repeated, "a key that is there is refused")
            try demand(await bench.failure(of: second.id) == .notFound, "and so is its message")
            try demand(try await bench.storage.ledger() == before, "nothing was accepted")
            try demand(try await bench.storage.receipt(for: first.key) == first, "the first receipt stays")
        }
        // Many at once: whoever comes first, one of them is taken.
        let count = 40
        let answers = Answers(count)
        let envelopes = (0..<count).map { bench.envelope(at: Int64($0)) }
        for (number, envelope) in envelopes.enumerated() {
            var commit = Bench.acceptance([envelope])
            commit.receipts = [receipt(100 + number / 20, of: envelope).of([envelope])]
            bench.storage.commit(commit, completion: answers.note(number))
        }
        let all = await answers.all
        let taken = all.filter { $0.result.failure == nil }.map(\.number)
        try demand(taken.count == 2 && taken[0] / 20 != taken[1] / 20, "of those that come at once one is taken")
        try demand(all.allSatisfy { [nil, .repeated].contains($0.result.failure) }, "the others are told why not")
        for number in taken {
            let found = try await bench.storage.receipt(for: digest(100 + number / 20))
            try demand(found?.id == envelopes[number].id, "the receipt is that of the message that was taken")
        }
        await bench.storage.close()
    }

    /// Cut off anywhere, a message is there if and only if its receipt is.
    static func oneCommit(_ place: any StoragePlace) async throws {
        let bench = try await Bench(place)
        let count = 300
        let taken = Mutex<Set<Int>>([])
        let envelopes = (0..<count).map { bench.envelope(at: Int64($0)) }
        for (number, envelope) in envelopes.enumerated() {
            var commit = Bench.acceptance([envelope])
            commit.receipts = [receipt(number, of: envelope).of([envelope])]
            bench.storage.commit(commit) { result in
                if result.failure == nil { _ = taken.withLock { $0.insert(number) } }
            }
        }
        for _ in 0..<2000 where taken.withLock({ $0.count }) < count / 3 {
            try? await Task.sleep(for: .milliseconds(1))
        }
        let told = taken.withLock { $0 }
        let again = try await bench.reopened(afterCrash: true)
        for (number, envelope) in envelopes.enumerated() {
            let isQueued = again.events.ours[envelope.id] != nil
            let isKnown = try await again.storage.receipt(for: digest(number)) != nil
            try demand(isQueued == isKnown, "a message and its receipt are both there or both not: \(number)")
            try demand(isQueued || !told.contains(number), "what was acknowledged is there: \(number)")
        }
        await again.storage.close()
    }

    static func states(_ place: any StoragePlace) async throws {
        var bench = try await Bench(place)
        let left = try await submit(1, bench, to: [["a@x.test", "b@x.test"], ["c@y.test"]])
        let owners = [Receipt.Owner(high: 9, low: 9), left.owner]
        try demand(
            try await bench.storage.submission(left.id, of: [owners[0]]) == nil, "what is somebody else's is not told")
        var state = try await bench.storage.load(left.envelopes[0].id).state
        (state.attempts, state.due) = (2, Bench.due + .seconds(60))
        state.recipients[0] = RecipientState(fate: .delivered, reply: "250 ok", relay: "mx")
        state.recipients[1].reply = "451 later"
        try await bench.storage.commit(QueueCommit(states: [state]))
        let queued = try await bench.storage.submission(left.id, of: owners)
        try demand(queued?.receipt == left, "its receipt is told")
        try demand(
            queued?.recipients.map(\.fate) == [.delivered, .queued, .queued]
                && queued?.recipients.map(\.reply) == ["250 ok", "451 later", ""]
                && queued?.recipients.map(\.attempts) == [2, 2, 0]
                && queued?.recipients.map(\.nextAttempt) == [nil, state.due, Bench.due],
            "what is queued is told as it is: \(String(describing: queued?.recipients))")
        state.recipients[1] = RecipientState(fate: .bounced, reply: "550 5.1.1 no such user", relay: "mx")
        try await bench.storage.commit(QueueCommit(ended: [Ending(of: state)]))
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            let half = try await bench.storage.submission(left.id, of: owners)
            try demand(
                half?.recipients.map(\.fate) == [.delivered, .bounced, .queued]
                    && half?.recipients[1].reply == "550 5.1.1 no such user"
                    && half?.recipients.map(\.address) == ["a@x.test", "b@x.test", "c@y.test"],
                "what has left the queue is told by its receipt: \(String(describing: half?.recipients))")
        }
        // Without a word about each recipient.
        try await bench.storage.commit(QueueCommit(ended: [Ending(id: left.envelopes[1].id, removed: 1)]))
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            let last = try await bench.storage.submission(left.id, of: owners)
            try demand(last?.recipients.map(\.fate) == [.delivered, .bounced, .removed], "all of it has ended")
        }
        await bench.storage.close()
    }

    static func end(_ place: any StoragePlace) async throws {
        var bench = try await Bench(place)
        let forever = try await submit(1, bench, expires: nil)
        let expired = try await submit(2, bench, expires: .now() + .milliseconds(-1))
        try demand(try await bench.storage.receipt(for: expired.key) == nil, "what has expired is not found")
        try demand(try await bench.storage.receipt(of: expired.id) == nil, "nor by its id")
        let later = try await submit(2, bench)
        try await bench.storage.commit(QueueCommit(ended: [Ending(id: forever.envelopes[0].id, delivered: 1)]))
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            let found = try await bench.storage.receipt(for: forever.key)
            try demand(found?.envelopes[0].fates?.delivered == 1, "a receipt outlives its message")
            try demand(try await bench.storage.receipt(for: later.key) == later, "a key that has expired is free again")
        }
        try await bench.storage.commit(QueueCommit(forgotten: [forever.key, digest(77)]))
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            try demand(try await bench.storage.receipt(for: forever.key) == nil, "what is forgotten is gone")
            try demand(try await bench.storage.receipt(of: forever.id) == nil, "by its id as well")
        }
        try await submit(1, bench)
        await bench.storage.close()
    }

    static func limit(_ place: any StoragePlace) async throws {
        var bench = try await Bench(place)
        let begin = Timestamp.now()
        let forever = receipt(0, expires: nil)
        let other = receipt(1, owner: 2, expires: begin + .seconds(1000))
        try await bench.storage.commit(QueueCommit(receipts: [forever, other]))
        let many = (2..<Receipt.ownerLimit + 12).map { receipt($0, expires: begin + .seconds(10_000 + $0)) }
        for start in stride(from: 0, to: many.count, by: 20) {
            try await bench.storage.commit(QueueCommit(receipts: Array(many[start..<min(start + 20, many.count)])))
        }
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            for (place, receipt) in many.enumerated() where place < 20 || place % 1000 == 0 {
                let isThere = try await bench.storage.receipt(for: receipt.key) != nil
                try demand(isThere == (place >= 10), "the oldest go, and nothing else: \(place)")
            }
            for receipt in [forever, other] {
                try demand(
                    try await bench.storage.receipt(for: receipt.key) == receipt,
                    "those that do not expire stay, and those of others")
            }
        }
        await bench.storage.close()
    }
}
