// Whether a DNS list is in order: lists that have ended answer with everything or nothing, and must not stop mail for that.
// Lookups makes one for each list; BlockListLookup asks it before it believes an answer.

internal import Logging
internal import SlimtaDNS
internal import SlimtaMail
internal import SlimtaNet
import Synchronization

/// Checks a list at the start and then from time to time, by its test entries (RFC 5782 section 5). What fails is off
/// until it is found in order again; the operator is told once.
final class BlockListWatch: Sendable {
    /// When a list is looked at.
    struct Times: Hashable, Sendable {
        /// While it is in order.
        var interval = Duration.seconds(3600)
        /// While it is off.
        var retry = Duration.seconds(60)
        /// How long one look may take.
        var limit = Duration.seconds(10)
        /// So many of its answers missing in a row have it looked at at once.
        var missing = 5
    }

    private struct State {
        /// Why it is off; nil: it is in order, or nobody knows yet.
        var fault: String?
        /// How often in a row there was no answer.
        var missing = 0
        /// Whether a refusal was told since it was last found in order.
        var hasToldRefusal = false
        var isChecking = false
        /// The first look, then all others. Ends when it is cancelled.
        var first: Task<Void, Never>?
        var all: Task<Void, Never>?
    }

    let list: BlockList
    private let times: Times
    private let logger: Logger
    private let questions: LookupQuestions
    private let state = Mutex(State())

    init(_ list: BlockList, times: Times, questions: LookupQuestions, logger: Logger) {
        (self.list, self.times, self.questions, self.logger) = (list, times, questions, logger)
    }

    /// Begins to look. Once.
    func start() {
        let first = Task { await check() }
        let all = Task { [weak self, times] in
            await first.value
            while let pause = self.map({ $0.isInOrder ? times.interval : times.retry }) {
                do { try await Task.sleep(for: pause) } catch { return }
                await self?.check()
            }
        }
        state.withLock { ($0.first, $0.all) = (first, all) }
    }

    /// Ends what runs.
    func end() {
        let tasks = state.withLock { [$0.first, $0.all] }
        for task in tasks { task?.cancel() }
    }

    /// Whether the list can be believed; waits for the first look.
    var isUsable: Bool {
        get async {
            await state.withLock { $0.first }?.value
            return isInOrder
        }
    }

    /// Whether it was in order when it was last looked at.
    var isInOrder: Bool { state.withLock { $0.fault == nil } }

    /// Why it is off; nil: it is not.
    var complaint: String? {
        state.withLock { $0.fault }.map { "dnsbl \(list.name): it is out of order, and not asked: \($0)" }
    }

    // MARK: What lookups report

    /// It has answered a question.
    func answered() { state.withLock { $0.missing = 0 } }

    /// It has not answered a question. Several times in a row may mean that it has ended.
    func missed() {
        let isSuspect = state.withLock { state in
            state.missing += 1
            return state.missing % times.missing == 0 && state.fault == nil && !state.isChecking
        }
        if isSuspect { Task { await check() } }
    }

    /// It has answered a question with an error, `address`: told once until it is found in order again.
    func refused(with address: IPAddress) {
        let isNew = state.withLock { state in
            defer { state.hasToldRefusal = true }
            return !state.hasToldRefusal
        }
        guard isNew else { return }
        logger.error(
            "block list answers with an error, nobody is taken for listed",
            metadata: ["list": "\(list.name)", "answer": "\(address)"])
    }

    // MARK: The look

    /// Looks at the list now; one look at a time.
    func check() async {
        let isMine = state.withLock { state in
            defer { state.isChecking = true }
            return !state.isChecking
        }
        guard isMine else { return }
        let fault = await within(times.limit) { await self.findFault() } ?? "it does not answer"
        let isCancelled = Task.isCancelled
        let before = state.withLock { state -> String? in
            defer { state.isChecking = false }
            let before = state.fault
            guard !isCancelled else { return before }
            state.fault = fault.isEmpty ? nil : fault
            if fault.isEmpty { (state.missing, state.hasToldRefusal) = (0, false) }
            return before
        }
        guard !isCancelled else { return }
        if !fault.isEmpty, before == nil {
            logger.warning(
                "block list is out of order, it is not asked until it recovers",
                metadata: ["list": "\(list.name)", "error": "\(fault)"])
        } else if fault.isEmpty, before != nil {
            logger.notice("block list is in order again", metadata: ["list": "\(list.name)"])
        }
    }

    /// What is wrong, empty if nothing is. Without the zone: not for nothing is it kept secret.
    private func findFault() async -> String {
        let (listed, unlisted) = list.tests
        async let wanted = judgements(listed)
        async let unwanted = judgements(unlisted)
        var (isListed, silence): (Bool, String?) = (false, nil)
        for (judgement, isWanted) in await wanted.map({ ($0, true) }) + unwanted.map({ ($0, false) }) {
            switch judgement {
            case .success(.listed): if isWanted { isListed = true } else { return "it lists what nobody may list" }
            case .success(.refused(let address)): return "it answers with the error \(address)"
            case .success(.foreign(let address)): return "it answers with \(address), as no list does"
            case .success(.notListed), .failure(.noSuchName), .failure(.invalidName): break
            case .failure(.temporary(let reason)): silence = reason
            // The reason names the zone.
            case .failure(.bogus): silence = "DNSSEC says that its answer is forged"
            }
        }
        if isListed { return "" }
        return silence.map { "it does not answer: \($0)" } ?? "its test entry is missing"
    }

    private func judgements(_ names: [QueryName]) async -> [Result<BlockList.Judgement, DNSError>] {
        await withTaskGroup(of: Result<BlockList.Judgement, DNSError>.self) { group in
            for name in names {
                group.addTask { await self.questions.a(name).map { self.list.judgeTest($0.addresses) } }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
    }
}
