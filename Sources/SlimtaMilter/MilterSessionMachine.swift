// Our side of a session with a milter as a value: no channel, clock or closure. A driver in SlimtaEdge feeds it and performs
// its actions; the protocol is that of reference/content.md section 2, where Postfix's recordings decide what is open.

package import NIOCore
internal import SlimtaMail

/// One SMTP session with one milter: questions and octets in, one action out.
///
/// ```
/// opening ─▶ idle ─ask─▶ waiting(connect, EHLO, MAIL, RCPT, DATA) ─verdict─▶ idle
///             │ ▲
///         ask │ └──────────────verdict─────────────────┐
///             ▼                                        │
///          content ─▶ waiting(field … end of header, body … end) ─▶ content …
///
///             any of them ─failure, quit─▶ closing ─▶ closed
/// ```
///
/// The driver asks (``ask(_:macros:)``), hands over what arrives (``received(_:)``) and calls ``next(into:)`` until that says
/// ``Action/wait`` or ``Action/wantsBody``; it writes what was appended to `out` before it waits. Everything else that
/// happens is a call as well: ``body(_:)``, ``endOfBody()``, ``abort()``, ``quit()``, ``reuse()``, ``ended(_:)``. It may ask
/// before the milter has answered our offer. ``waitsFor`` says which deadline is running.
///
/// Every question has exactly one verdict, whatever the milter does: if it fails, ``MilterFailurePolicy`` gives it, and the
/// machine is of no further use (``isUsable``), but still gives verdicts until its message is over.
///
/// Whoever answers none of connect, EHLO, MAIL and RCPT is told everything at the end of data, in one go: what would have
/// been written before stays in here (`pending`), and what comes to nothing before is never written. To the others events go
/// out as they are asked about. Questions may also be asked all at once when a message is there (HTTP, files).
package struct MilterSessionMachine: Sendable {
    /// How a milter is treated.
    package struct Configuration: Hashable, Sendable {
        /// Its name in slimta.conf: for the reason of messages that are held.
        package var name: String
        /// What is done with mail if it fails.
        package var onFailure: MilterFailurePolicy
        /// How long one reply to a command may take.
        package var commandLimit: Duration
        /// How long the fields may take, the body, and the end of the message.
        package var contentLimit: Duration
        /// How long an event may take whose milter says that it is still at it.
        package var progressLimit: Duration
        /// Octets of a new body.
        package var mostBody: Int

        /// The limits are those of reference/content.md section 2.6 unless told otherwise.
        package init(
            name: String, onFailure: MilterFailurePolicy = .tempfail, commandLimit: Duration = .seconds(30),
            contentLimit: Duration = .seconds(300), progressLimit: Duration = .seconds(600),
            mostBody: Int = 64 << 20
        ) {
            self.name = name
            self.onFailure = onFailure
            self.commandLimit = commandLimit
            self.contentLimit = contentLimit
            self.progressLimit = progressLimit
            self.mostBody = mostBody
        }
    }

    /// What the driver is to do.
    package enum Action: Equatable, Sendable {
        /// Nothing, until something happens.
        case wait
        /// Write what was appended, all of it, then call ``next(into:)`` again: it is as much as may lie unwritten.
        case write
        /// Give the next octets of the body, or its end.
        case wantsBody
        /// What comes of what was asked.
        case verdict(MilterVerdict)
        /// Close the connection; what was appended is still written.
        case close
    }

    /// What happens to a session from outside.
    package enum End: Hashable, Sendable {
        /// There is no connection, with the system's word for it.
        case unreachable(String)
        /// The milter closed the connection.
        case closed
        /// The connection broke, with the system's word for it.
        case broken(String)
        /// A deadline passed.
        case timedOut

        var cause: MilterFailure.Cause {
            switch self {
            case .unreachable(let word): .unreachable(word)
            case .closed: .closed
            case .broken(let word): .broken(word)
            case .timedOut: .timedOut
            }
        }
    }

    /// What the session waits for: the driver has a deadline for it, and one more for the whole.
    package struct Wait: Hashable, Sendable {
        /// What the milter, or we, are to do next.
        package enum Kind: Hashable, Sendable {
            /// Nothing: no deadline is running.
            case nothing
            case negotiation
            case reply(MilterStep)
        }

        /// What is waited for.
        package var kind: Kind
        /// Another number is another wait, with a deadline of its own: ``limit`` from when it is first seen.
        package var number: UInt64
        /// How long it may take.
        package var limit: Duration
        /// Another number is another event, which may take ``wholeLimit`` with all signs of life.
        package var whole: UInt64
        /// How long that may take.
        package var wholeLimit: Duration
    }

    /// What is worth a line in the log.
    package enum Note: Hashable, Sendable {
        /// A field was longer than a packet, and the milter has seen the beginning of it. Its name.
        case fieldCut(String)
        /// The milter's own reply could not be said to a client, which heard 451.
        case replyUnfit
    }

    enum State: Equatable {
        case opening, idle
        case waiting(MilterStep)
        /// A message is being sent, and no reply is owed.
        case content
        case closing, closed
    }

    /// What was said last, as far as it counts for K. libmilter takes K behind an end that it has answered with `c`, and behind
    /// an A in the middle of a message; anywhere else, and behind an A that follows on the end, it drops K without a word,
    /// and the C behind it (asked with 8.17). So A is said before the next event, not behind the end.
    enum Rest: Equatable {
        case told
        /// The end of a message, with `c` for it.
        case ended
        /// A, in the middle of a message.
        case aborted
    }

    /// Octets that may lie unwritten.
    static let mostUnwritten = 256 << 10

    let configuration: Configuration
    var state = State.opening
    var reader = MilterPacketReader()
    private var hasOffered = false
    /// What was agreed upon; nil: the milter has not answered our offer.
    package internal(set) var negotiation: MilterNegotiation?
    /// Why the milter has no part any longer; nil: it has.
    package internal(set) var failure: MilterFailure?
    /// Written, and not yet the driver's.
    var pending = ByteBuffer()
    /// What is pending may go out.
    var isReleased = false
    /// Octets that the driver has and may not have written.
    var unwritten = 0
    /// The milter has been told something of the session: another one takes K before it.
    var isSessionOpen = false
    var hasHello = false
    /// Where the message begins in what is pending, if all of it is there.
    var messageStart: Int?
    /// The milter has been told of a message, or is to be.
    var isMessageOpen = false
    /// It was told of it by an event, not by macros alone.
    var isMessageTold = false
    var rest = Rest.told
    /// The same, before the message.
    var restBefore = Rest.told
    var asked: MilterStage?
    /// Asked before our offer was answered.
    private var deferred: (event: MilterEvent, macros: MilterMacros)?
    private var settled: MilterVerdict?
    /// What counts for all that is asked in this session, or of this message.
    var sessionVerdict: MilterVerdict?
    var messageVerdict: MilterVerdict?
    var sessionMacros = MilterMacros()
    var messageMacros = MilterMacros()
    var content = MilterContent([])
    private var waits: Wait.Kind = .negotiation
    private var waitNumber: UInt64 = 0
    private var wholeNumber: UInt64 = 0
    private var notes: [Note] = []

    /// A session over a connection that is being made.
    package init(_ configuration: Configuration) { self.configuration = configuration }

    /// Whether it can be asked about another message. If not, that one takes a new connection, unless
    /// ``MilterFailurePolicy/triesAgain`` is false.
    package var isUsable: Bool { failure == nil && state != .closing && state != .closed }

    /// What the session waits for.
    package var waitsFor: Wait {
        let limit: Duration =
            switch waits {
            case .nothing, .negotiation: configuration.commandLimit
            case .reply(let step):
                switch step {
                case .connect, .hello, .mail, .recipient, .data: configuration.commandLimit
                case .field, .endOfFields, .body, .end: configuration.contentLimit
                }
            }
        return Wait(
            kind: waits, number: waitNumber, limit: limit, whole: wholeNumber, wholeLimit: configuration.progressLimit)
    }

    /// What was worth a line in the log since the last call.
    package mutating func takeNotes() -> [Note] {
        defer { notes = [] }
        return notes
    }

    // MARK: Events

    /// Asks one question; the verdict comes by ``next(into:)``, and the next question after it.
    /// - Parameter macros: what is known by now: at connect and EHLO of the session, at RCPT of this recipient, else of the
    ///   message.
    package mutating func ask(_ event: MilterEvent, macros: MilterMacros = [:]) {
        precondition(asked == nil, "a milter is asked one question at a time")
        asked = event.stage
        guard negotiation == nil, failure == nil, state == .opening else {
            begin(event, macros)
            return
        }
        deferred = (event, macros)
    }

    /// The next octets of the body, of any number, after ``Action/wantsBody``.
    package mutating func body(_ octets: ByteBuffer) {
        if state == .content { content.add(octets) }
    }

    /// There is no more of the body.
    package mutating func endOfBody() { content.isBodyWhole = true }

    /// Takes what the milter sent; ``next(into:)`` then says what to do.
    package mutating func received(_ octets: ByteBuffer) {
        // Behind the end nothing counts, and nothing is kept.
        if state != .closed, state != .closing { reader.append(octets) }
    }

    /// The message is no more: RSET, another EHLO, the client is gone. A question that is open has no verdict then; the
    /// milter would still answer it, so the connection is closed.
    package mutating func abort() {
        deferred = nil
        settled = nil
        asked = nil
        switch state {
        case .idle: endMessage()
        case .waiting, .content: state = .closing
        case .opening, .closing, .closed: break
        }
        messageVerdict = nil
        messageMacros = [:]
    }

    /// The session is over: says Q where the milter listens.
    package mutating func quit() {
        let isListening = state == .idle && !reader.hasUnread
        abort()
        guard state != .closed else { return }
        if isListening {
            if !isSessionOpen { pending.clear() }
            if rest == .ended { pending.writeMilterPacket("A") }
            pending.writeMilterPacket("Q")
            isReleased = true
        }
        state = .closing
        doesNotWait()
    }

    /// Whether another SMTP session may follow on the connection: nothing is open, nothing went wrong, and the milter is
    /// where it takes K (``Rest``). The versions before 6 have no K.
    package var canBeReused: Bool {
        guard state == .idle, failure == nil, asked == nil, !reader.hasUnread, (negotiation?.version ?? 0) >= 6 else {
            return false
        }
        if !isSessionOpen { return true }
        guard isMessageOpen else { return rest != .told }
        return messageStart == nil ? isMessageTold : restBefore != .told
    }

    /// Another SMTP session begins, as if the connection were new; only where ``canBeReused``.
    package mutating func reuse() {
        guard canBeReused else { return }
        abort()
        if isSessionOpen {
            pending.writeMilterPacket("K")
            isReleased = true
        } else {
            pending.clear()
        }
        (isSessionOpen, hasHello, rest) = (false, false, .told)
        sessionVerdict = nil
        sessionMacros = [:]
    }

    /// The session ends from outside.
    package mutating func ended(_ end: End) {
        switch state {
        case .closing, .closed: state = .closed
        case .opening, .idle, .waiting, .content: fail(end.cause)
        }
    }

    /// What is to be done; call it again until it is ``Action/wait`` or ``Action/wantsBody``.
    package mutating func next(into out: inout ByteBuffer) -> Action {
        if !hasOffered, state == .opening {
            hasOffered = true
            MilterNegotiation.writeOffer(into: &pending)
            isReleased = true
            waits(for: .negotiation)
        }
        let action = nextAction()
        release(into: &out)
        if action == .wait || action == .write { unwritten = 0 }
        return action
    }

    private mutating func nextAction() -> Action {
        while true {
            if let verdict = settled {
                settled = nil
                asked = nil
                return .verdict(verdict)
            }
            do throws(MilterFault) {
                switch state {
                case .closed: return .wait
                case .closing:
                    state = .closed
                    return .close
                case .content:
                    if let action = try sendContent() { return action }
                case .idle:
                    guard reader.hasUnread else { return .wait }
                    throw .unasked
                case .opening:
                    guard let packet = try reader.next() else { return .wait }
                    try opened(by: packet)
                case .waiting(let step):
                    guard let packet = try reader.next() else { return .wait }
                    try replied(packet, to: step)
                }
            } catch {
                fail(.fault(error))
            }
        }
    }

    private mutating func opened(by packet: MilterPacket) throws(MilterFault) {
        negotiation = try MilterNegotiation(answer: packet)
        state = .idle
        doesNotWait()
        guard let (event, macros) = deferred else { return }
        deferred = nil
        begin(event, macros)
    }

    /// Hands over what may go out.
    private mutating func release(into out: inout ByteBuffer) {
        guard isReleased || pending.readableBytes > Self.mostUnwritten else { return }
        isReleased = false
        unwritten += pending.readableBytes
        out.writeImmutableBuffer(pending)
        pending.clear()
        messageStart = nil
        // The offer is no part of the session.
        isSessionOpen = isSessionOpen || negotiation != nil
    }

    // MARK: Outcomes

    /// The verdict on what was asked.
    mutating func settle(_ verdict: MilterVerdict) {
        guard let stage = asked else { return }
        // Nothing more of the message: it goes on as it is.
        settled = stage == .message && verdict == .accepted ? .finished(MilterEdits()) : verdict
        doesNotWait()
    }

    /// The milter has no part any longer.
    mutating func fail(_ cause: MilterFailure.Cause) {
        let step: MilterStep? = if case .reply(let step) = waits { step } else { nil }
        failure = MilterFailure(cause: cause, step: step)
        state = .closing
        pending.clear()
        deferred = nil
        settleFailure()
        doesNotWait()
    }

    /// The verdict of a milter that has failed, if none was found and one is wanted.
    mutating func settleFailure() {
        guard let stage = asked, settled == nil, let failure else { return }
        let answersEarly = negotiation.map { $0.owesReply(to: .connect) || $0.owesReply(to: .hello) } ?? false
        settle(
            configuration.onFailure.verdict(
                at: stage, answersEarly: answersEarly, reason: "milter \(configuration.name) \(failure)"))
    }

    mutating func note(_ note: Note) { notes.append(note) }

    // MARK: Deadlines

    /// A new event, with deadlines of its own.
    mutating func waits(for kind: Wait.Kind) {
        waits = kind
        waitNumber += 1
        wholeNumber += 1
    }

    /// The milter is still at it.
    mutating func waitsOn() { waitNumber += 1 }

    private mutating func doesNotWait() { waits(for: .nothing) }
}
