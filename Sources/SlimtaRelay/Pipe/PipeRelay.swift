// The relay of type "pipe": final delivery into a command. Made by the composition root. Commands are started by a helper
// (SlimtaPipe), which may become other users; here they are waited for.

package import Logging
package import NIOCore
package import NIOPosix
package import SlimtaMail
import SlimtaNet
import SlimtaPipe
package import SlimtaQueue
import SlimtaSMTP
import Synchronization

/// Runs a command for each recipient, with the message as its standard input, and makes an outcome of its exit.
///
/// The message begins with Return-Path (RFC 5321 section 4.4) and Delivered-To; behind them it is as it was stored, but for
/// the ends of lines where the command expects LF. A crash between the end of a command and our record of it runs the
/// command again: `{queue_id}` is the same then.
package final class PipeRelay: ConnectingRelay {
    /// What is said of a pipe in slimta.conf.
    package struct Settings: Sendable {
        /// The program and its arguments.
        package var command: CommandTemplate
        /// Lines of its environment besides those that every command gets.
        package var environment: CommandTemplate
        /// Who runs it; nil: whoever the helper is.
        package var user: String?
        /// How many of them may run at once.
        package var processes: Int
        /// How long one may take.
        package var timeout: Duration
        /// Whether lines end with LF, as Unix programs expect them; else with CRLF.
        package var endsLinesWithLF: Bool

        /// All of them.
        package init(
            command: CommandTemplate, environment: CommandTemplate, user: String?, processes: Int, timeout: Duration,
            endsLinesWithLF: Bool
        ) {
            self.command = command
            self.environment = environment
            self.user = user
            self.processes = processes
            self.timeout = timeout
            self.endsLinesWithLF = endsLinesWithLF
        }
    }

    private let settings: Settings
    private let folder: String
    private let client: PipeHelperClient
    private let turns: Turns
    private let result: PipeResult
    private let logger: Logger
    private let broken = Mutex<String?>(nil)

    /// - Parameters:
    ///   - helper: the path of the helper's socket.
    ///   - folder: where messages are while commands read them, in files without names: a folder of our own.
    ///   - threads: for the disk; it has to be running.
    package init(
        _ settings: Settings, helper: String, folder: String, threads: NIOThreadPool, group: any EventLoopGroup,
        logger: Logger
    ) {
        self.settings = settings
        self.folder = folder
        self.logger = logger
        client = PipeHelperClient(path: helper, group: group, threads: threads)
        turns = Turns(settings.processes)
        result = PipeResult(relay: "pipe:\(settings.command.words[0])")
    }

    /// Why no command can be started, and nothing is delivered since.
    package var complaint: String? {
        broken.withLock { $0 }.map { "\(result.relay): \($0); its mail waits" }
    }

    /// Commands end with their attempts: there is nothing else.
    package func shutDown() async {}

    /// All mail goes to one command, so all of it shares turns and back-off. Its arguments and its user make another command
    /// of it: many are a program that is told what to run. No domain has a colon in its name.
    package func destination(for domain: String) -> String {
        "pipe:" + settings.command.words.joined(separator: " ").visible + (settings.user.map { " (\($0))" } ?? "")
    }

    /// A process for each recipient; no more than ``Settings/processes`` at once, the others wait. Never throws; a cancelled
    /// task ends the commands that run.
    package func attempt(_ delivery: Delivery) async -> [Outcome] {
        let visited = Self.visited(delivery)
        return await inOrder(delivery.recipients.count) { index in
            let recipient = delivery.envelope.recipients[delivery.recipients[index]].forNextHop
            let ended: Outcome? = await self.turns.take {
                if Task.isCancelled { return SMTPJob.cancelled }
                return await self.attempt(delivery, recipient, visited)
            }
            let outcome = ended ?? SMTPJob.cancelled
            // The others may take minutes yet.
            delivery.report(delivery.recipients[index], outcome)
            return outcome
        }
    }

    private func attempt(_ delivery: Delivery, _ recipient: Mailbox, _ visited: Set<String>) async -> Outcome {
        func refused(_ code: UInt16, _ status: EnhancedStatus, _ text: String) -> Outcome {
            Outcome(.permanent, Reply(code, status, text), relay: result.relay)
        }
        let sender = delivery.envelope.sender?.forNextHop
        guard [recipient, sender].compactMap(\.self).allSatisfy(\.isSafeInCommand) else {
            return refused(553, EnhancedStatus(5, 1, 3), "not a valid address")
        }
        guard !visited.contains(recipient.text.foldedAsAddress()) else {
            return refused(
                554, EnhancedStatus(5, 4, 6), "the message has been delivered to \(recipient) before, it is in a loop")
        }
        let values = CommandValues(sender: sender, recipient: recipient, queueID: delivery.envelope.id)
        do throws(CommandTemplate.LooksLikeOption) {
            _ = try settings.command.filled(values)
        } catch {
            return refused(
                550, EnhancedStatus(5, 1, 3),
                "the \(error.placeholder.rawValue) begins with \"-\" and would be an option of the command")
        }
        return await run(values, delivery, sender, recipient)
    }

    private func run(
        _ values: CommandValues, _ delivery: Delivery, _ sender: Mailbox?, _ recipient: Mailbox
    ) async -> Outcome {
        let file: Int32
        do throws(PipeInputError) {
            file = try await input(delivery, "Return-Path: <\(sender?.text ?? "")>\r\nDelivered-To: \(recipient)\r\n")
        } catch {
            var outcome: Outcome = .failed(
                error.isFull ? 452 : 451, 4, 3, error.isFull ? 1 : 0, "\(error)")
            (outcome.relay, outcome.isHostFailure) = (result.relay, true)
            return outcome
        }
        defer { PipeInput.close(file) }
        let pipe = PipeRequest.Pipe(
            command: settings.command.words, environment: settings.environment.words, user: settings.user,
            timeout: settings.timeout.milliseconds)
        do throws(PipeHelperClient.Failure) {
            // It ends what takes too long itself.
            let answer = try await client.run(
                PipeRequest(pipe, values), file: file, patience: TimeAmount(settings.timeout) + .seconds(30))
            if case .notStarted(let reason) = answer.end { watch(reason) } else { watch(nil) }
            return result.outcome(answer)
        } catch {
            if Task.isCancelled { return SMTPJob.cancelled }
            watch("\(error)")
            return result.failure("\(error)")
        }
    }

    /// Whether commands can be started at all is a matter of the operator, and of all mail: told once, and until it is over.
    private func watch(_ reason: String?) {
        let isNews = broken.withLock { broken in
            defer { broken = reason }
            return (broken == nil) != (reason == nil)
        }
        guard isNews else { return }
        if let reason {
            logger.error(
                "command of a pipe cannot be started, its mail waits",
                metadata: ["relay": "\(result.relay)", "reason": "\(reason)"])
        } else {
            logger.notice("command of a pipe is started again", metadata: ["relay": "\(result.relay)"])
        }
    }

    /// The message with `top` above it, as a descriptor of the whole.
    private func input(_ delivery: Delivery, _ top: String) async throws(PipeInputError) -> Int32 {
        let (message, folder, convertsLines) = (delivery.message, folder, settings.endsLinesWithLF)
        let fields = delivery.envelope.prependedFields
        let input = try await onThread { () throws(PipeInputError) in
            let input = try PipeInput(in: folder, convertsLines: convertsLines)
            try input.write(top)
            try input.write(fields)
            try input.write(message.head)
            return input
        }
        if let reader = message.rest?.makeReader() {
            while true {
                let part: ByteBuffer?
                do { part = try await reader.next(262_144) } catch { throw PipeInputError("read", EIO) }
                guard let part else { break }
                try await onThread { () throws(PipeInputError) in try input.write(part) }
            }
        }
        return try await onThread { () throws(PipeInputError) in try input.finish() }
    }

    private func onThread<Value: Sendable>(
        _ body: @escaping @Sendable () throws(PipeInputError) -> Value
    ) async throws(PipeInputError) -> Value {
        let result: Result<Value, PipeInputError>
        do {
            result = try await client.threads.runIfActive { Result { () throws(PipeInputError) in try body() } }
        } catch {
            // The pool is shut down, or the attempt was cancelled before its turn.
            throw PipeInputError("keep", ECANCELED)
        }
        return try result.get()
    }

    /// To whom the message says that it has been delivered, folded.
    private static func visited(_ delivery: Delivery) -> Set<String> {
        var visited: Set<String> = []
        for part in [delivery.envelope.prependedFields, delivery.message.head] {
            let header = HeaderBlock(scanning: part)
            for field in header.fields(named: "delivered-to", in: part) {
                let octets = part.getSlice(
                    at: part.readerIndex + field.name.upperBound, length: field.range.upperBound - field.name.upperBound
                )
                let value = String(buffer: octets ?? ByteBuffer()).split(separator: ":", maxSplits: 1).last ?? ""
                visited.insert(String(value.filter { !$0.isWhitespace }).foldedAsAddress())
            }
        }
        return visited
    }
}
