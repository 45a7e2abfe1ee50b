// One milter of slimta.conf, for all sessions: where it is, whether it can be asked, connections that wait for another session,
// and what is told of it. The composition root makes one for each [[milter]] of a configuration.

package import Logging
package import NIOCore
internal import SlimtaMail
package import SlimtaMilter
internal import Synchronization

/// A milter. Safe to use from any thread.
package final class MilterService: Sendable {
    /// What is said of it in slimta.conf.
    package struct Settings: Sendable {
        /// Its name, how it is treated, and its limits but for the next one.
        package var session: MilterSessionMachine.Configuration
        /// Where it listens.
        package var address: SocketAddress
        /// How long it may take to take a connection.
        package var connectTimeout: TimeAmount
        /// Whether a session may go on with the connection of one that is over.
        package var reuses: Bool

        /// All of them.
        package init(
            session: MilterSessionMachine.Configuration, address: SocketAddress, connectTimeout: TimeAmount,
            reuses: Bool = false
        ) {
            (self.session, self.address) = (session, address)
            (self.connectTimeout, self.reuses) = (connectTimeout, reuses)
        }
    }

    private struct State: Sendable {
        var backOff = MilterBackOff()
        /// Why it is left alone; nil: it is not.
        var complaint: String?
        /// Connections that wait for a session, by the event loop that they live on; the last used last.
        var idle: [ObjectIdentifier: [Idle]] = [:]
        var isClosed = false
    }

    private struct Idle: Sendable {
        let eventLoop: any EventLoop
        let conversation: NIOLoopBound<MilterConversation>
    }

    /// Connections that wait on one event loop.
    private static let mostIdle = 10
    /// For how long.
    static let idleTime = TimeAmount.seconds(60)

    let settings: Settings
    private let lines: SessionLog
    private let state = Mutex(State())

    /// Its name.
    var name: String { settings.session.name }

    /// A milter that nobody has asked yet.
    package init(_ settings: Settings, logger: Logger) {
        self.settings = settings
        lines = SessionLog(logger)
    }

    /// That it cannot be asked, and why; nil: it can.
    package var complaint: String? {
        state.withLock { $0.complaint }.map {
            "milter \(name): it \($0); on_failure = \"\(settings.session.onFailure.word)\" counts"
        }
    }

    /// Closes the connections that wait for a session; sessions that go on end theirs.
    package func close() async {
        let idle = state.withLock { state in
            state.isClosed = true
            defer { state.idle = [:] }
            return state.idle.values.flatMap(\.self)
        }
        for one in idle { try? await one.eventLoop.submit { one.conversation.value.quit() }.get() }
    }

    /// How many connections wait for a session.
    var idleCount: Int { state.withLock { $0.idle.values.reduce(0) { $0 + $1.count } } }

    // MARK: Connections

    /// What a session asks it by: a new connection, which is being made, or one that waited.
    func conversation(on eventLoop: any EventLoop, session: String) -> MilterConversation {
        let kept = state.withLock { $0.idle[ObjectIdentifier(eventLoop)]?.popLast() }
        if let conversation = kept?.conversation.value {
            conversation.begin(session)
            return conversation
        }
        return MilterConversation(self, session, on: eventLoop)
    }

    /// Keeps a connection for another session. False: it is to be closed.
    func keep(_ conversation: MilterConversation, on eventLoop: any EventLoop) -> Bool {
        let one = Idle(eventLoop: eventLoop, conversation: NIOLoopBound(conversation, eventLoop: eventLoop))
        return state.withLock { state in
            guard !state.isClosed, state.idle[ObjectIdentifier(eventLoop)]?.count ?? 0 < Self.mostIdle else {
                return false
            }
            state.idle[ObjectIdentifier(eventLoop), default: []].append(one)
            return true
        }
    }

    /// A connection that waited is gone.
    func forget(_ conversation: MilterConversation, on eventLoop: any EventLoop) {
        state.withLock { $0.idle[ObjectIdentifier(eventLoop)]?.removeAll { $0.conversation.value === conversation } }
    }

    /// Whether a connection may be made.
    func mayConnect(_ now: NIODeadline) -> Bool { state.withLock { $0.backOff.mayTry(now) } }

    // MARK: What happens

    /// It has answered our offer.
    func answered(on eventLoop: any EventLoop) {
        let isNews = state.withLock { state in
            state.complaint = nil
            return state.backOff.answered()
        }
        if isNews { log(.notice, "milter answers again", [:], on: eventLoop) }
    }

    /// A session has ended before its connection came to anything.
    func abandoned(_ now: NIODeadline) { state.withLock { $0.backOff.abandoned(now) } }

    /// It cannot be asked.
    func unreachable(_ failure: MilterFailure, _ session: String, on eventLoop: any EventLoop) {
        let isNews = state.withLock { state in
            state.complaint = failure.description
            return state.backOff.failed(eventLoop.now)
        }
        log(
            isNews ? .error : .debug, "milter cannot be asked, it is left alone for a while", failed(failure, session),
            on: eventLoop)
    }

    /// It has failed a session that had asked it.
    func failed(_ failure: MilterFailure, _ session: String, on eventLoop: any EventLoop) {
        log(.warning, "milter has failed", failed(failure, session), on: eventLoop)
    }

    private func failed(_ failure: MilterFailure, _ session: String) -> Logger.Metadata {
        ["error": "it \(failure)", "on_failure": "\(settings.session.onFailure.word)", "session": "\(session)"]
    }

    /// What its session has found worth a line.
    func tell(_ note: MilterSessionMachine.Note, _ session: String, on eventLoop: any EventLoop) {
        switch note {
        case .fieldCut(let name):
            log(.info, "field is too long for a milter", ["session": "\(session)", "field": "\(name)"], on: eventLoop)
        case .replyUnfit: log(.warning, "reply of a milter is none", ["session": "\(session)"], on: eventLoop)
        }
    }

    /// What it has said beside addresses, and nobody listens to.
    func tell(unused parameters: [String], _ session: String, on eventLoop: any EventLoop) {
        guard !parameters.isEmpty else { return }
        let words = parameters.joined(separator: " ").cut(toOctets: 300).visible
        log(
            .info, "parameters of a milter are not used", ["session": "\(session)", "parameters": "\(words)"],
            on: eventLoop)
    }

    private func log(
        _ level: Logger.Level, _ message: Logger.Message, _ fields: Logger.Metadata, on eventLoop: any EventLoop
    ) {
        var fields = fields
        fields["milter"] = "\(name)"
        lines.log(level, message, fields, source: nil, on: eventLoop)
    }
}

extension MilterFailurePolicy {
    /// As slimta.conf has it.
    var word: String {
        switch self {
        case .tempfail: "tempfail"
        case .accept: "accept"
        case .reject: "reject"
        case .quarantine: "quarantine"
        }
    }
}
