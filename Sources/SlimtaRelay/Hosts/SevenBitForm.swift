// A message as hosts without 8BITMIME get it (RFC 6152 section 3). HostTrial asks for it when there is no other host; it is
// found out once for all recipients and hosts of an attempt.

import NIOCore
import SlimtaMIME
import SlimtaMail
import Synchronization

/// What a message is in 7 bits. One that is in memory is converted once. Of a large one it is decided what is to be done, and
/// how large it becomes; it is converted while it is sent, each time.
final class SevenBitForm: Sendable {
    /// What there is for such a host.
    enum Finding: Sendable {
        /// The message, as it is.
        case unchanged
        /// This, in its place.
        case converted(OutgoingContent, Outcome.Conversion)
        /// Nothing, for a reason in words.
        case impossible(String)
        /// That cannot be said now: the storage does not give the message.
        case unreadable
    }

    private struct Found: Sendable {
        let finding: Finding
        let hasEightBit: Bool
    }

    private let content: OutgoingContent
    private let task = Mutex<Task<Found, Never>?>(nil)

    init(of content: OutgoingContent) { self.content = content }

    /// What hosts without 8BITMIME get.
    func finding() async -> Finding { await found().finding }

    /// Whether there is an octet above 127 in it, as far as that can be found out.
    func hasEightBit() async -> Bool { await found().hasEightBit }

    private func found() async -> Found {
        let task = task.withLock { task in
            let running = task ?? Task { [content] in await Self.find(content) }
            task = running
            return running
        }
        // Whoever waits belongs to one attempt: it is broken off for all of them.
        return await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
    }

    private static func find(_ content: OutgoingContent) async -> Found {
        var planner = ConversionPlanner()
        var hasEightBit = false
        do {
            var octets = MessageOctets(of: content.message, behind: content.fields)
            while let part = try await octets.next() {
                if !hasEightBit { hasEightBit = part.withUnsafeReadableBytes(\.hasEightBit) }
                planner.read(part)
            }
            switch planner.finish() {
            case .unchanged: return Found(finding: .unchanged, hasEightBit: hasEightBit)
            case .impossible(let obstacle):
                return Found(finding: .impossible("\(obstacle)"), hasEightBit: hasEightBit)
            case .convert(let plan):
                // Without octets above 127 there is no need: that lines are long is a fault that was always let pass.
                let finding = hasEightBit ? try await converted(content, plan) : .unchanged
                return Found(finding: finding, hasEightBit: hasEightBit)
            }
        } catch {
            return Found(finding: .unreadable, hasEightBit: true)
        }
    }

    private static func converted(_ content: OutgoingContent, _ plan: ConversionPlan) async throws -> Finding {
        let isSigned = [content.fields, content.message.head].contains {
            HeaderBlock(scanning: $0).has("dkim-signature", in: $0)
        }
        let message: Message
        if let rest = content.message.rest {
            // How large it becomes is known when it was done: SIZE is to be right (RFC 1870 section 6.1).
            var converter = SevenBitConverter(plan)
            var octets = MessageOctets(of: content.message, behind: content.fields)
            while let part = try await octets.next() {
                _ = converter.read(part)
            }
            _ = converter.finish()
            let reference = SpoolReference(id: rest.reference.id, length: Int64(converter.size), crc32c: 0)
            message = Message(head: ByteBuffer(), rest: ConvertedBody(content, plan, reference))
        } else {
            var whole = content.fields
            whole.writeImmutableBuffer(content.message.head)
            message = Message(head: plan.applied(to: whole))
        }
        return .converted(
            OutgoingContent(fields: ByteBuffer(), message: message), isSigned ? .signatureLost : .sevenBit)
    }
}

/// A large message, converted while it is read. It is in no file.
private final class ConvertedBody: SpooledBody {
    private let content: OutgoingContent
    private let plan: ConversionPlan
    /// Its id is that of the file that it is made from.
    let reference: SpoolReference

    init(_ content: OutgoingContent, _ plan: ConversionPlan, _ reference: SpoolReference) {
        (self.content, self.plan, self.reference) = (content, plan, reference)
    }

    func makeReader() -> any SpoolReader {
        ConvertingReader(MessageOctets(of: content.message, behind: content.fields), SevenBitConverter(plan))
    }
}

private actor ConvertingReader: SpoolReader {
    private var octets: MessageOctets
    private var converter: SevenBitConverter
    private var ready = ByteBuffer()
    private var isOver = false

    init(_ octets: MessageOctets, _ converter: sending SevenBitConverter) {
        (self.octets, self.converter) = (octets, converter)
    }

    func next(_ limit: Int) async throws -> ByteBuffer? {
        while ready.readableBytes == 0, !isOver {
            var source = octets
            let part = try await source.next()
            octets = source
            isOver = part == nil
            ready = part.map { converter.read($0) } ?? converter.finish()
        }
        return ready.readableBytes == 0 ? nil : ready.readSlice(length: min(limit, ready.readableBytes))
    }
}
