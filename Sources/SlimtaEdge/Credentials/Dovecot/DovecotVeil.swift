// Dovecot's SCRAM, so that no time shows who exists: Dovecot answers the first message of a user at once, and that of a name
// that there is not, or that has no keys, behind its delay for failures. DovecotBackEnd begins these exchanges.

internal import NIOCore
internal import SlimtaCrypto
internal import SlimtaSASL
import Synchronization

/// How long the first answer of SCRAM takes, whatever it is: longer than Dovecot needs for its users. One for a back end.
final class DovecotPace: Sendable {
    /// A tenth of a second, until Dovecot is seen to need more.
    private static let shortest = Duration.milliseconds(100)
    /// Below Dovecot's own delay for failures.
    private static let longest = Duration.milliseconds(1500)
    private let time = Mutex(shortest)

    /// The time of all first answers now.
    var now: Duration { time.withLock { $0 } }

    /// Dovecot has needed that long for a user: twice that is enough from now on.
    func needed(_ needed: Duration) {
        time.withLock { $0 = min(max($0, needed * 2), Self.longest) }
    }
}

/// An exchange of SCRAM with Dovecot. What Dovecot says of the first message is told when ``DovecotPace/now`` is over; what it
/// has not said by then is taken for a name that there is not. Whoever goes on with invented keys says no when Dovecot says it
/// to another exchange, which begins with the proof: Dovecot tells failures many at a time, and no time that was measured
/// before looks like that.
final class VeiledDovecotExchange: BackEndExchange {
    /// What Dovecot said of the first message, and how long it took.
    private typealias First = (step: BackEndStep, time: Duration)

    private let exchange: any BackEndExchange
    /// One for the proof of a name that there is not. Dovecot's delay for addresses that fail again and again is not in it:
    /// it stands before the first message of an exchange, and so before no proof.
    private let failing: any BackEndExchange
    private let pace: DovecotPace
    private let first = Mutex<(message: SecretOctets?, answer: Task<First, Never>)?>(nil)

    init(_ exchange: any BackEndExchange, failing: any BackEndExchange, _ pace: DovecotPace) {
        self.exchange = exchange
        self.failing = failing
        self.pace = pace
    }

    func received(_ response: SecretOctets?) async -> BackEndStep {
        guard first.withLock({ $0 == nil }) else { return await exchange.received(response) }
        let began = ContinuousClock.now
        let task = Task<First, Never> { [exchange] in
            let step = await exchange.received(response)
            return (step, ContinuousClock.now - began)
        }
        first.withLock { $0 = (response, task) }
        let time = pace.now
        // Both kinds of answers wait for their end on the same clock: the timer of those that do not come is another one.
        let found = await answer(within: TimeAmount(time * 0.9), else: nil) { await task.value as First? }
        if case .challenge = found?.step, let found { pace.needed(found.time) }
        try? await Task.sleep(until: began + time, clock: .continuous)
        return found?.step ?? .verdict(.wrong)
    }

    /// As Dovecot has it: 64 visible characters, "~" in place of the comma; and the iterations of `doveadm pw`.
    var look: (nonce: String, iterations: Int)? {
        let visible = RandomOctets.secret(64).map { octet -> UInt8 in
            let character = octet % 93 + UInt8(ascii: "!")
            return character == UInt8(ascii: ",") ? UInt8(ascii: "~") : character
        }
        return (String(decoding: visible, as: UTF8.self), 4096)
    }

    /// What the proof of a name is told that Dovecot does not know, when Dovecot says no.
    func refusal() async -> CredentialVerdict {
        guard let (message, answer) = first.withLock({ $0 }) else { return .wrong }
        async let refused = failing.received(message)
        let (step, time) = await answer.value
        switch step {
        case .challenge:
            // It is a user all the same: the next time we wait as long as it takes.
            pace.needed(time)
            cancel()
            return .unavailable("Dovecot has not said in time who it is")
        case .verdict(.wrong), .malformed:
            // Who has become a user meanwhile has another password, or comes again.
            if case .challenge = await refused { failing.cancel() }
            return .wrong
        case .verdict(let verdict): return verdict
        }
    }

    func cancel() {
        exchange.cancel()
        failing.cancel()
    }
}
