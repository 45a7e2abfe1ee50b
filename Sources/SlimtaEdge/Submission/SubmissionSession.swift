// One message that comes as a whole, on its way to the queue: the driver of SubmissionMachine. Edges that do not speak SMTP
// make one for each message; what holds for mail over SMTP holds for theirs by going through here.

package import NIOCore
package import SlimtaMail
package import SlimtaQueue
package import SlimtaSASL
package import SlimtaSMTP

/// A message on its way. Its methods are called one after another, by any task:
///
///     authenticate or identified (or neither) ─▶ begin ─▶ append… ─▶ end
///
/// and ``abandon()`` at any time before the end. Behind a refusal there is nothing more to call. Rules, senders, counts,
/// quotas and the log are those of SMTP.
package final class SubmissionSession: Sendable {
    private let setup: SubmissionDriver.Setup
    /// Empty until the first call.
    private let box: NIOLoopBoundBox<SubmissionDriver?>

    /// - Parameters:
    ///   - connection: who brings the message.
    ///   - clientName: what it calls itself, as in EHLO.
    ///   - protocolWord: what Received says that it came with: "HTTP".
    ///   - certificate: whom the client's certificate is for; called on the event loop, and only if somebody wants to know.
    ///   - eventLoop: where the message lives; calls from there cost least.
    package init(
        _ settings: SubmissionSettings, connection: ConnectionFacts, clientName: String, protocolWord: String,
        certificate: @escaping @Sendable () -> CertificateIdentity? = { nil }, submissions: any Submissions,
        log: SessionLog, on eventLoop: any EventLoop
    ) {
        setup = SubmissionDriver.Setup(
            settings: settings, connection: connection, clientName: clientName, protocolWord: protocolWord,
            certificate: certificate, submissions: submissions,
            lines: SessionLines(log, edge: settings.name, connection), eventLoop: eventLoop)
        box = .makeEmptyBox(eventLoop: eventLoop)
    }

    /// The session's name in logs.
    package var name: String { setup.lines.session }

    /// Finds out whether the client is who it says in the one response that a mechanism has: 535 if not, 454 if that cannot be found out now, or what rules say of the
    /// client or the login.
    package func authenticate(_ mechanism: SASLMechanism, _ response: SecretOctets) async -> SubmissionLogin {
        await call { driver, done in
            driver.perform({ $0.authenticate(mechanism, response) }, then: { done(driver.login($0)) })
        }
    }

    /// Takes it from somebody who is to be believed who the client is, unless rules refuse the client or the login.
    package func identified(as user: AuthenticatedUser) async -> SubmissionLogin {
        await call { driver, done in
            driver.perform({ $0.identified(as: user) }, then: { done(driver.login($0)) })
        }
    }

    /// The client does not say who it is: may it go on? What is asked of every client is asked with the message.
    package func unidentified() async -> SubmissionLogin {
        await call { driver, done in
            driver.perform({ $0.unidentified() }, then: { done(driver.login($0)) })
        }
    }

    /// May this message come?
    package func begin(_ request: SubmissionRequest) async -> SubmissionOpening {
        await call { driver, done in driver.begin(request, completion: done) }
    }

    /// The next octets of the content, whose lines end with LF or CRLF, behind ``SubmissionOpening/open(_:)``. Returns when there is room for more: the disk
    /// may be slower than who brings the message.
    ///
    /// - Returns: why the message cannot be taken any more, as ``end()`` says then as well; nil: it may yet.
    package func append(_ content: ByteBuffer) async -> Reply? {
        await call { driver, done in driver.append(content, completion: done) }
    }

    /// The content is whole: rules, policies and the queue have the last word.
    ///
    /// - Parameter receipt: what the message leaves behind, with the id that the request chose; nil: nothing.
    /// - Returns: the reply, 250 when the message is durable; and the id of its envelope, which it also has in the log if it
    ///   is refused.
    package func end(receipt: Receipt? = nil) async -> (reply: Reply, id: QueueID) {
        await call { driver, done in driver.end(receipt: receipt, completion: done) }
    }

    /// Nothing is to be kept, and nobody asked any more. Nothing happens once the queue has the message.
    package func abandon() { onLoop { $0.abandon() } }

    /// Nobody is to be kept waiting any more: what rules delay is answered now.
    package func endDelays() { onLoop { $0.endDelays() } }

    private func call<Value: Sendable>(
        _ body: @escaping @Sendable (SubmissionDriver, @escaping @Sendable (Value) -> Void) -> Void
    ) async -> Value {
        await withCheckedContinuation { continuation in
            onLoop { body($0) { continuation.resume(returning: $0) } }
        }
    }

    private func onLoop(_ body: @escaping @Sendable (SubmissionDriver) -> Void) {
        let call: @Sendable () -> Void = { [self] in
            let driver = box.value ?? SubmissionDriver(setup)
            box.value = driver
            body(driver)
        }
        if setup.eventLoop.inEventLoop { call() } else { setup.eventLoop.execute(call) }
    }
}
