// TLS reports of the running daemon: their file in the state directory, their times, and how they get into the queue. The daemon
// has one, for as long as it runs.

import Logging
import NIOPosix
import SlimtaConfiguration
import SlimtaControl
import SlimtaDKIM
import SlimtaDNS
import SlimtaMail
import SlimtaPolicy
import SlimtaQueue
import SlimtaRelay
import SlimtaSystem
import Synchronization

/// Keeps TLSReports.
final class TLSReportKeeper: Sendable {
    /// A larger file is none of ours.
    private static let largestFile = 256 << 20
    private static let interval = Duration.seconds(60)

    let reports: TLSReports
    private let file: StateFile
    private let logger: Logger

    /// Reads what was counted before, and what waits. What cannot be read begins anew: mail goes on.
    init(in directory: String, _ logger: Logger) {
        file = StateFile("tls-reports", in: directory, maximum: Self.largestFile)
        self.logger = logger
        reports = TLSReports(logger: logger)
        file.read { [reports] in
            reports.read($0)
        } lost: { [file] why, kept in
            logger.warning(
                "TLS reports begin anew", metadata: ["file": "\(file.path)", "error": "\(why)", "kept": "\(kept)"])
        }
    }

    /// What one configuration has for reports.
    struct Means {
        let settings: TLSReportSettings
        let hostname: String
        let resolver: SlimtaDNS.Resolver
        let clients: (verifying: HTTPSClient, lenient: HTTPSClient)
    }

    /// From now on it is as this configuration says; nil: no reports are sent.
    func use(_ means: Means?, _ intake: Intake, signing: DKIMKeeper) {
        guard let means else { return reports.configure(nil) }
        let (settings, clients) = (means.settings, means.clients)
        let post = ReportPost(
            intake: intake, hostname: means.hostname, keys: settings.sign ? signing : nil, logger: logger)
        reports.configure(
            TLSReports.Settings(
                contact: settings.contact, resolver: means.resolver,
                delivery: TLSReportDelivery(verifying: clients.verifying, lenient: clients.lenient) { message in
                    await post.submit(message)
                }))
    }

    /// Counts are written, and reports sent when it is time, every minute until it is cancelled; then it is written once more.
    func run() async {
        await withDiscardingTaskGroup { tasks in
            // Those who want reports take their time.
            tasks.addTask {
                while (try? await Task.sleep(for: Self.interval)) != nil {
                    await self.reports.pass { await self.write() }
                }
            }
            tasks.addTask {
                while (try? await Task.sleep(for: Self.interval)) != nil { await self.write() }
            }
        }
        await write()
    }

    /// What was known when it is called is in the file when it returns; false: the disk does not work.
    @discardableResult
    func write() async -> Bool {
        await withCheckedContinuation { continuation in
            NIOThreadPool.singleton.submit { _ in continuation.resume(returning: self.writeNow()) }
        }
    }

    private func writeNow() -> Bool {
        var isWritten = true
        file.write {
            reports.takeChanged()
        } failed: { error, isNews in
            isWritten = false
            reports.setChanged()
            if isNews {
                logger.error(
                    "TLS reports cannot be written", metadata: ["file": "\(file.path)", "error": "\(error)"])
            }
        }
        return isWritten
    }
}

extension TLSReportKeeper {
    /// All that is known.
    func report() -> TLSReportsReport {
        let state = reports.overview
        return TLSReportsReport(
            isOn: state.isOn,
            counts: state.counts.map {
                .init(
                    day: $0.day, domain: $0.domain, places: $0.places, policy: $0.policy,
                    policyDomain: $0.policyDomain, successes: $0.successes, failures: $0.failures,
                    results: $0.results)
            },
            waiting: state.waiting.map {
                .init(day: $0.day, domain: $0.domain, places: $0.places, due: $0.due, error: $0.error)
            },
            past: state.past.map(Self.report))
    }

    /// Sends what waits now.
    func sendNow(withToday: Bool) async -> [TLSReportsReport.Past]? {
        await reports.sendNow(withToday: withToday) { await self.write() }?.map(Self.report)
    }

    private static func report(_ past: TLSReportState.Past) -> TLSReportsReport.Past {
        .init(day: past.day, domain: past.domain, time: past.time, place: past.place, error: past.error)
    }
}

/// Puts reports into the queue, as a client of this machine would.
private final class ReportPost: Sendable {
    private let intake: Intake
    private let hostname: String
    /// nil: they may go unsigned.
    private let keys: DKIMKeeper?
    private let logger: Logger
    /// The operator was told that there is no key.
    private let isTold = Atomic(false)

    init(intake: Intake, hostname: String, keys: DKIMKeeper?, logger: Logger) {
        (self.intake, self.hostname, self.keys, self.logger) = (intake, hostname, keys, logger)
    }

    /// Why it is not queued; nil: it is.
    func submit(_ report: TLSReportMessage) async -> String? {
        let domain = report.sender.foldedDomain
        guard canSign(for: domain) else {
            if !isTold.exchange(true, ordering: .relaxed) {
                logger.warning("TLS reports do not go by mail without a key", metadata: ["domain": "\(domain)"])
            }
            return "no key signs for \(domain)"
        }
        let now = Timestamp.now()
        let id = intake.newID(at: now)
        var envelope = Envelope(
            id: id, sender: report.sender, recipients: [report.recipient], received: now,
            client: ClientInfo(address: "", name: hostname, protocolWord: "LOCAL"))
        envelope.isTLSReport = true
        envelope.setNotifications([], of: report.recipient)
        let message = Message(head: report.content(id, at: now))
        let reply = await withCheckedContinuation { continuation in
            intake.submit(envelope, message, terms: SubmissionTerms(), session: "tlsrpt") {
                continuation.resume(returning: $0)
            }
        }
        return reply.isPositive ? nil : reply.description
    }

    /// RFC 8460 section 5.3: what is not signed by the submitter's domain is ignored.
    private func canSign(for domain: String) -> Bool {
        guard let keys else { return true }
        guard let entry = keys.domains.entry(for: domain), case .sign(let signers) = keys.signers(for: entry) else {
            return false
        }
        return !signers.isEmpty
    }
}
