// Recipients in parts, and outcomes in the order of the recipients again: by route, by domain, by how many a server takes.
// Used by Router and the relays that speak SMTP.

import SlimtaMail
import SlimtaQueue

/// Has `count` recipients attempted in parts, all parts at once: those with one key together, and no more than `limit` of
/// them. `attempt` is told the positions of a part's recipients, and gives one outcome for each, in that order.
///
/// - Returns: one outcome for each recipient, in their order.
func attemptInParts<Key: Hashable & Sendable>(
    _ count: Int, atMost limit: Int = .max, by key: (Int) -> Key,
    _ attempt: @escaping @Sendable (Key, [Int]) async -> [Outcome]
) async -> [Outcome] {
    if count == 1 { return await attempt(key(0), [0]) }
    var parts: [(key: Key, positions: [Int])] = []
    // Of each key the part that is not full.
    var open: [Key: Int] = [:]
    for position in 0..<count {
        let key = key(position)
        if let part = open[key], parts[part].positions.count < limit {
            parts[part].positions.append(position)
        } else {
            open[key] = parts.count
            parts.append((key, [position]))
        }
    }
    // As a rule: policies split by domain.
    if parts.count == 1 { return await attempt(parts[0].key, parts[0].positions) }
    let all = parts
    let results = await inOrder(all.count) { await attempt(all[$0].key, all[$0].positions) }
    var outcomes: [Outcome?] = Array(repeating: nil, count: count)
    for (part, result) in zip(all, results) {
        for (position, outcome) in zip(part.positions, result) { outcomes[position] = outcome }
    }
    return outcomes.compactMap(\.self)
}

/// Does `count` things at once; the results are in the order of the things.
func inOrder<Value: Sendable>(
    _ count: Int, _ one: @escaping @Sendable (Int) async -> Value
) async -> [Value] {
    await withTaskGroup(of: (Int, Value).self) { group in
        for index in 0..<count { group.addTask { (index, await one(index)) } }
        var results: [Value?] = Array(repeating: nil, count: count)
        for await (index, value) in group { results[index] = value }
        return results.compactMap(\.self)
    }
}

/// The recipients of a delivery, each once: servers that keep them in a map have one reply too few for one that is there
/// twice, and nobody wants a message twice.
struct DistinctRecipients: Sendable {
    /// As they go out.
    private(set) var mailboxes: [Mailbox] = []
    /// For each of them the recipients of the envelope that it stands for.
    private(set) var recipients: [[Int]] = []
    /// For each recipient of the delivery which of `mailboxes` stands for it.
    private(set) var positions: [Int] = []

    init(_ delivery: Delivery) {
        var known: [Mailbox: Int] = [:]
        for recipient in delivery.recipients {
            let mailbox = delivery.envelope.recipients[recipient]
            // What is before the "@" is another mailbox in another case (RFC 5321 section 2.4).
            let key = Mailbox(localPart: String(mailbox.localPart), domain: mailbox.foldedDomain)
            if let position = known[key] {
                recipients[position].append(recipient)
                positions.append(position)
            } else {
                known[key] = mailboxes.count
                positions.append(mailboxes.count)
                recipients.append([recipient])
                mailboxes.append(mailbox.forNextHop)
            }
        }
    }
}
