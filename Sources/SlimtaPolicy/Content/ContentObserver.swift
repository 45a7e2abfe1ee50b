// Who wants to see a large message's content while it arrives: what is learnt of it then need not be read back from its file.
// Intake asks policies for observers when a message turns out to be large; a small one is all in memory anyway.

package import NIOCore
internal import SlimtaMail
internal import SlimtaQueue

/// Sees the content of one large message: each octet once, in order, as the client sent it.
///
/// It is called by one thread at a time, which must not be kept waiting: it is an event loop, which has read what it shows. What
/// an observer has found is looked at on another thread when the message is there, and so it is `Sendable`.
package protocol ContentObserver: AnyObject, Sendable {
    /// The beginning, which stays in memory: the header, if the message can be taken at all, and some of the body. Is called
    /// once, first.
    func begin(_ head: ByteBuffer)
    /// What comes next.
    func take(_ octets: ByteBuffer)
}

/// A policy that learns something from the content of large messages while they come.
package protocol ObservingPolicy: Sendable {
    /// For one message, which has just turned out to be large. The policy finds it again by ``PolicyMail/observer(_:)``.
    /// nil: there is nothing that it wants to know.
    func makeObserver() -> (any ContentObserver)?
}

/// The file of a large message, with those who look on while it is written.
final class ObservedSpool: SpoolWriter {
    private let spool: any SpoolWriter
    private let observers: [any ContentObserver]

    init(_ spool: any SpoolWriter, head: ByteBuffer, _ observers: [any ContentObserver]) {
        (self.spool, self.observers) = (spool, observers)
        for observer in observers { observer.begin(head) }
    }

    func append(_ bytes: ByteBuffer, completion: @escaping @Sendable (StorageError?) -> Void) {
        spool.append(bytes, completion: completion)
        for observer in observers { observer.take(bytes) }
    }

    func finish(completion: @escaping @Sendable (Result<any SpooledBody, StorageError>) -> Void) {
        spool.finish { [observers] result in completion(result.map { ObservedBody($0, observers) }) }
    }

    func abandon() { spool.abandon() }
}

/// What was written, with those who looked on: until policies see the message.
final class ObservedBody: SpooledBody {
    /// The storage's, which it wants to have back.
    let body: any SpooledBody
    let observers: [any ContentObserver]

    init(_ body: any SpooledBody, _ observers: [any ContentObserver]) {
        (self.body, self.observers) = (body, observers)
    }

    var reference: SpoolReference { body.reference }

    func makeReader() -> any SpoolReader { body.makeReader() }
}
