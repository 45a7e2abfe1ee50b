// How content goes out on an SMTP connection: in pieces that are counted, no faster than the system takes them. A part of
// SMTPClientDriver.

import NIOCore
import SlimtaMail
import SlimtaNet
import SlimtaSMTP

extension SMTPClientDriver {
    /// Content up to this size goes out as a whole: it fits into what the system buffers.
    private static let smallContent = 65_536
    /// Larger content goes out in pieces of that many octets, so that it is seen how it moves.
    private static let piece = 16_384

    /// Sends a part of the content that the job's ``SMTPJob/Event/wantsRest(_:)`` asked for; true if more may come.
    func send(_ part: ByteBuffer, for job: SMTPJob, reply: CheckedContinuation<Bool, Never>) {
        guard self.job === job, stuffer != nil, let context else {
            reply.resume(returning: false)
            return
        }
        var out = context.channel.allocator.buffer(capacity: part.readableBytes + 64)
        do {
            try stuffer?.append(part, to: &out)
        } catch {
            contentFailed(error.outcome, error.cause)
            reply.resume(returning: false)
            return
        }
        sender = reply
        write(content: out, of: job, context)
        if self.context?.channel.isWritable ?? true { letSenderGoOn() }
    }

    /// The content is complete.
    func endContent(for job: SMTPJob) {
        guard self.job === job, stuffer != nil, let context else { return }
        var out = context.channel.allocator.buffer(capacity: 8)
        do {
            try stuffer?.finish(into: &out)
        } catch {
            contentFailed(error.outcome, error.cause)
            return
        }
        stuffer = nil
        contentEnd = out
        sendContentEnd(context)
    }

    /// The rest of the content cannot be had.
    func failContent(_ outcome: Outcome, for job: SMTPJob) {
        if self.job === job, stuffer != nil { contentFailed(outcome, .message) }
    }

    func sendContent(allowsEightBit: Bool, _ out: inout ByteBuffer) {
        guard let job, let context else { return }
        let content = job.content
        var stuffer = DotStuffer(allowsEightBit: allowsEightBit)
        var octets = context.channel.allocator.buffer(
            capacity: content.fields.readableBytes + content.message.head.readableBytes + 64)
        var end = ByteBuffer()
        do {
            try stuffer.append(content.fields, to: &octets)
            try stuffer.append(content.message.head, to: &octets)
            if content.message.rest == nil { try stuffer.finish(into: &end) }
        } catch {
            contentFailed(error.outcome, error.cause)
            return
        }
        if content.message.rest == nil, octets.readableBytes <= Self.smallContent {
            machine.contentSent()
            octets.writeImmutableBuffer(end)
            flush(&out)
            context.writeAndFlush(wrapOutboundOut(octets), promise: nil)
            return
        }
        transfer = TransferWatch(
            .init(leastRate: options.leastRate, stallTimeout: .init(options.stallTimeout)), at: .now())
        if content.message.rest == nil {
            contentEnd = end
        } else {
            self.stuffer = stuffer
            job.tell(.wantsRest(connection(context)))
        }
        flush(&out)
        write(content: octets, of: job, context)
    }

    /// Writes a part of the content, in pieces that are counted when they have left.
    private func write(content: ByteBuffer, of job: SMTPJob, _ context: ChannelHandlerContext) {
        // Until now it was our turn.
        if unsent == 0 { transfer?.resumed(at: .now()) }
        unsent += content.readableBytes
        moveDeadline()
        var content = content
        while let piece = content.readSlice(length: min(Self.piece, content.readableBytes)), piece.readableBytes > 0 {
            let promise = context.eventLoop.makePromise(of: Void.self)
            let count = piece.readableBytes
            promise.futureResult.assumeIsolated().whenSuccess { self.left(count, of: job) }
            context.write(wrapOutboundOut(piece), promise: promise)
        }
        context.flush()
    }

    /// So many octets of the content have left.
    private func left(_ count: Int, of job: SMTPJob) {
        guard self.job === job, transfer != nil, let context else { return }
        unsent -= count
        transfer?.moved(count, at: .now())
        moveDeadline()
        sendContentEnd(context)
    }

    private func sendContentEnd(_ context: ChannelHandlerContext) {
        guard unsent == 0, let end = contentEnd else { return }
        contentEnd = nil
        transfer = nil
        machine.contentSent()
        armDeadline()
        context.writeAndFlush(wrapOutboundOut(end), promise: nil)
    }

    func letSenderGoOn() {
        let sender = sender
        self.sender = nil
        sender?.resume(returning: true)
    }

    func stopSending() {
        stuffer = nil
        transfer = nil
        contentEnd = nil
        unsent = 0
        sender?.resume(returning: false)
        sender = nil
    }
}
