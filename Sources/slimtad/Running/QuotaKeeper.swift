// Quotas of the running daemon: their file in the state directory, what the operator is told, and what the queue says of
// recipients. The daemon has one, for as long as it runs: a reload changes the limits, and not what was counted.

import Logging
import NIOPosix
import SlimtaControl
import SlimtaMail
import SlimtaQueue
import SlimtaRules
import SlimtaSystem

/// Keeps a QuotaBook.
final class QuotaKeeper: Sendable {
    /// A larger file than that is none of ours: as many senders and recipients as there can be.
    private static let largestFile = 256 << 20
    /// How long counts may be lost by, and how much may be written in a second on the average, where that makes it longer.
    private static let interval = Duration.seconds(10)
    private static let rate = 1 << 20

    let book: QuotaBook
    private let file: StateFile
    private let logger: Logger
    /// Something is to be done for a login that is held, maybe.
    private let (holds, waker) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

    /// Reads what was counted before. What cannot be read begins anew: mail goes on.
    init(in directory: String, _ logger: Logger) {
        let file = StateFile("quotas", in: directory, maximum: Self.largestFile)
        var quotas: Quotas?
        file.read {
            quotas = Quotas(octets: $0)
            return quotas != nil
        } lost: { why, kept in
            logger.error(
                "quotas begin anew", metadata: ["file": "\(file.path)", "error": "\(why)", "kept": "\(kept)"])
        }
        (self.file, self.logger) = (file, logger)
        book = QuotaBook(quotas ?? Quotas(rules: nil, key: .random(in: 0 ... .max)))
    }

    /// Before the first message: who does what with mail that is held.
    func start(_ service: Control) {
        book.setKeeper(
            QuotaBook.Keeper(
                write: { completion in
                    NIOThreadPool.singleton.submit { _ in
                        self.write()
                        completion()
                    }
                },
                tell: { [logger, waker] event in
                    switch event {
                    case .exceeded(let subject, let excess):
                        logger.notice("soft limit exceeded", metadata: ["login": "\(subject)", "reason": "\(excess)"])
                    case .held(let login, let excess):
                        logger.warning("login is held", metadata: ["login": "\(login)", "reason": "\(excess)"])
                        waker.yield()
                    }
                },
                release: { ids in Task { await service.releaseStored(ids) } }))
    }

    /// Writes what has changed, every few seconds until it is cancelled, and then once more.
    func run() async {
        while !Task.isCancelled {
            let size = book.now.size
            try? await Task.sleep(for: max(Self.interval, .seconds(size / Self.rate)))
            await written()
            // What could not be done at once is tried again.
            if book.hasHolds { waker.yield() }
        }
    }

    /// Has what is to be done for logins that are held done, until it is cancelled.
    func lookAfterHolds(by service: Control) async {
        // While no daemon ran, or it crashed, some of what was held may have left the queue.
        await service.countHeld()
        for await _ in holds {
            // Nobody is to hear of a hold that a crash forgets.
            await written()
            await service.lookAfterHolds()
        }
    }

    private func written() async {
        await withCheckedContinuation { continuation in
            NIOThreadPool.singleton.submit { _ in
                self.write()
                continuation.resume()
            }
        }
    }

    /// Slow. What was known when it is called is in the file when it returns, if the disk works.
    private func write() {
        file.write {
            book.takeChanged()?.octets
        } failed: { error, isNews in
            book.setChanged()
            if isNews {
                logger.error("quotas cannot be written", metadata: ["file": "\(file.path)", "error": "\(error)"])
            }
        }
    }

    /// What the queue says of an envelope's recipients. Notices are ours, and count for nobody.
    static func ended(_ book: QuotaBook) -> Queue.Ended {
        { envelope, events in
            guard !envelope.client.edge.isEmpty else { return }
            var (refused, others) = (0, 0)
            for event in events {
                switch event.kind {
                case .deferred, .postponed: continue
                case .bounced where isRefused(event.outcome.reply.effectiveStatus): refused += 1
                case .bounced, .delivered, .expired: others += 1
                }
            }
            book.ended(envelope.client, refused: refused, others: others, at: .now())
        }
    }

    /// No such mailbox, no such host, a domain that takes no mail (RFC 7505), or not for this sender (RFC 3463).
    private static func isRefused(_ status: EnhancedStatus) -> Bool {
        [(1, 1), (1, 2), (1, 10), (7, 1)].contains { $0 == (status.subject, status.detail) }
    }
}
