// One file on its way into the queue: read, made a message, and handed over under the id that its name in `taken` has.
// DirectoryDriver has one for each.

internal import NIOCore
internal import NIOPosix
internal import SlimtaCrypto
internal import SlimtaMail
internal import SlimtaQueue
internal import SlimtaSMTP

/// Submits one file. Exactly once: its receipt, which has the id as its key, is in the commit that stores the message, and
/// is there until the file is gone.
struct DirectorySubmission: Sendable {
    typealias Outcome = DirectoryMachine.Outcome

    let file: TakenFile
    let folder: PickupFolder
    let settings: DirectoryEdgeSettings
    let submissions: any Submissions
    let inProgress: SubmissionsInProgress
    let log: SessionLog
    let eventLoop: any EventLoop
    let threads: NIOThreadPool

    /// What came of it. Broken off, it is `later`, or stored all the same.
    func run() async -> Outcome {
        do throws(Ending) {
            return Self.final(try await submit(), id: file.id, expire: settings.expire, .now())
        } catch {
            return Self.final(error.outcome, id: file.id, expire: settings.expire, .now())
        }
    }

    /// What is put off when its time is over is refused (RFC 3463 section 3.5), as the queue does with messages. What is our own
    /// trouble is put off without end: the file is no worse for it.
    ///
    /// - Parameter id: of when the file was taken.
    static func final(_ outcome: Outcome, id: QueueID, expire: Duration, _ now: Timestamp) -> Outcome {
        guard case .later(let reply) = outcome, reply.status?.subject != 3, now - id.time >= expire else {
            return outcome
        }
        return .refused(Reply(554, .init(5, 4, 7), "Tried for too long, and in the end: \(reply)"))
    }

    /// Why there is no more to do.
    private struct Ending: Error {
        let outcome: Outcome

        init(_ outcome: Outcome) { self.outcome = outcome }

        init(_ reply: Reply) {
            // A submission that is stored already says so.
            outcome = reply == .repeated ? .stored : reply.isPermanent ? .refused(reply) : .later(reply)
        }
    }

    private func submit() async throws(Ending) -> Outcome {
        do throws(StorageError) {
            if try await submissions.receipt(for: Self.key(of: file.id)) != nil { return .stored }
        } catch {
            throw Ending(Reply(storing: error))
        }
        // Its name is gone: somebody took it away.
        guard let reader = try await open(), let facts = reader.facts else { return .stored }
        if let reply = settings.submission.rules.refusal(ofSize: Int(facts.size)) { throw Ending(reply) }
        let owner = try await owner(facts)
        let session = SubmissionSession(
            settings.submission, connection: ConnectionFacts(peer: nil, local: Self.localAddress),
            clientName: settings.submission.hostname, protocolWord: "FILE", submissions: submissions, log: log,
            on: eventLoop)
        inProgress.add(session)
        return await withTaskCancellationHandler {
            do throws(Ending) {
                return try await pass(reader, facts, owner, to: session)
            } catch {
                session.abandon()
                return error.outcome
            }
        } onCancel: {
            // Once the queue has the message, nothing happens.
            session.abandon()
        }
    }

    /// A client of this machine that has no address.
    private static let localAddress = try? SocketAddress(unixDomainSocketPath: "/")

    // MARK: The file

    private func open() async throws(Ending) -> PickupReader? {
        do throws(PickupRefusal) {
            return try await threads.perform { [folder, file] () throws(PickupRefusal) in try folder.open(file) }
        } catch {
            throw Ending(error.reply)
        }
    }

    private func owner(_ facts: FileFacts) async throws(Ending) -> AuthenticatedUser? {
        guard let owners = settings.owners else { return nil }
        guard let user = await owners.user(facts.owner) else {
            throw Ending(Reply(550, .init(5, 7, 1), "The owner of the file, user \(facts.owner), is nobody here"))
        }
        guard facts.links == 1 else {
            throw Ending(Reply(450, .init(4, 7, 1), "The file has another name as well: whose it is says nothing"))
        }
        return user
    }

    // MARK: The message

    private func pass(
        _ reader: PickupReader, _ facts: FileFacts, _ owner: AuthenticatedUser?, to session: SubmissionSession
    ) async throws(Ending) -> Outcome {
        if let owner {
            switch await session.identified(as: owner) {
            case .user, .nobody: break
            case .refused(let reply), .forbidden(let reply): throw Ending(reply)
            }
        }
        var content = FileContent(reader, limit: settings.submission.rules.messageSize)
        var head = ByteBuffer()
        while !HeaderBlock(scanning: head).isComplete, let part = try await next(&content) {
            guard head.readableBytes <= MessageCollector.headLimit else {
                throw Ending(Reply(552, .init(5, 3, 4), "Message header is too large"))
            }
            head.writeImmutableBuffer(part)
        }
        try await check(content, reader, facts)
        let envelope = try envelope(head)
        head.moveReaderIndex(forwardBy: envelope.topLength)
        switch await session.begin(try request(envelope, facts, owner)) {
        case .open: break
        case .refused(let reply), .forbidden(let reply): throw Ending(reply)
        case .noRecipients(let replies): throw Ending(replies.first ?? .unanswered)
        }
        if head.readableBytes > 0, let reply = await session.append(head) { throw Ending(reply) }
        while let part = try await next(&content) {
            if let reply = await session.append(part) { throw Ending(reply) }
        }
        try await check(content, reader, facts)
        let reply = await session.end(receipt: Self.receipt(of: file.id)).reply
        if reply.isPositive { return .stored }
        throw Ending(reply)
    }

    /// The next part of the content; nil at its end, or where it cannot be taken.
    private func next(_ content: inout FileContent) async throws(Ending) -> ByteBuffer? {
        let before = content
        do throws(PickupFolder.Problem) {
            let (after, part) = try await threads.perform {
                () throws(PickupFolder.Problem) -> (FileContent, ByteBuffer?) in
                var after = before
                let part = try after.next()
                return (after, part)
            }
            content = after
            return part
        } catch {
            throw Ending(Reply(451, .init(4, 3, 0), error.description))
        }
    }

    /// Throws if what was read is not what was taken, or no message.
    private func check(_ content: FileContent, _ reader: PickupReader, _ facts: FileFacts) async throws(Ending) {
        // Who has it open may write on, whatever its name is.
        let now = await threads.perform { () throws(Never) in reader.facts }
        guard let now, now.hasContent(of: facts) else { throw Ending(.changed) }
        if let reply = content.refusal { throw Ending(reply) }
    }

    private func envelope(_ head: ByteBuffer) throws(Ending) -> PickupEnvelope {
        do throws(PickupRefusal) {
            return try PickupEnvelope(reading: head, hostname: settings.submission.hostname)
        } catch {
            throw Ending(error.reply)
        }
    }

    private func request(
        _ envelope: PickupEnvelope, _ facts: FileFacts, _ owner: AuthenticatedUser?
    ) throws(Ending) -> SubmissionRequest {
        let sender: Mailbox?
        switch (envelope.sender, owner) {
        case (.given(let given), _): sender = given
        case (.header, let owner?):
            guard let own = Mailbox(localName: owner.login, domain: settings.submission.hostname) else {
                throw Ending(
                    Reply(553, .init(5, 1, 7), "No X-Sender, and no address can be made of \(owner.login.visible)"))
            }
            sender = own
        case (.header(let author?), nil): sender = author
        case (.header(nil), nil):
            throw Ending(
                Reply(554, .init(5, 6, 0), "No sender: neither X-Sender or X-Envelope-Sender at the top nor From"))
        }
        var request = SubmissionRequest(
            sender: sender, recipients: envelope.recipients, size: Int(facts.size), needsAll: true, id: file.id)
        request.body = envelope.body
        request.smtpUTF8 = request.smtpUTF8 || envelope.smtpUTF8
        return request
    }

    // MARK: The receipt

    /// By the id alone: the edge may have another name after a crash.
    static func key(of id: QueueID) -> Receipt.Digest {
        Receipt.Digest(HashFunction.sha256.digest(Array("slimtad directory \(id)".utf8)))
    }

    private static let owner = Receipt.Owner(
        Receipt.Digest(HashFunction.sha256.digest(Array("slimtad directory".utf8))))

    /// It is forgotten when the file is gone; one that a crash has left behind then counts among the many that a storage
    /// keeps of one owner. What was in the file is not compared: an id is given once.
    private static func receipt(of id: QueueID) -> Receipt {
        let expires = Timestamp.now() + .seconds(10 * 365 * 86400)
        var receipt = Receipt(key: key(of: id), owner: owner, fingerprint: key(of: id), id: id, expires: expires)
        receipt.reach = .here
        return receipt
    }
}

extension NIOThreadPool {
    /// Has one of the threads do what blocks. Where the pool has ended the caller does it: at the stop.
    func perform<Value: Sendable, Failure: Error>(
        _ body: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        let result = try? await runIfActive { Result { () throws(Failure) in try body() } }
        guard let result else { return try body() }
        return try result.get()
    }
}

/// A file's octets as a message has them.
private struct FileContent: Sendable {
    private let file: PickupReader
    private var reader: ContentReader
    private var offset: Int64 = 0
    private var isAtEnd = false

    init(_ file: PickupReader, limit: Int) {
        self.file = file
        reader = ContentReader(limit: limit)
    }

    /// Why the content cannot be taken.
    var refusal: Reply? { reader.refusal }

    /// The next part, which is not empty; nil at the end, and where there is a ``refusal``. Blocks.
    mutating func next() throws(PickupFolder.Problem) -> ByteBuffer? {
        var part = ByteBuffer()
        while part.readableBytes == 0, !isAtEnd, reader.fault == nil {
            let octets = try file.read(at: offset)
            offset += Int64(octets.readableBytes)
            isAtEnd = octets.readableBytes == 0
            if isAtEnd { reader.finish(into: &part) } else { reader.read(octets, into: &part) }
        }
        return reader.fault == nil && part.readableBytes > 0 ? part : nil
    }
}
