// Which commits become one transaction. A value: the line fills it from its queue, front to back.

import NIOCore
import SlimtaMail
import SlimtaQueue

/// Commits that are made together: acceptances before states before ends, since that is how the statements of a transaction
/// follow each other. A commit that would need another order begins the next group.
struct CommitGroup {
    /// A commit, and who waits for it.
    struct Pending: Sendable {
        let commit: QueueCommit
        /// Of the node, when it was made: what it says of an envelope counts only under that.
        let incarnation: Int64
        let completion: @Sendable (Result<Void, StorageError>) -> Void
    }

    /// What is said of an envelope or a receipt, in the order of the statements.
    private enum Rank: Int {
        case accepted = 1
        case state, ended
        case inserted, forgotten
    }

    private(set) var commits: [Pending] = []
    private(set) var octets = 0
    private var items = 0
    private var envelopes: [QueueID: Int] = [:]
    private var receipts: [Receipt.Digest: Int] = [:]

    /// Rows of a transaction: more make each one wait longer, and the server no faster.
    private static let itemLimit = 1000
    /// Octets of messages.
    private static let octetLimit = 4 << 20

    var isEmpty: Bool { commits.isEmpty }

    /// A group of this one alone.
    init(_ only: Pending) { _ = add(only) }

    /// Without commits.
    init() {}

    /// Takes the commit; false: it has to be in another one. The first always fits.
    mutating func add(_ pending: Pending) -> Bool {
        let commit = pending.commit
        let size = commit.message?.head.readableBytes ?? 0
        let count =
            commit.accepted.count + commit.states.count + commit.ended.count
            + commit.departed.count + commit.receipts.count
        if !isEmpty {
            guard items + count <= Self.itemLimit, octets + size <= Self.octetLimit, fits(commit) else { return false }
        }
        for accepted in commit.accepted { envelopes[accepted.envelope.id] = Rank.accepted.rawValue }
        for state in commit.states { envelopes[state.id] = Rank.state.rawValue }
        for ending in commit.ended { envelopes[ending.id] = Rank.ended.rawValue }
        for id in commit.departed { envelopes[id] = Rank.ended.rawValue }
        for receipt in commit.receipts { receipts[receipt.key] = Rank.inserted.rawValue }
        for key in commit.forgotten { receipts[key] = Rank.forgotten.rawValue }
        commits.append(pending)
        items += count
        octets += size
        return true
    }

    private func fits(_ commit: QueueCommit) -> Bool {
        func isBehind(_ last: Int?, _ rank: Rank) -> Bool { (last ?? 0) < rank.rawValue }
        return commit.accepted.allSatisfy { isBehind(envelopes[$0.envelope.id], .accepted) }
            && commit.states.allSatisfy { isBehind(envelopes[$0.id], .state) }
            && commit.ended.allSatisfy { isBehind(envelopes[$0.id], .ended) }
            && commit.departed.allSatisfy { isBehind(envelopes[$0], .ended) }
            && commit.receipts.allSatisfy { isBehind(receipts[$0.key], .inserted) }
            && commit.forgotten.allSatisfy { isBehind(receipts[$0], .forgotten) }
    }
}

extension QueueCommit {
    /// Whether all of it comes from a client, who comes back with it after a 451: it is taken out again if it had come
    /// through. Outcomes are made again by the queue.
    var isNewMail: Bool {
        states.allSatisfy { state in accepted.contains { $0.envelope.id == state.id } } && ended.isEmpty
            && departed.isEmpty && forgotten.isEmpty
    }

    /// The envelopes that it says something of.
    var ids: [QueueID] { accepted.map(\.envelope.id) + states.map(\.id) + ended.map(\.id) + departed }
}
