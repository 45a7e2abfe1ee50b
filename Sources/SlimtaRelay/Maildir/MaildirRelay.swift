// The relay of type "maildir": final delivery into a directory. Made by the composition root.

package import Logging
import NIOCore
package import NIOPosix
package import SlimtaMail
package import SlimtaQueue
import SlimtaSMTP

/// Writes each message as one file into a maildir, for all recipients of the attempt together.
///
/// The file begins with Return-Path (RFC 5321 section 4.4) and a Delivered-To for each recipient; behind them is the
/// message, octet for octet. It is in `new` only when it and its name are on the disk.
package final class MaildirRelay: Relay {
    private let path: String
    private let hostname: String
    private let threads: NIOThreadPool
    private let logger: Logger

    /// - Parameters:
    ///   - path: the maildir; it and its tmp, new and cur are made when they are missing.
    ///   - threads: for the disk; it has to be running.
    package init(path: String, hostname: String, threads: NIOThreadPool, logger: Logger) {
        self.path = path
        self.hostname = hostname
        self.threads = threads
        self.logger = logger
    }

    /// One file for all recipients: they have one outcome. 452 4.3.1 where the disk is full, 451 4.2.0 for what else goes wrong
    /// with it, 553 5.1.3 for an address that cannot stand in a field.
    package func attempt(_ delivery: Delivery) async -> [Outcome] {
        func all(_ outcome: Outcome) -> [Outcome] { Array(repeating: outcome, count: delivery.recipients.count) }
        let recipients = delivery.recipients.map { delivery.envelope.recipients[$0] }
        guard (recipients + [delivery.envelope.sender].compactMap(\.self)).allSatisfy(\.isSafeInCommand) else {
            return all(.failed(553, 5, 1, 3, "not a valid address"))
        }
        do throws(MaildirError) {
            try await write(delivery, to: recipients)
            return all(
                Outcome(
                    .delivered, Reply(250, EnhancedStatus(2, 0, 0), "delivered to maildir"), relay: "maildir:\(path)"))
        } catch {
            logger.debug("maildir delivery failed", metadata: ["path": "\(path)", "reason": "\(error)"])
            var outcome: Outcome =
                error.isFull
                ? .failed(452, 4, 3, 1, "the disk of the maildir is full") : .failed(451, 4, 2, 0, "\(error)")
            outcome.relay = "maildir:\(path)"
            // It is the disk, not the recipient.
            outcome.isHostFailure = true
            return all(outcome)
        }
    }

    private func write(_ delivery: Delivery, to recipients: [Mailbox]) async throws(MaildirError) {
        var top = "Return-Path: <\(delivery.envelope.sender?.text ?? "")>\r\n"
        for recipient in recipients { top += "Delivered-To: \(recipient.text)\r\n" }
        let message = delivery.message
        let file = try await onThread { [path, hostname, top] () throws(MaildirError) in
            let file = try MaildirFile(in: path, hostname: hostname)
            try file.write(Array(top.utf8))
            try file.write(delivery.envelope.prependedFields)
            try file.write(message.head)
            return file
        }
        do throws(MaildirError) {
            if let reader = message.rest?.makeReader() { try await copy(reader, to: file) }
            try await onThread { () throws(MaildirError) in try file.publish() }
        } catch {
            try? await onThread { () throws(MaildirError) in file.discard() }
            throw error
        }
    }

    private func copy(_ reader: any SpoolReader, to file: MaildirFile) async throws(MaildirError) {
        while true {
            let part: ByteBuffer?
            do { part = try await reader.next(262_144) } catch {
                throw MaildirError("read", "the stored message", error: nil)
            }
            guard let part else { return }
            try await onThread { () throws(MaildirError) in try file.write(part) }
        }
    }

    private func onThread<Value: Sendable>(
        _ body: @escaping @Sendable () throws(MaildirError) -> Value
    ) async throws(MaildirError) -> Value {
        let result: Result<Value, MaildirError>
        do {
            result = try await threads.runIfActive { Result { () throws(MaildirError) in try body() } }
        } catch {
            // The pool is shut down, or the attempt was cancelled before its turn.
            throw MaildirError("write", "broken off", error: nil)
        }
        return try result.get()
    }
}
