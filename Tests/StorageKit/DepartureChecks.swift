// What storages owe whoever carries mail from one of them to another: what leaves so was never accepted here, and what comes
// with a life behind it goes on with that. Part of StorageSuite.

import SlimtaMail
import SlimtaQueue

/// Checks of envelopes that go from storage to storage.
enum DepartureChecks {
    static let all = [
        StorageCheck(description: "what goes on elsewhere", run: departures),
        StorageCheck(description: "what comes from elsewhere", run: arrivals),
    ]

    static func departures(_ place: any StoragePlace) async throws {
        var bench = try await Bench(place)
        let kept = try await bench.accept(bench.envelope())
        let mail = bench.envelope(to: ["a@x.test", "b@x.test", "c@y.test"], at: 1)
        let receipt = makeReceipt(7, of: [mail])
        var commit = Bench.acceptance([mail])
        commit.receipts = [receipt]
        try await bench.storage.commit(commit)
        let notice = try await bench.accept(bench.envelope(sender: nil, at: 2))
        let stays = try await bench.storage.ledger()
        var state = EnvelopeState(of: mail, due: Bench.due)
        (state.attempts, state.recipients[1].fate) = (1, .delivered)
        try await bench.storage.commit(QueueCommit(states: [state]))
        try await bench.storage.commit(QueueCommit(departed: [mail.id, notice.id]))
        try await bench.storage.commit(QueueCommit(departed: [mail.id]))
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            let ledger = try await bench.storage.ledger()
            try demand(await bench.failure(of: mail.id) == .notFound, "what has gone is not here")
            try demand(await bench.failure(of: kept.id) == nil, "the rest is")
            let submitted = ledger.submitted
            try demand(
                submitted.accepted == 1 && submitted.queued == 1 && submitted.delivered == 0 && submitted.removed == 0
                    && ledger.notices.accepted == 0 && ledger.isBalanced && ledger.removedBy == stays.removedBy,
                "the ledger knows nothing of what has gone: \(ledger)")
            try demand(try await bench.storage.audit().isClean, "and the audit finds nothing")
            try demand(
                try await bench.storage.receipt(for: receipt.key) == receipt, "its receipt is told nothing of an end")
        }
        await bench.storage.close()
    }

    static func arrivals(_ place: any StoragePlace) async throws {
        var bench = try await Bench(place)
        let mail = bench.envelope(to: ["a@x.test", "b@x.test", "c@y.test"])
        var state = EnvelopeState(of: mail, due: Bench.due + .seconds(9))
        (state.attempts, state.isHeld, state.heldReason, state.isWarned) = (3, true, "a rule", true)
        state.recipients[0] = RecipientState(fate: .delivered, reply: "250 2.0.0 ok", relay: "mx")
        state.recipients[2] = RecipientState(fate: .bounced, reply: "550 5.1.1 no", relay: "mx")
        var commit = Bench.acceptance([mail])
        commit.states = [state]
        try await bench.storage.commit(commit)
        for afterCrash in [nil, true, false] {
            if let afterCrash { bench = try await bench.reopened(afterCrash: afterCrash) }
            try demand(try await bench.storage.load(mail.id).state == state, "it goes on where it was")
            let submitted = try await bench.storage.ledger().submitted
            try demand(
                submitted.accepted == 3 && submitted.delivered == 1 && submitted.bounced == 1
                    && submitted.queued == 1 && submitted.unaccounted == 0, "and is counted so: \(submitted)")
        }
        await bench.storage.close()
    }
}
