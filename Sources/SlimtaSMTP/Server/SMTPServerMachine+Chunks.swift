// Messages that come in chunks (RFC 3030): BDAT of SMTPServerMachine. A chunk's octets are always taken, whatever is said to it: what
// is behind them is the next command.

internal import NIOCore
internal import SlimtaMail

extension SMTPServerMachine {
    /// How far the octets of a chunk are.
    struct Chunk: Sendable {
        /// How many are still to come.
        var remaining: Int
        let isLast: Bool
        /// As it was announced.
        let size: Int
        /// What it is answered with when all have come; nil: it is a part of the message.
        var refusal: Refusal?

        init(_ command: ChunkCommand, refusal: Refusal? = nil) {
            (remaining, size, isLast, self.refusal) = (command.size, command.size, command.isLast, refusal)
        }
    }

    mutating func bdat(_ command: ChunkCommand, into output: inout ByteBuffer) {
        guard takes(.chunking), let transaction else { return skip(command, .badSequence, into: &output) }
        guard !transaction.recipients.isEmpty else {
            return skip(command, transaction.hasRefused ? .noValidRecipients : .noRecipients, into: &output)
        }
        guard transaction.chunks == nil else { return begin(command) }
        chunk = Chunk(command)
        ask(.data, into: &output)
    }

    /// The first chunk may come.
    mutating func chunksMayCome(_ first: Chunk) {
        transaction?.chunks = ChunkReader(limit: configuration.messageSize)
        hasContent = true
        begin(ChunkCommand(size: first.size, isLast: first.isLast))
    }

    private mutating func begin(_ command: ChunkCommand) {
        // Many small ones are no progress.
        if command.isLast || command.size >= Self.smallChunk { commands = 0 }
        var chunk = Chunk(command)
        transaction?.chunks?.begin(command.size)
        if let fault = transaction?.chunks?.fault { chunk.refusal = refusal(fault.reply) }
        self.chunk = chunk
        enter(.chunk)
    }

    /// The octets are read and forgotten. What has been begun is over: what comes behind a hole is no message.
    mutating func skip(_ command: ChunkCommand, _ reply: Reply, into output: inout ByteBuffer) {
        let refusal = refusal(reply)
        guard command.size <= configuration.messageSize else {
            // Nobody is kept reading what no message can be.
            transaction = nil
            refuse(refusal, into: &output)
            return endForChunk(into: &output)
        }
        chunk = Chunk(command)
        skip(with: refusal)
    }

    /// The same of the chunk that is there.
    mutating func skip(with refusal: Refusal) {
        chunk?.refusal = refusal
        transaction = nil
        enter(.chunk)
    }

    private func refusal(_ reply: Reply) -> Refusal {
        Refusal(reply: reply, command: "BDAT", address: nil, sender: transaction?.mail.sender, login: user?.login)
    }

    /// What has come of the chunk: content to be given out, or nothing.
    mutating func readChunk() -> ByteBuffer? {
        guard var chunk, let octets = input.readSlice(length: min(chunk.remaining, input.readableBytes)) else {
            return nil
        }
        chunk.remaining -= octets.readableBytes
        defer { self.chunk = chunk }
        guard chunk.refusal == nil, octets.readableBytes > 0 else { return nil }
        transaction?.chunks?.read(octets)
        if let fault = transaction?.chunks?.fault {
            chunk.refusal = refusal(fault.reply)
            return nil
        }
        // Not a part of what was read at once, which would be kept with it.
        var content = ByteBuffer()
        content.writeImmutableBuffer(octets)
        return content
    }

    /// All octets of the chunk have come.
    ///
    /// - Returns: what the message lacks at its end.
    mutating func chunkEnded(into output: inout ByteBuffer) -> ByteBuffer? {
        guard let chunk else { preconditionFailure("the end of no chunk") }
        self.chunk = nil
        if let refusal = chunk.refusal {
            transaction = nil
            enter(.command)
            refuse(refusal, into: &output)
            return nil
        }
        guard chunk.isLast else {
            enter(.command)
            write(Reply(250, .init(2, 0, 0), "\(chunk.size) octets received"), into: &output)
            return nil
        }
        guard var reader = transaction?.chunks else { preconditionFailure("a chunk without a transaction") }
        let rest = reader.finish()
        enter(.dataEnded(.init(fault: reader.fault, hasEightBit: reader.hasEightBit, endsSession: false)))
        return rest.readableBytes > 0 ? rest : nil
    }

    /// Where the octets of a chunk end that has no size, nobody knows.
    mutating func chunkWithoutSize(into output: inout ByteBuffer) {
        refuse(SMTPSyntaxError.badChunk.reply, into: &output)
        endForChunk(into: &output)
    }

    /// Nothing if the refusal has ended the session.
    private mutating func endForChunk(into output: inout ByteBuffer) {
        guard case .command = phase else { return }
        end(.chunkSize, .init(4, 7, 0), "Nothing is read behind such a chunk, closing connection", into: &output)
    }

    /// From so many octets on a chunk counts as progress.
    static let smallChunk = 1024
}
