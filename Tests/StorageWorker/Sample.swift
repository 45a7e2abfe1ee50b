// What load writes and check knows again: every octet of an envelope and its message follows from a few numbers, and
// these are part of what is stored.

import NIOCore
import SlimtaMail
import SlimtaQueue

/// A group of envelopes of one message: stored in one commit, and removed in one commit. So all are there, or none.
struct Group: Hashable {
    /// The number of its first envelope; the others follow.
    var first: Int
    var count: Int
    /// Octets of the message in memory, and behind it in a file of the spool.
    var head: Int
    var rest: Int
    /// The first envelope of a group that this one took the place of, in one commit; 0: of none.
    var replaced: Int

    /// All of it as one header field.
    private var field: String { "X-Group: \(first) \(count) \(head) \(rest) \(replaced)\r\n" }

    var numbers: Range<Int> { first..<(first + count) }

    /// What is above all numbers of envelopes: the number of a receipt is that of its group's first envelope and this.
    static let receipts = 1_000_000_000
    /// The number of the group's receipt: every second group leaves one.
    var receiptNumber: Int? { first.isMultiple(of: 2) ? Self.receipts + first : nil }

    /// The key of the receipt of the group whose first envelope has this number.
    static func receiptKey(_ first: Int) -> Receipt.Digest {
        var generator = Generator(seed: UInt64(first))
        return .init(generator.next(), generator.next(), generator.next(), UInt64(first))
    }

    /// What the group leaves behind: kept until it is forgotten.
    func receipt(of envelopes: [Envelope]) -> Receipt? {
        guard receiptNumber != nil, let id = envelopes.first?.id else { return nil }
        return Receipt(
            key: Self.receiptKey(first), owner: .init(high: UInt64(first % 5), low: 0),
            fingerprint: .init(UInt64(first), UInt64(count), 1, 2), id: id, answer: Array(field.utf8), expires: nil
        ).of(envelopes)
    }

    /// What is wrong with a receipt that was read back, beside a queue that has the envelopes `queued`; nil: nothing.
    static func fault(of receipt: Receipt, first: Int, queued: Set<QueueID>) -> String? {
        let words = String(decoding: receipt.answer, as: UTF8.self).split(whereSeparator: { " \r\n".contains($0) })
        guard words.count == 6, Int(words[1]) == first, let count = Int(words[2]), receipt.key == receiptKey(first),
            receipt.fingerprint == .init(UInt64(first), UInt64(count), 1, 2), receipt.envelopes.count == count,
            receipt.id == receipt.envelopes[0].id
        else { return "garbled" }
        // A part has ended when its envelope has left the queue: both are one commit.
        let agrees = receipt.envelopes.allSatisfy { queued.contains($0.id) == ($0.fates == nil) }
        return agrees ? nil : "disagrees"
    }

    /// Envelopes with new ids.
    func envelopes() -> [Envelope] {
        numbers.map { number in
            Envelope(
                id: QueueID(at: .now()), sender: Mailbox(localPart: "\(number)", domain: "sender.test"),
                recipients: (0...(number % 3)).map { Mailbox(localPart: "r\($0)", domain: "d\(number % 7).test") },
                received: Timestamp(milliseconds: 1_700_000_000_000 + Int64(number)),
                client: ClientInfo(address: "192.0.2.1", name: "client.test", protocolWord: "ESMTPSA"),
                prependedFields: ByteBuffer(string: field))
        }
    }

    /// The octets of the message: pseudo-random, none like those of another group.
    func content(_ part: Part) -> ByteBuffer {
        let size: Int
        var generator: Generator
        switch part {
        case .head: (size, generator) = (head, Generator(seed: UInt64(first) << 1))
        case .rest: (size, generator) = (rest, Generator(seed: UInt64(first) << 1 | 1))
        }
        var content = ByteBufferAllocator().buffer(capacity: size + 8)
        while content.readableBytes < size { content.writeInteger(generator.next()) }
        return content.readSlice(length: size)!
    }

    enum Part { case head, rest }

    /// The group of an envelope that was read back, and the envelope's number; nil if it says nothing sensible.
    static func of(_ envelope: Envelope) -> (group: Group, number: Int)? {
        let words = String(buffer: envelope.prependedFields).split(whereSeparator: { " \r\n".contains($0) })
        let numbers = words.dropFirst().compactMap { Int($0) }
        guard numbers.count == 5, let number = envelope.sender.flatMap({ Int($0.localPart) }) else { return nil }
        let group = Group(
            first: numbers[0], count: numbers[1], head: numbers[2], rest: numbers[3], replaced: numbers[4])
        return group.numbers.contains(number) ? (group, number) : nil
    }

    /// Whether `stored` is the envelope `number` of this group, octet for octet; reads the file of the spool.
    func matches(_ stored: StoredEnvelope, number: Int) async throws -> Bool {
        var wanted = envelopes()[number - first]
        wanted.id = stored.envelope.id
        guard wanted == stored.envelope, stored.state.recipients.count == wanted.recipients.count,
            stored.message.head == content(.head)
        else { return false }
        guard let spooled = stored.message.rest else { return rest == 0 }
        var all = ByteBuffer()
        let reader = spooled.makeReader()
        while var next = try await reader.next(64 << 10) { all.writeBuffer(&next) }
        return all == content(.rest)
    }
}
