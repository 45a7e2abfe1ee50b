// The resolver's thread: takes questions from the inbox, asks libunbound, hands the answers to who waits. Also finds out
// whether validation works. Started by Resolver.

import CUnbound
import Glibc

/// All that is done with libunbound, confined to one thread.
///
/// libunbound's calls are thread-safe one by one. That a question is answered, cancelled and released in some order is
/// not: on one thread there is no order to get wrong.
final class ResolverLoop {
    /// Where a question goes.
    private enum Phase {
        /// Not known yet: questions wait.
        case probing(waiting: [DNSQuery])
        case asking(UnboundContext)
        /// Every question fails with this.
        case refusing(DNSError)
    }

    /// A question that libunbound has. The callback gets its address.
    private final class Asked {
        unowned let loop: ResolverLoop
        let context: UnboundContext
        let purpose: Purpose
        var id: CInt = 0

        init(loop: ResolverLoop, context: UnboundContext, for purpose: Purpose) {
            self.loop = loop
            self.context = context
            self.purpose = purpose
        }
    }

    private enum Purpose {
        case answer(DNSQuery)
        /// To find out whether validation works.
        case probe
        /// To have libunbound start its thread.
        case start
    }

    private let inbox: ResolverInbox
    private var validating: UnboundContext?
    /// Where questions go while validation does not work; nil: nowhere.
    private var plain: UnboundContext?
    private var phase: Phase
    private var asked: [ObjectIdentifier: Asked] = [:]
    private var probe: Asked?
    /// The questions of the start that are not answered yet.
    private var starting: [Asked] = []
    /// How many seconds after a failed probe the next one is made, if something is asked then.
    private let probeInterval: Int
    /// When, of the monotonic clock in seconds; nil: not at all.
    private var nextProbe: Int?

    /// Asks `validating` if validation turns out to work, else `plain`. One of them is given; with `plain` alone,
    /// `state` says why.
    init(
        inbox: ResolverInbox, validating: UnboundContext?, plain: UnboundContext?, state: ValidationState,
        probeInterval: Int
    ) {
        self.inbox = inbox
        self.probeInterval = probeInterval
        self.validating = validating
        self.plain = plain
        if validating == nil, let plain {
            phase = .asking(plain)
            inbox.validation.become(state)
        } else {
            phase = .probing(waiting: [])
        }
    }

    /// Runs until the inbox is closed, on a thread of its own.
    func start() throws(DNSError) {
        var thread = pthread_t()
        let error = pthread_create(
            &thread, nil,
            { argument in
                let loop = Unmanaged<ResolverLoop>.fromOpaque(argument!).takeRetainedValue()
                loop.run()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        guard error == 0 else {
            Unmanaged.passUnretained(self).release()
            throw .temporary("thread: \(String(cString: strerror(error)))")
        }
        pthread_detach(thread)
    }

    private func run() {
        let descriptors = [inbox.event] + [validating, plain].compactMap { $0?.fileDescriptor }
        var polled = descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        begin()
        if case .probing = phase { beginProbe() }
        while true {
            guard poll(&polled, nfds_t(polled.count), -1) >= 0 else {
                precondition(errno == EINTR, "poll: errno \(errno)")
                continue
            }
            for context in [validating, plain] {
                guard let context, polled.contains(where: { $0.fd == context.fileDescriptor && $0.revents != 0 })
                else { continue }
                do throws(DNSError) {
                    try context.process()
                } catch {
                    // Its thread is gone, and with it all that it was asked. A negative descriptor is not polled.
                    for index in polled.indices where polled[index].fd == context.fileDescriptor {
                        polled[index].fd = -1
                    }
                    end(because: error)
                }
            }
            let (commands, isClosing) = inbox.take()
            for command in commands {
                switch command {
                case .ask(let query): ask(query)
                case .forget(let query): forget(query)
                }
            }
            if isClosing { break }
        }
        end(because: ResolverInbox.closedError)
        // Waits for their threads.
        validating = nil
        plain = nil
        inbox.closed.become(())
    }

    // MARK: Start

    /// Has libunbound make its threads now, while there are open files to be had: where there are none, libevent's
    /// answer is to end the process. The question is one that it answers by itself, without a server (RFC 6761
    /// section 6.3).
    private func begin() {
        for context in [validating, plain].compactMap(\.self) {
            let question = Asked(loop: self, context: context, for: .start)
            do throws(DNSError) {
                try ask(question, name: "localhost", type: .a)
                starting.append(question)
            } catch {
                // It has no thread then, and answers each question with this error.
            }
        }
        if starting.isEmpty { inbox.started.become(()) }
    }

    private func started(_ question: Asked) {
        starting.removeAll { $0 === question }
        if starting.isEmpty { inbox.started.become(()) }
    }

    // MARK: Questions

    private func ask(_ query: DNSQuery) {
        // It may have been cancelled on the way here, and that would then come too late.
        guard query.isWanted else { return }
        probeAgainIfDue()
        switch phase {
        case .probing(let waiting): phase = .probing(waiting: waiting + [query])
        case .asking(let context):
            let question = Asked(loop: self, context: context, for: .answer(query))
            do throws(DNSError) {
                try ask(question, name: query.name, type: query.type)
                asked[ObjectIdentifier(query)] = question
            } catch {
                query.answer(.failure(error))
            }
        case .refusing(let error): query.answer(.failure(error))
        }
    }

    private func forget(_ query: DNSQuery) {
        guard let question = asked.removeValue(forKey: ObjectIdentifier(query)) else { return }
        question.context.cancel(question.id)
    }

    private func ask(_ question: Asked, name: String, type: UnboundContext.RecordType) throws(DNSError) {
        // Unretained: the table keeps it as long as libunbound has it.
        let user = Unmanaged.passUnretained(question).toOpaque()
        question.id = try question.context.resolve(name, type, user: user) { user, error, result in
            let question = Unmanaged<Asked>.fromOpaque(user!).takeUnretainedValue()
            question.loop.answered(question, UnboundContext.answer(error, result))
        }
    }

    private func answered(_ question: Asked, _ answer: DNSQuery.Answer) {
        switch question.purpose {
        case .answer(let query):
            asked[ObjectIdentifier(query)] = nil
            query.answer(answer)
        case .probe:
            probe = nil
            probed(answer)
        case .start: started(question)
        }
    }

    /// Answers everything that waits with `error`, and whatever comes from now on.
    private func end(because error: DNSError) {
        if let probe { probe.context.cancel(probe.id) }
        probe = nil
        for question in starting { question.context.cancel(question.id) }
        starting = []
        inbox.started.become(())
        let unanswered = asked.values
        asked = [:]
        for question in unanswered { question.context.cancel(question.id) }
        if case .probing = phase { inbox.validation.become(.unavailable("the resolver has ended")) }
        let waiting = settle(.refusing(error))
        for question in unanswered {
            if case .answer(let query) = question.purpose { query.answer(.failure(error)) }
        }
        for query in waiting { query.answer(.failure(error)) }
        nextProbe = nil
    }

    // MARK: The probe

    /// Asks for what every resolver has, and what is signed with the keys of the trust anchor.
    private func beginProbe() {
        guard let validating else { return }
        let question = Asked(loop: self, context: validating, for: .probe)
        do throws(DNSError) {
            try ask(question, name: ".", type: .soa)
            probe = question
        } catch {
            probed(.failure(error))
        }
    }

    private func probeAgainIfDue() {
        if probe == nil, let nextProbe, Self.now() >= nextProbe { beginProbe() }
    }

    private func probed(_ answer: DNSQuery.Answer) {
        let reason: String
        switch answer {
        case .success(let answer) where answer.isSecure:
            guard let validating else { return }
            nextProbe = nil
            inbox.validation.become(.working)
            for query in settle(.asking(validating)) { ask(query) }
            return
        case .success: reason = "the answer for the root is not signed"
        case .failure(.noSuchName), .failure(.invalidName): reason = "the root is unknown"
        case .failure(.temporary(let text)): reason = "no answer for the root: \(text)"
        case .failure(.bogus(let text)): reason = text
        }
        nextProbe = Self.now() + probeInterval
        inbox.validation.become(.unavailable(reason))
        let next: Phase =
            if let plain { .asking(plain) } else { .refusing(.temporary("DNSSEC validation does not work: \(reason)")) }
        for query in settle(next) { ask(query) }
    }

    /// Enters `next`, and gives the questions that waited for that.
    private func settle(_ next: Phase) -> [DNSQuery] {
        let last = phase
        phase = next
        switch last {
        case .probing(let waiting): return waiting
        case .asking, .refusing: return []
        }
    }

    private static func now() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec
    }
}
