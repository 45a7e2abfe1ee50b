// `[queue] seven_bit = "always"`: content is made 7-bit before it is signed and stored, so that no host on the way has a reason
// to change it. Part of PolicyChain, behind what every message passes.

package import Logging
internal import NIOCore
internal import SlimtaMIME
internal import SlimtaMail
internal import SlimtaQueue

/// Converts what has octets above 127. What cannot be converted goes as it is: most hosts take it, and the sender of one that
/// does not is told then.
package struct SevenBitPolicy: WaitingPolicy {
    /// How much of a large message stays in memory, beside its header.
    private static let headLimit = 256 * 1024

    /// See ``QueuePolicy/place``.
    package var place: PolicyPlace { .conversion }

    private let logger: Logger

    /// It has no settings.
    package init(logger: Logger) { self.logger = logger }

    /// See ``WaitingPolicy/apply(to:_:)``; refuses what the storage does not take or give.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) async throws(PolicyRefusal) {
        guard let envelope = mail.envelopes.first else { return }
        let message = mail.message
        // An edge has seen all of it, and says what it has seen.
        guard message.rest == nil ? message.head.hasEightBit : envelope.body == .eightBitMIME else { return }
        let converted: Message
        do {
            let answer = try await Self.plan(message)
            switch answer {
            case .unchanged: return
            case .impossible(let obstacle):
                logger.notice(
                    "content stays 8-bit", metadata: ["queue_id": "\(envelope.id)", "reason": "\(obstacle)"])
                return
            case .convert(let plan):
                converted = try await convert(message, by: plan) {
                    context.beginSpool?(context.newID(context.now, envelope.id))
                }
            }
        } catch let error as StorageError {
            throw PolicyRefusal(Reply(storing: error))
        } catch {
            throw PolicyRefusal(Reply(storing: .failed("\(error)")))
        }
        let conversion: Outcome.Conversion = mail.has("dkim-signature") ? .signatureLost : .sevenBit
        logger.info(
            "content converted to 7 bits",
            metadata: [
                "queue_id": "\(envelope.id)", "size": "\(converted.size)", "converted": "\(conversion.rawValue)",
            ])
        mail.replace(converted)
        for index in mail.envelopes.indices { mail.envelopes[index].body = .sevenBit }
    }

    private static func plan(_ message: Message) async throws -> ConversionAnswer {
        var planner = ConversionPlanner()
        var octets = MessageOctets(of: message)
        while let part = try await octets.next() { planner.read(part) }
        return planner.finish()
    }

    /// - Parameter makeSpool: begins the file of what does not stay in memory.
    private func convert(
        _ message: Message, by plan: ConversionPlan, _ makeSpool: () -> (any SpoolWriter)?
    ) async throws -> Message {
        guard message.rest != nil else { return Message(head: plan.applied(to: message.head)) }
        var converter = SevenBitConverter(plan)
        var octets = MessageOctets(of: message)
        var head = ByteBuffer()
        var spool: (any SpoolWriter)?
        while true {
            let part = try await octets.next()
            let next = part.map { converter.read($0) } ?? converter.finish()
            if spool == nil, head.readableBytes < Self.headLimit {
                // The first of it has the whole header.
                head.writeImmutableBuffer(next)
            } else if next.readableBytes > 0 {
                guard let writer = spool ?? makeSpool() else { throw StorageError.closed }
                spool = writer
                try await writer.append(next)
            }
            if part == nil { break }
        }
        return Message(head: head, rest: try await spool?.finish())
    }
}

extension ByteBuffer {
    fileprivate var hasEightBit: Bool { withUnsafeReadableBytes(\.hasEightBit) }
}

extension SpoolWriter {
    /// Returns when `bytes` have left memory.
    fileprivate func append(_ bytes: ByteBuffer) async throws(StorageError) {
        let error = await withCheckedContinuation { continuation in
            append(bytes) { continuation.resume(returning: $0) }
        }
        if let error { throw error }
    }

    fileprivate func finish() async throws(StorageError) -> any SpooledBody {
        try await withCheckedContinuation { continuation in
            finish { continuation.resume(returning: $0) }
        }.get()
    }
}
