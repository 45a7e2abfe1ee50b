// The client of one policy server: carries questions, answers and times between the gate and PolicyServiceMachine, which
// decides. The daemon has one for each [[policy_service]] of a configuration.

package import Logging
package import NIOCore
internal import NIOPosix
internal import SlimtaNet
package import SlimtaRules
internal import Synchronization

/// Asks one policy server, over connections that are kept. Safe to call from any thread.
package final class PolicyServiceClient: Sendable {
    typealias Machine = PolicyServiceMachine

    /// What is said of a service in slimta.conf.
    package struct Settings: Sendable {
        /// Its name in the log and in what it causes.
        package var name: String
        /// Where it listens: tried in this order, until one can be connected to. At least one.
        package var addresses: [SocketAddress]
        /// What a question may take in all, second try included.
        package var timeout: Duration
        /// What counts if it gives no answer.
        package var onFailure: PolicyOnFailure
        /// The attribute `policy_context`; empty: none.
        package var context: String

        /// A service, with Postfix's usual ways unless told otherwise.
        package init(
            name: String, addresses: [SocketAddress], timeout: Duration = .seconds(5),
            onFailure: PolicyOnFailure = .tempfail, context: String = ""
        ) {
            self.name = name
            self.addresses = addresses
            self.timeout = timeout
            self.onFailure = onFailure
            self.context = context
        }
    }

    /// A question that was asked, for whoever no longer wants the answer.
    package struct Question: Hashable, Sendable {
        fileprivate let id: Machine.QuestionID
    }

    private struct Asked: Sendable {
        let request: PolicyRequest
        let completion: @Sendable (PolicyAnswer) -> Void
    }

    private struct State: Sendable {
        var machine: Machine
        var asked: [Machine.QuestionID: Asked] = [:]
        var channels: [Machine.ConnectionID: any Channel] = [:]
        /// To be closed as soon as they are there.
        var unwanted: Set<Machine.ConnectionID> = []
        var timer = SessionTimer()
        /// What was told once and is not told again: verbs, and words of ours.
        var told: Set<String> = []
    }

    /// How many different verbs are told of at most: a server can make them up.
    private static let toldLimit = 32

    /// As it was made.
    package let settings: Settings
    private let logger: Logger
    /// Everything but asking happens here, one after the other.
    private let loop: any EventLoop
    private let state: Mutex<State>
    private let lastQuestion = Atomic<UInt64>(0)

    /// That it is not asked for a while, and why; nil: it is.
    package var complaint: String? {
        state.withLock { $0.machine.complaint }.map { failure in
            "policy_service \(settings.name): it gives no answers: \(failure); on_failure = "
                + "\"\(settings.onFailure.rawValue)\" counts"
        }
    }

    /// A client without connections: they are made when somebody asks. They live on one loop of `group`.
    package convenience init(_ settings: Settings, group: any EventLoopGroup, logger: Logger) {
        var limits = Machine.Limits()
        limits.timeout = TimeAmount(settings.timeout)
        self.init(settings, limits, loop: group.next(), logger: logger)
    }

    init(_ settings: Settings, _ limits: Machine.Limits, loop: any EventLoop, logger: Logger) {
        self.settings = settings
        self.loop = loop
        self.logger = logger
        state = Mutex(State(machine: Machine(limits)))
    }

    // MARK: Questions

    /// Asks. The answer comes within ``Settings/timeout``: the service's, or what `on_failure` says.
    ///
    /// - Parameters:
    ///   - session: the questions of one session have one connection where that is possible.
    ///   - completion: is called once, on any thread; not any more behind ``withdraw(_:)``.
    @discardableResult
    package func ask(
        _ request: PolicyRequest, session: UInt64, completion: @escaping @Sendable (PolicyAnswer) -> Void
    ) -> Question {
        let id = lastQuestion.wrappingAdd(1, ordering: .relaxed).newValue
        onLoop { client in
            client.state.withLock { $0.asked[id] = Asked(request: request, completion: completion) }
            client.happened { $0.asked(id, by: session, $1) }
        }
        return Question(id: id)
    }

    /// Nobody waits for the answer any more.
    package func withdraw(_ question: Question) {
        onLoop { client in
            guard client.state.withLock({ $0.asked.removeValue(forKey: question.id) }) != nil else { return }
            client.happened { $0.withdrawn(question.id, $1) }
        }
    }

    /// Closes all connections. What waits for an answer gets that of `on_failure`, as does whoever asks from now on.
    package func close() async {
        let channels = try? await loop.submit {
            let channels = Array(self.state.withLock { $0.channels }.values)
            self.happened { machine, _ in machine.shutDown() }
            self.state.withLock { $0.timer.cancel() }
            return channels
        }.get()
        for channel in channels ?? [] { try? await channel.closeFuture.get() }
    }

    private func onLoop(_ body: @escaping @Sendable (PolicyServiceClient) -> Void) {
        if loop.inEventLoop { return body(self) }
        loop.execute { body(self) }
    }

    // MARK: Connections

    /// On the loop, as all that follows: of ``PolicyServiceHandler``.
    func connected(_ id: Machine.ConnectionID, _ channel: any Channel) {
        let isWanted = state.withLock { state in
            guard state.unwanted.remove(id) == nil else { return false }
            state.channels[id] = channel
            return true
        }
        guard isWanted else { return channel.close(promise: nil) }
        happened { $0.connected(id, $1) }
    }

    /// An answer has come, and nothing else with it, if it `isInOrder`.
    func answered(_ id: Machine.ConnectionID, _ answer: PolicyAnswer, isInOrder: Bool, hasCRLF: Bool) {
        tell(answer, hasCRLF: hasCRLF)
        happened(answer) { $0.answered(id, isInOrder: isInOrder, $1) }
    }

    /// Nothing more can be said on the connection.
    func failed(_ id: Machine.ConnectionID, _ reason: String) { happened { $0.failed(id, reason, $1) } }

    /// The connection is gone.
    func closed(_ id: Machine.ConnectionID) {
        state.withLock { state in
            state.channels[id] = nil
            state.unwanted.remove(id)
        }
        happened { $0.closed(id, $1) }
    }

    private func connect(_ id: Machine.ConnectionID, _ addresses: ArraySlice<SocketAddress>, _ reason: String) {
        guard let address = addresses.first, !state.withLock({ $0.unwanted.contains(id) }) else {
            failed(id, reason)
            return closed(id)
        }
        ClientBootstrap(group: loop)
            .connectTimeout(TimeAmount(settings.timeout))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(PolicyServiceHandler(id, self))
                }
            }
            .connect(to: address)
            .whenFailure { self.connect(id, addresses.dropFirst(), "cannot connect: \($0.connectionReason)") }
    }

    // MARK: Actions

    /// Tells the machine, and does what it wants done. `answer` is what has come.
    private func happened(_ answer: PolicyAnswer? = nil, _ event: (inout Machine, NIODeadline) -> [Machine.Action]) {
        for action in state.withLock({ event(&$0.machine, loop.now) }) { perform(action, answer) }
        armTimer()
    }

    private func perform(_ action: Machine.Action, _ answer: PolicyAnswer?) {
        switch action {
        case .connect(let id): connect(id, settings.addresses[...], "no address")
        case .send(let id, let question):
            let (channel, asked) = state.withLock { ($0.channels[id], $0.asked[question]) }
            // Also if nobody waits for the answer any more: the machine does.
            guard let channel, let asked else { return failed(id, "nobody waits for the answer") }
            channel.writeAndFlush(ByteBuffer(string: asked.request.text(context: settings.context)), promise: nil)
        case .close(let id):
            let channel = state.withLock { state in
                if state.channels[id] == nil { state.unwanted.insert(id) }
                return state.channels[id]
            }
            channel?.close(promise: nil)
        case .deliver(let question): if let answer { complete(question, answer) }
        case .giveUp(let question, let failure):
            logger.debug("policy service not asked or silent", metadata: metadata(failure))
            complete(question, settings.onFailure.answer)
        case .tellFailure(let failure): logger.warning("policy service gives no answer", metadata: metadata(failure))
        case .tellOpened(let failure):
            logger.error("policy service gives no answers, it is not asked for a while", metadata: metadata(failure))
        case .tellRecovered: logger.notice("policy service answers again", metadata: ["service": "\(settings.name)"])
        }
    }

    private func complete(_ question: Machine.QuestionID, _ answer: PolicyAnswer) {
        state.withLock { $0.asked.removeValue(forKey: question) }?.completion(answer)
    }

    private func metadata(_ failure: Machine.Failure) -> Logger.Metadata {
        ["service": "\(settings.name)", "error": "\(failure)", "on_failure": "\(settings.onFailure.rawValue)"]
    }

    /// What an operator should know of an answer, once for each verb.
    private func tell(_ answer: PolicyAnswer, hasCRLF: Bool) {
        if hasCRLF, isNew("\r\n") {
            logger.warning("policy service ends its lines with CRLF", metadata: ["service": "\(settings.name)"])
        }
        guard let doubt = answer.doubt, isNew(answer.doubt == .bareNumber ? "0" : answer.verb) else { return }
        let fields: Logger.Metadata = ["service": "\(settings.name)", "action": "\(answer.verb)"]
        switch doubt {
        case .unknownAction, .empty:
            logger.warning("policy service says what is not known, taken as DUNNO", metadata: fields)
        case .bareNumber: logger.warning("policy service says a number alone, taken as OK", metadata: fields)
        }
    }

    private func isNew(_ word: String) -> Bool {
        state.withLock { $0.told.count < Self.toldLimit && $0.told.insert(word).inserted }
    }

    // MARK: Time

    private func armTimer() {
        state.withLock { state in
            state.timer.set(state.machine.nextDue ?? .distantFuture, on: loop) { self.timerFired() }
        }
    }

    private func timerFired() {
        let isDue = state.withLock { $0.timer.hasPassed(on: loop) { self.timerFired() } }
        if isDue { happened { $0.timePassed($1) } }
    }
}
