// TLS reports (RFC 8460): what relays count is kept here, those whom it is about are asked whether they want to know, and once a
// day they are told. One for the daemon, for as long as it runs; a configuration that has no contact switches it off.

package import Logging
package import SlimtaDNS
package import SlimtaMail
import SlimtaNet
import Synchronization

/// Shared by all relays. TLSReportBook has the rules.
package final class TLSReports: Sendable {
    /// `[tls_report]`, and what one configuration has to send reports with.
    package struct Settings: Sendable {
        let submitter: TLSReport.Submitter
        let resolver: Resolver
        let delivery: TLSReportDelivery

        /// - Parameter contact: an address that somebody reads. Reports say that they are its domain's.
        package init(contact: Mailbox, resolver: Resolver, delivery: TLSReportDelivery) {
            submitter = TLSReport.Submitter(organization: contact.foldedDomain, contact: contact)
            (self.resolver, self.delivery) = (resolver, delivery)
        }
    }

    /// Writes down what ``takeChanged()`` gives. Whether it is on the disk.
    package typealias Keep = @Sendable () async -> Bool

    /// Name servers that answer nothing at all are waited for no longer.
    private static let patience = Duration.seconds(15)
    /// So many are sent at once.
    private static let together = 10
    /// Of so many it is written down in one writing that they are being sent: a crash costs those, and no more.
    private static let written = 50
    /// So many that DNS did not answer for are asked for again at once.
    private static let asked = 100

    private struct State {
        var book = TLSReportBook()
        /// nil: nothing is counted, and nothing sent.
        var settings: Settings?
        var hasChanged = false
        var recent = RecentFailures()
    }

    private let state = Mutex(State())
    private let logger: Logger
    private let now: @Sendable () -> Timestamp

    /// - Parameter now: the clock.
    package init(logger: Logger, now: @escaping @Sendable () -> Timestamp = { Timestamp.now() }) {
        (self.logger, self.now) = (logger, now)
    }

    /// What holds from now on; nil: reports are off.
    package func configure(_ settings: Settings?) { state.withLock { $0.settings = settings } }

    // MARK: Counting

    /// Counts a negotiation for the recipients' domain.
    ///
    /// - Parameter leftOut: hosts that were not asked, for the policy does not name them.
    func count(
        _ negotiation: TLSNegotiation, for domain: String,
        leftOut: (hosts: [String], policy: TLSReportedPolicy)? = nil
    ) {
        count { state, now in
            let hosts = state.book.counter.countForHosts(negotiation, of: domain, at: now)
            let isNew = state.book.counter.count(negotiation, for: domain, at: now)
            if let leftOut {
                for host in leftOut.hosts {
                    _ = state.book.counter.count(
                        .mxMismatch, of: leftOut.policy, mxName: host, for: domain, at: now)
                }
            }
            return (isNew ? [domain] : []) + hosts
        }
    }

    /// Counts what failed without a connection, unless that was counted a moment ago.
    func count(_ result: TLSResult, of policy: TLSReportedPolicy, mxName: String? = nil, for domain: String) {
        let failure = RecentFailures.Failure(domain: domain, mxName: mxName, policy: policy.type, kind: result.kind)
        count { state, now in
            guard state.recent.isNews(failure, at: now) else { return nil }
            let hosts = state.book.counter.countForHost(result, of: policy, mxName: mxName, domain, at: now)
            let isNew = state.book.counter.count(result, of: policy, mxName: mxName, for: domain, at: now)
            return (isNew ? [domain] : []) + hosts
        }
    }

    /// - Parameter body: counts, and says who is to be asked; nil: there was nothing to be counted.
    private func count(_ body: (inout State, Timestamp) -> [String]?) {
        let now = now()
        let (domains, resolver) = state.withLock { state -> ([String], Resolver?) in
            guard let settings = state.settings, let domains = body(&state, now) else { return ([], nil) }
            state.hasChanged = true
            return (domains, settings.resolver)
        }
        guard let resolver else { return }
        for domain in Set(domains) { Task { await self.ask(domain, at: now, resolver) } }
    }

    /// Asks DNS whether the domain wants reports. No answer: it is asked again later.
    private func ask(_ domain: String, at time: Timestamp, _ resolver: Resolver) async {
        var record: TLSReportRecord?
        if let name = QueryName(TLSReportRecord.name(of: domain)) {
            let answer = await within(Self.patience) { () -> Result<[[UInt8]], DNSError> in
                do throws(DNSError) { return .success(try await resolver.txt(name).records) } catch {
                    return .failure(error)
                }
            }
            switch answer {
            case .success(let records)?: record = TLSReportRecord(among: records)
            case .failure(.noSuchName)?, .failure(.invalidName)?: break
            case .failure(.temporary)?, .failure(.bogus)?, nil: return
            }
        }
        state.withLock { [record] state in
            state.book.counter.wants(record, domain, at: time)
            state.hasChanged = true
        }
    }

    // MARK: Sending

    /// Does what is due: asks DNS again where it did not answer, makes reports of days that are over, and sends those whose
    /// time has come.
    package func pass(_ keep: Keep) async {
        guard let settings = state.withLock({ $0.settings }) else { return }
        await askAgain(settings)
        let now = now()
        state.withLock { state in
            let before = (state.book.letters.count, state.book.counter.octets)
            state.book.close(at: now, by: settings.submitter) { Double.random(in: 0...1) }
            if (state.book.letters.count, state.book.counter.octets) != before { state.hasChanged = true }
        }
        await send(settings, keep)
    }

    /// Makes reports of all days that are over, of today as well if that is wanted, and sends all that wait. What became of
    /// them; nil: reports are off.
    package func sendNow(withToday: Bool, _ keep: Keep) async -> [TLSReportState.Past]? {
        guard let settings = state.withLock({ $0.settings }) else { return nil }
        await askAgain(settings)
        let now = now()
        state.withLock { state in
            state.book.hurry(at: now, withToday: withToday, by: settings.submitter)
            state.hasChanged = true
        }
        return await send(settings, keep)
    }

    private func askAgain(_ settings: Settings) async {
        let unknown = state.withLock { $0.book.counter.unknown }.prefix(Self.asked)
        await withDiscardingTaskGroup { tasks in
            for (domain, time) in unknown { tasks.addTask { await self.ask(domain, at: time, settings.resolver) } }
        }
    }

    @discardableResult
    private func send(_ settings: Settings, _ keep: Keep) async -> [TLSReportState.Past] {
        let now = now()
        var all = dropOld(at: now)
        while !Task.isCancelled {
            let letters = state.withLock { state in
                let letters = state.book.takeDue(at: now, atMost: Self.written)
                if !letters.isEmpty { state.hasChanged = true }
                return letters
            }
            guard !letters.isEmpty else { break }
            // A crash behind this costs them; before it they are sent anew.
            guard await keep() else {
                state.withLock { $0.book.untaken(letters) }
                break
            }
            all += await send(letters, settings.delivery)
        }
        if !all.isEmpty { _ = await keep() }
        return all
    }

    private func dropOld(at now: Timestamp) -> [TLSReportState.Past] {
        let old = state.withLock { state in
            let old = state.book.dropOld(at: now)
            if !old.isEmpty { state.hasChanged = true }
            return old
        }
        return old.map { one in
            let day = TLSReport.text(ofDay: one.day)
            logger.notice(
                "TLS report is dropped",
                metadata: ["domain": "\(one.domain)", "day": "\(day)", "reason": "\(one.error ?? "")"])
            return TLSReportState.Past(domain: one.domain, day: day, time: now, place: nil, error: one.error)
        }
    }

    /// The next one begins as soon as one of the others has ended. Those that are not begun when the daemon stops wait.
    private func send(
        _ letters: [TLSReportBook.Letter], _ delivery: TLSReportDelivery
    ) async -> [TLSReportState.Past] {
        await withTaskGroup(of: (Int, TLSReportState.Past).self) { tasks in
            var ended: [(Int, TLSReportState.Past)] = []
            var next = 0
            while true {
                if next < letters.count, next - ended.count < Self.together, !Task.isCancelled {
                    tasks.addTask { [next] in (next, await self.send(letters[next], delivery)) }
                    next += 1
                } else if let one = await tasks.next() {
                    ended.append(one)
                } else {
                    break
                }
            }
            let left = letters[next...]
            if !left.isEmpty {
                state.withLock { state in
                    state.book.untaken(left)
                    state.hasChanged = true
                }
            }
            return ended.sorted { $0.0 < $1.0 }.map(\.1)
        }
    }

    private func send(_ letter: TLSReportBook.Letter, _ delivery: TLSReportDelivery) async -> TLSReportState.Past {
        let result = await delivery.send(letter)
        let (report, now) = (letter.report, now())
        var metadata: Logger.Metadata = ["domain": "\(report.domain)", "day": "\(report.dayText)"]
        var past = TLSReportState.Past(domain: report.domain, day: report.dayText, time: now, place: nil, error: nil)
        switch result {
        case .success(let destination):
            state.withLock { $0.book.sent(letter, to: destination.description, at: now) }
            past.place = destination.description
            metadata["to"] = "\(destination)"
            logger.info("TLS report is sent", metadata: metadata)
        case .failure(let refusal):
            let isDropped = state.withLock { $0.book.failed(letter, refusal.why, at: now) }
            past.error = refusal.why
            metadata["reason"] = "\(refusal.why)"
            if isDropped {
                logger.notice("TLS report is dropped", metadata: metadata)
            } else {
                logger.info("TLS report is not taken", metadata: metadata)
            }
        }
        state.withLock { $0.hasChanged = true }
        return past
    }

    // MARK: For people

    /// What is counted, what waits and what was sent.
    package var overview: TLSReportState {
        let (book, isOn) = state.withLock { ($0.book, $0.settings != nil) }
        return TLSReportState(book, isOn: isOn)
    }

    // MARK: Its file

    /// Takes up what was written before. Whether it was understood.
    package func read(_ octets: [UInt8]) -> Bool {
        guard let book = TLSReportBook(octets: octets) else { return false }
        state.withLock { $0.book = book }
        return true
    }

    /// What is to be written; nil: nothing has changed since that was asked.
    package func takeChanged() -> [UInt8]? {
        let book = state.withLock { state -> TLSReportBook? in
            guard state.hasChanged else { return nil }
            state.hasChanged = false
            return state.book
        }
        return book?.octets
    }

    /// It could not be written.
    package func setChanged() { state.withLock { $0.hasChanged = true } }
}
