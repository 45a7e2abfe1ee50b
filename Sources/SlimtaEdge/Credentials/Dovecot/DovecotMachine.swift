// The client's side of Dovecot's authentication protocol: one connection for all sessions, made anew when it is lost, and the
// exchanges on it. The rules of DovecotClient, without connections. A value; time comes in with each event.

internal import NIOCore
internal import SlimtaSASL

/// The connection to Dovecot and the exchanges on it.
///
///     paused ──▶ connecting ──connected──▶ greeting ──DONE──▶ ready
///       ▲             │                        │                │
///       └─────────────┴──── failed, silent ────┴────────────────┘
///
/// An exchange has a number on the wire. Dovecot speaks of it when it is its turn; then the client responds, and so on until OK
/// or FAIL. What was said of numbers that are over is passed by. What is on a connection that is lost cannot be found out: nobody
/// asks again, since a proof is for one exchange.
struct DovecotMachine: Sendable {
    /// Of an exchange: 32 bits, not 0, and not in use.
    typealias ID = UInt32
    /// Of a connection; each has its own.
    typealias ConnectionID = UInt64

    struct Limits: Hashable, Sendable {
        /// To connect, and then for the handshake.
        var handshake = TimeAmount.seconds(10)
        /// What an answer may take. Dovecot delays a FAIL by up to 17 s on purpose.
        var answer = TimeAmount.seconds(60)
        /// How long a connection has to last, or be answered on, to be one: behind one that was not, the pauses go on.
        var lasting = TimeAmount.seconds(10)
        /// Before the first, second, … try to connect again; the last counts for all that follow.
        var pauses: [TimeAmount] = [.seconds(1), .seconds(2), .seconds(5)]
        /// Mechanisms.
        var mechanisms = 64
    }

    /// What is to be done; one event can lead to several.
    enum Action: Equatable, Sendable {
        /// Make this connection. ``connected(_:as:_:)`` or ``failed(_:_:_:)`` is to follow.
        case connect(ConnectionID)
        /// Send whole lines.
        case send(ConnectionID, SecretOctets)
        /// Close it. Nothing that it says counts any more.
        case close(ConnectionID)
        /// This came of the exchange. But for a challenge it is over.
        case answer(ID, DovecotAnswer)
        /// For the log: the handshake is done; behind connections that were lost at once, that this one lasts.
        case tellReady
        /// For the log: the connection was lost, or could not be made for the first time since it was.
        case tellLost(String)
    }

    private enum Phase {
        case stopped
        case paused(until: NIODeadline)
        case connecting(until: NIODeadline)
        case greeting(until: NIODeadline, Greeting)
        case ready
    }

    /// What the handshake has said so far.
    private struct Greeting {
        var hasVersion = false
        var mechanisms: Set<String> = []
    }

    private enum Turn: Hashable {
        /// Dovecot's.
        case dovecots(since: NIODeadline)
        /// The client's.
        case clients

        /// Since when Dovecot is waited for; nil: it is not.
        var since: NIODeadline? { if case .dovecots(let since) = self { since } else { nil } }
    }

    private let limits: Limits
    private var phase = Phase.stopped
    private var connection: ConnectionID = 0
    private var exchanges: [ID: Turn] = [:]
    private var lastID: ID = 0
    /// When the first of them may be out of time.
    private var answerDue: NIODeadline?
    /// When the connection last said something.
    private var lastHeard = NIODeadline.uptimeNanoseconds(0)
    /// Tries to connect since the last connection that has lasted.
    private var tries = 0
    /// Connections in a row that were ready and have not lasted.
    private var shortLived = 0
    /// Since when the connection has lasted; nil: it is not ready, or has lasted already.
    private var lastsAt: NIODeadline?
    /// Why there is none, if the log was told so; nil: there is one, or nobody knows yet.
    private(set) var complaint: String?
    /// What Dovecot offers to clients; also while there is no connection: what it offered last. Nil: it was never there.
    private(set) var mechanisms: Set<String>?

    init(_ limits: Limits = Limits()) { self.limits = limits }

    /// Exchanges that are not over.
    var exchangeCount: Int { exchanges.count }
    /// Whether Dovecot can be asked.
    var isReady: Bool { if case .ready = phase { true } else { false } }
    /// Whether this connection is waited for.
    func isConnecting(_ id: ConnectionID) -> Bool {
        if case .connecting = phase { id == connection } else { false }
    }

    /// When ``timePassed(_:)`` is due; nil: never. It can be that nothing is left to do then.
    var nextDue: NIODeadline? {
        switch phase {
        case .stopped: nil
        case .paused(let until), .connecting(let until), .greeting(let until, _): until
        case .ready: [answerDue, lastsAt].compactMap(\.self).min()
        }
    }

    // MARK: Exchanges

    /// A number for the next exchange.
    mutating func nextID() -> ID {
        repeat { lastID &+= 1 } while lastID == 0 || exchanges[lastID] != nil
        return lastID
    }

    /// An exchange begins; `id` is of ``nextID()``.
    mutating func began(_ id: ID, _ request: DovecotRequest, _ now: NIODeadline) -> [Action] {
        guard isReady else { return [.answer(id, .unavailable("there is no connection to Dovecot"))] }
        // Dovecot would close the connection, with all exchanges on it.
        guard mechanisms?.contains(request.mechanism) == true else {
            return [.answer(id, .unavailable("Dovecot does not offer \(request.mechanism) any more"))]
        }
        guard let line = request.line(id) else { return [.answer(id, .unavailable("longer than Dovecot's lines"))] }
        return send(line, of: id, now)
    }

    /// The client's response to the challenge.
    mutating func responded(_ id: ID, _ response: SecretOctets, _ now: NIODeadline) -> [Action] {
        guard exchanges[id] == .clients else {
            return abandoned(id) + [.answer(id, .unavailable("Dovecot waits for it no longer"))]
        }
        guard let line = DovecotRequest.response(id, response) else {
            return abandoned(id) + [.answer(id, .unavailable("longer than Dovecot's lines"))]
        }
        return send(line, of: id, now)
    }

    /// Nobody wants to know any more. No answer follows.
    mutating func abandoned(_ id: ID) -> [Action] {
        guard exchanges.removeValue(forKey: id) != nil else { return [] }
        return [.send(connection, SecretOctets("CANCEL\t\(id)\n".utf8))]
    }

    // MARK: Connections

    /// Begins to connect, and does not cease until ``stopped()``.
    mutating func started(_ now: NIODeadline) -> [Action] {
        guard case .stopped = phase else { return [] }
        return connect(now)
    }

    /// The connection is there.
    ///
    /// - Parameter process: what Dovecot tells its clients apart by; no two connections may have the same.
    mutating func connected(_ id: ConnectionID, as process: UInt32, _ now: NIODeadline) -> [Action] {
        guard id == connection, case .connecting = phase else { return [] }
        phase = .greeting(until: now + limits.handshake, Greeting())
        return [.send(id, SecretOctets("VERSION\t1\t2\nCPID\t\(process)\n".utf8))]
    }

    /// Dovecot has said something.
    mutating func received(_ id: ConnectionID, _ message: DovecotMessage, _ now: NIODeadline) -> [Action] {
        guard id == connection else { return [] }
        lastHeard = now
        do throws(DovecotFault) {
            switch phase {
            case .greeting(let until, var greeting):
                guard try greeted(message, &greeting) else {
                    phase = .greeting(until: until, greeting)
                    return []
                }
                (phase, mechanisms, lastsAt) = (.ready, greeting.mechanisms, now + limits.lasting)
                // What ends behind each handshake would be told of each time.
                return shortLived > 1 ? [] : tellReady()
            case .ready:
                let actions = try answered(message)
                return (actions.isEmpty ? [] : lasted()) + actions
            case .stopped, .paused, .connecting: return []
            }
        } catch {
            return failed(id, "\(error)", now)
        }
    }

    /// The connection could not be made, has ended, or has said what cannot be read.
    mutating func failed(_ id: ConnectionID, _ reason: String, _ now: NIODeadline) -> [Action] {
        guard id == connection else { return [] }
        switch phase {
        case .stopped, .paused: return []
        case .connecting, .greeting, .ready: break
        }
        if lastsAt != nil { shortLived += 1 }
        lastsAt = nil
        let pause = limits.pauses.isEmpty ? .zero : limits.pauses[min(tries, limits.pauses.count - 1)]
        tries += 1
        phase = .paused(until: now + pause)
        let told: [Action] = complaint == nil ? [.tellLost(reason)] : []
        complaint = reason
        return [.close(id)] + told + giveUpAll("the connection to Dovecot was lost: \(reason)")
    }

    /// Time is over for some.
    mutating func timePassed(_ now: NIODeadline) -> [Action] {
        switch phase {
        case .paused(let until) where until <= now: return connect(now)
        case .connecting(let until) where until <= now: return failed(connection, "connecting timed out", now)
        case .greeting(let until, _) where until <= now: return failed(connection, "the handshake timed out", now)
        case .ready: return (lastsAt.map { $0 <= now } == true ? lasted() : []) + timeOut(now)
        case .stopped, .paused, .connecting, .greeting: return []
        }
    }

    /// Everything ends.
    mutating func stopped() -> [Action] {
        if case .stopped = phase { return [] }
        phase = .stopped
        return [.close(connection)] + giveUpAll("slimtad stops")
    }

    // MARK: Rules

    private mutating func connect(_ now: NIODeadline) -> [Action] {
        connection += 1
        phase = .connecting(until: now + limits.handshake)
        return [.connect(connection)]
    }

    private mutating func tellReady() -> [Action] {
        complaint = nil
        return [.tellReady]
    }

    /// The connection is one.
    private mutating func lasted() -> [Action] {
        guard lastsAt != nil else { return [] }
        (lastsAt, tries, shortLived) = (nil, 0, 0)
        return complaint == nil ? [] : tellReady()
    }

    /// Whether the handshake is done with this.
    private func greeted(_ message: DovecotMessage, _ greeting: inout Greeting) throws(DovecotFault) -> Bool {
        switch message {
        case .version(let major, let minor):
            guard major == "1" else { throw .version("\(major).\(minor)") }
            greeting.hasVersion = true
        case .mechanism(let mechanism):
            greeting.mechanisms.insert(mechanism)
            guard greeting.mechanisms.count <= limits.mechanisms else { throw .tooManyMechanisms }
        case .done:
            guard greeting.hasVersion else { throw .unexpected(command: "DONE") }
            return true
        case .challenge: throw .unexpected(command: "CONT")
        case .success: throw .unexpected(command: "OK")
        case .failure: throw .unexpected(command: "FAIL")
        case .other: break
        }
        return false
    }

    private mutating func answered(_ message: DovecotMessage) throws(DovecotFault) -> [Action] {
        switch message {
        case .challenge(let id, let challenge):
            guard let turn = exchanges[id] else { return [] }
            guard case .dovecots = turn else { throw .unexpected(command: "CONT") }
            exchanges[id] = .clients
            return [.answer(id, .challenge(challenge))]
        case .success(let id, let fields):
            guard let turn = exchanges.removeValue(forKey: id) else { return [] }
            // Of what the client has not yet said nothing can be right.
            guard case .dovecots = turn else { throw .unexpected(command: "OK") }
            return [.answer(id, DovecotAnswer(success: fields))]
        case .failure(let id, let fields):
            guard let turn = exchanges.removeValue(forKey: id) else { return [] }
            // It no longer waits for the client's response: the client is told when that comes.
            guard case .dovecots = turn else { return [] }
            return [.answer(id, DovecotAnswer(failure: fields))]
        case .version, .mechanism, .done, .other: return []
        }
    }

    private mutating func send(_ line: SecretOctets, of id: ID, _ now: NIODeadline) -> [Action] {
        exchanges[id] = .dovecots(since: now)
        answerDue = answerDue ?? now + limits.answer
        return [.send(connection, line)]
    }

    private mutating func timeOut(_ now: NIODeadline) -> [Action] {
        var actions: [Action] = []
        var isSilent = false
        for (id, turn) in exchanges.sorted(by: { $0.key < $1.key }) {
            guard let since = turn.since, since + limits.answer <= now else { continue }
            isSilent = isSilent || lastHeard <= since
            actions += abandoned(id) + [.answer(id, .unavailable("Dovecot has not answered in time"))]
        }
        answerDue = exchanges.values.compactMap(\.since).min().map { $0 + limits.answer }
        // A host that is gone says nothing of any exchange, and TCP notices it late.
        return isSilent ? actions + failed(connection, "it says nothing", now) : actions
    }

    private mutating func giveUpAll(_ reason: String) -> [Action] {
        // Those whose turn is the client's are told when they respond.
        let waiting = exchanges.filter { $0.value != .clients }.keys.sorted()
        exchanges.removeAll()
        answerDue = nil
        return waiting.map { .answer($0, .unavailable(reason)) }
    }
}
