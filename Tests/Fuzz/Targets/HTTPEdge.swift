// The whole HTTP edge: whatever a client sends, and however it ends, what it is answered and what the queue gets are those of
// the requests that it has sent whole.

import SlimtaMail
import SlimtaNet

@testable import SlimtaEdge

extension FuzzTarget {
    /// Every connection ends; each request has one answer, in order; a message that is taken was all there, and is told of.
    static let httpEdge = FuzzTarget(name: "http-edge", maximumLength: 3500) { octets in
        guard let mode = octets.first else { return }
        let session = try HTTPEdgeSession(mode: mode)
        try session.run(octets.dropFirst())
        try Judgement(session, StrictReader(octets.dropFirst())).check()
    }
}

/// What has happened on a connection.
private struct Judgement {
    private let session: HTTPEdgeSession
    private let sent: StrictReader
    /// Final answers.
    private let answers: [ReadAnswer]
    private let interim: Int

    init(_ session: HTTPEdgeSession, _ sent: StrictReader) throws {
        self.session = session
        self.sent = sent
        let all = try ReadAnswer.all(session.answered, to: session.understood.map(\.method))
        answers = all.filter { !$0.isInterim }
        interim = all.count - answers.count
    }

    /// Whether the client has had what there was for it.
    private var hasHeardAll: Bool { session.ending != .vanishes && session.ending != .readsNothing }

    func check() throws {
        try checkCounts()
        for (number, answer) in answers.enumerated() where (200...299).contains(answer.status) {
            guard number < sent.requests.count else {
                throw Broken(description: "\(answer.status) to what was not sent whole, or is no request")
            }
            try check(answer, to: sent.requests[number])
        }
        try checkMessages()
    }

    private func checkCounts() throws {
        let (whole, understood) = (sent.requests, session.understood)
        let last = answers.firstIndex(where: \.isLast).map { $0 + 1 }
        try hold(last == nil || last == answers.count, "an answer behind the last one")
        try hold(answers.count <= understood.count + 1, "\(answers.count) answers to \(understood.count) requests")
        if sent.isAtEnd {
            try hold(answers.count <= whole.count, "\(answers.count) answers to \(whole.count) requests")
        }
        if hasHeardAll {
            try hold(
                answers.count >= min(whole.count, last ?? .max), "\(answers.count) answers to \(whole.count) requests")
        }
        let expecting = whole.count { !$0.values("expect").isEmpty }
        try hold(interim <= expecting + 1, "told to go on \(interim) times, asked \(expecting) times")
        // As far as it was answered, what was read is what was sent.
        for (sent, read) in zip(whole, understood).prefix(answers.count) {
            try same(read.method, sent.method, "the method")
            try same(read.target.utf8.count, sent.target.unicodeScalars.count, "the target of \(sent)")
            try hold(sent.body.starts(with: read.body), "another body: \(sent), \(read)")
        }
    }

    /// A message that was taken is the one that was sent.
    private func check(_ answer: ReadAnswer, to request: StrictRequest) throws {
        guard request.method == "POST" else { return }
        try hold(!request.body.isEmpty, "\(answer.status) to an empty message")
        guard let id = Self.id(answer) else { throw Broken(description: "\(answer.status) without an id") }
        guard let message = session.storage.taken[id] else { throw Broken(description: "\(id) is not in the queue") }
        if request.target.hasPrefix("/v1/") {
            try hold((try? JSON(parsing: request.body)) != nil, "no JSON, and taken: \(request)")
        } else {
            try same(Self.text(message), Self.text(request.body), "the message, and what was sent")
        }
        try hold(message.count <= HTTPEdgeSession.messageLimit, "a message of \(message.count) octets")
    }

    /// What is in the queue was told of, unless the client did not listen; and each message of it was sent.
    private func checkMessages() throws {
        let taken = session.storage.taken
        var told = Set<QueueID>()
        for answer in answers where (200...299).contains(answer.status) && answer.fields["idempotency-replayed"] == nil
        {
            guard let id = Self.id(answer) else { continue }
            try hold(told.insert(id).inserted || answer.status == 200, "\(id) is two messages")
        }
        if hasHeardAll { try hold(taken.keys.allSatisfy(told.contains), "a message of which nobody knows") }
        let posted = sent.requests.filter { $0.method == "POST" }
        try hold(taken.count <= posted.count, "\(taken.count) messages of \(posted.count) requests")
        let bodies = Set(posted.map { Self.text($0.body) })
        let hasJSON = posted.contains { $0.target.hasPrefix("/v1/") }
        for message in taken.values where !hasJSON {
            try hold(bodies.contains(Self.text(message)), "a message that nobody has sent")
        }
    }

    /// X-Queue-Id, or the member of that name.
    private static func id(_ answer: ReadAnswer) -> QueueID? {
        if let id = answer.fields["x-queue-id"] { return QueueID(id) }
        guard case .string(let id)? = (try? JSON(parsing: answer.body))?["id"] else { return nil }
        return QueueID(id)
    }

    /// Line ends aside: an edge makes them CRLF.
    private static func text(_ octets: [UInt8]) -> [UInt8] { octets.filter { $0 != 13 && $0 != 10 } }
}
