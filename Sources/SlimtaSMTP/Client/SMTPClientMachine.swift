// The client's side of an SMTP session (RFC 5321) as a value: no channel, clock or closure. SlimtaRelay's driver feeds
// it and performs its actions.

package import NIOCore
package import SlimtaMail
package import SlimtaSASL

/// One SMTP or LMTP session with one server, from its greeting to QUIT: octets in, one action out.
///
/// ```
/// greeting ─▶ ehlo ─▶ startTLS ─▶ handshake ─▶ ehlo ─▶ authentication ─▶ ready ─▶ quit
///               └▶ helo                                                  ▲   │
///                                                        reset, finished │   ▼ begin
///                                                   finalReply ◀─ content ◀─ replies
/// ```
///
/// The driver hands over what arrives (``received(_:)``) and calls ``next(into:)`` until that says ``Action/wait``;
/// it writes what was appended to `out` before it performs an action. Everything else that happens is a call as well:
/// ``tlsEstablished(_:into:)``, ``contentSent()``, ``ended(_:)``. ``waitsFor`` says which deadline is running.
///
/// A server may say 421 at any time, close at any time and lie at any time. What it must not do is to answer what was
/// not asked: a reply that nobody waits for means that the two sides no longer talk of the same thing, and ends the
/// session, as does anything behind STARTTLS's 220 that was not sent inside TLS (RFC 3207 section 4.2, CVE-2021-38371).
package struct SMTPClientMachine: Sendable {
    /// When the session is encrypted.
    package enum Security: Hashable, Sendable {
        /// Never.
        case none
        /// Where the server offers STARTTLS.
        case opportunistic
        /// Always, or there is no session.
        case required
    }

    /// What a session with a host is to be like.
    package struct Configuration: Hashable, Sendable {
        /// Our name in EHLO: a domain name, or an address literal.
        package var name: String
        /// What is spoken.
        package var dialect: SMTPDialect
        /// When TLS is begun, if at all.
        package var security: Security
        /// With ``Security/opportunistic``: whether a session in clear may follow one whose TLS failed at once.
        package var mayGoInClear: Bool
        /// Who we are for the server; nil: no AUTH.
        package var credentials: SASLClient.Credentials?
        /// Whom we take the server for, which some mechanisms tell it.
        package var server: SASLPeer?

        /// `name` is what we say in EHLO; `credentials`: nil for a host that wants no AUTH.
        package init(
            name: String, dialect: SMTPDialect = .smtp, security: Security, mayGoInClear: Bool = true,
            credentials: SASLClient.Credentials? = nil, server: SASLPeer? = nil
        ) {
            self.name = name
            self.dialect = dialect
            self.security = security
            self.mayGoInClear = mayGoInClear
            self.credentials = credentials
            self.server = server
        }
    }

    /// What the driver is to do.
    package enum Action: Equatable, Sendable {
        /// Nothing, until something happens.
        case wait
        /// Begin TLS, then call ``tlsEstablished(_:into:)``.
        case startTLS
        /// Do the ``computation`` away from the event loop, then call ``computed(_:into:)``.
        case compute
        /// The session is open: a transaction may begin.
        case ready
        /// Send the content and its end, then call ``contentSent()``.
        case sendContent(allowsEightBit: Bool)
        /// With LMTP: the recipient of this index has its reply to the message, and others are still to have theirs. It is
        /// among those of ``finished(_:isReusable:)`` again.
        case settled(Int, Outcome)
        /// The transaction is over, with one outcome for each of its recipients; ``causes`` tells where each came
        /// from. Not reusable: close the connection.
        case finished([Outcome], isReusable: Bool)
        /// A session that has had transactions before has come to its end: the server refuses MAIL, or ends the session
        /// before it took content. Close the connection and repeat the transaction in a new session, which is asked as
        /// if nothing had been said. The outcomes are for the case that this is not possible.
        case stale([Outcome])
        /// No session: close the connection.
        case failed(SessionFailure)
        /// Close the connection; there is no transaction.
        case close
    }

    /// Why a session did not come to be.
    package typealias SessionFailure = SMTPSessionFailure

    /// What happens to a session from outside.
    package enum End: Hashable, Sendable {
        /// The server closed the connection.
        case closed
        /// The connection broke, with the system's word for it.
        case broken(String)
        /// The deadline passed.
        case timedOut
        /// TLS failed, in its words.
        case tlsFailed(String)
        /// We no longer want it.
        case cancelled
    }

    /// What the session waits for: the driver has a deadline for it.
    package struct Wait: Hashable, Sendable {
        /// What the server, or we, are to do next.
        package enum Kind: Hashable, Sendable {
            case greeting
            /// Replies to commands: of how many recipients is in one group.
            case reply(recipients: Int)
            case handshake
            case content
            case finalReply
            /// For nothing: the session is idle.
            case idle
            case quit
            case nothing
        }

        /// What is waited for.
        package var kind: Kind
        /// Another number is another wait, with a deadline of its own.
        package var number: UInt64
    }

    enum State: Equatable {
        case greeting, ehlo, helo, startTLS, handshake, authentication
        /// A response of SASL is being computed.
        case computing
        case ready
        /// Commands of a transaction were sent.
        case replies
        case content, emptyContent, finalReply, reset
        case quit, closed
    }

    /// What the session is to be like.
    package let configuration: Configuration
    var state = State.greeting
    var parser = ReplyParser()
    var extensions = ServerExtensions()
    var progress = SMTPClientMachine.noTransaction
    /// Where the outcomes of the last transaction came from, one for each of its recipients.
    package internal(set) var causes: [OutcomeCause] = []
    /// Whether there was a transaction before.
    var isReused = false
    /// Transactions that were begun.
    var transactions = 0
    private(set) var isEncrypted = false
    /// Whether the server has said something inside TLS: it then works.
    private var isTLSProven = false
    /// Why the session is open, or to be opened, without TLS that was wanted where it is offered; nil: it is not.
    package private(set) var missingTLS: SessionFailure.TLSFault?
    /// What the server calls itself in its greeting (RFC 5321 section 4.2); nil: it has not greeted.
    package private(set) var serverName: String?
    var login = SMTPLogin()
    private var waitNumber: UInt64 = 0

    /// A session over a connection that was just made: the server is to greet.
    package init(_ configuration: Configuration) { self.configuration = configuration }

    /// Whether a transaction may begin.
    package var isReady: Bool { state == .ready }

    /// Whether the server has said that the session has no more transactions (RFC 9422 section 4.1).
    package var isUsedUp: Bool { extensions.maximumTransactions.map { transactions >= $0 } ?? false }

    /// What the session waits for.
    package var waitsFor: Wait {
        let kind: Wait.Kind =
            switch state {
            case .greeting: .greeting
            case .ehlo, .helo, .startTLS, .authentication, .computing, .reset, .emptyContent: .reply(recipients: 0)
            case .replies: .reply(recipients: extensions.pipelining ? progress.candidates.count : 1)
            case .handshake: .handshake
            case .content: .content
            case .finalReply: .finalReply
            case .ready: .idle
            case .quit: .quit
            case .closed: .nothing
            }
        return Wait(kind: kind, number: waitNumber)
    }

    // MARK: Events

    /// Takes what the server sent; ``next(into:)`` then says what to do.
    package mutating func received(_ bytes: ByteBuffer) {
        // Behind the end nothing counts, and nothing is kept.
        if state != .closed { parser.append(bytes) }
    }

    /// What is to be done; call it again until it is ``Action/wait``.
    package mutating func next(into out: inout ByteBuffer) -> Action {
        while true {
            switch state {
            case .closed, .handshake, .computing: return .wait
            case .ready:
                guard parser.hasUnread else { return .wait }
                state = .closed
                return .close
            case .greeting, .ehlo, .helo, .startTLS, .authentication, .replies, .content, .emptyContent, .finalReply,
                .reset, .quit:
                break
            }
            let reply: Reply?
            do {
                reply = try parser.next()
            } catch {
                return heardYes() ?? protocolError(error.description)
            }
            guard let reply else { return .wait }
            if let action = replied(reply, into: &out) { return action }
        }
    }

    /// TLS is there, and nothing of what was said before counts (RFC 3207 section 4.2).
    ///
    /// - Parameter bindings: what AUTH can be bound to this TLS session by.
    package mutating func tlsEstablished(_ bindings: [ChannelBinding: [UInt8]] = [:], into out: inout ByteBuffer) {
        guard state == .handshake else { return }
        isEncrypted = true
        login.bindings = bindings
        extensions = ServerExtensions()
        sendEHLO(into: &out)
    }

    /// The session ends from outside: what that means for what it was doing.
    package mutating func ended(_ end: End) -> Action {
        switch state {
        case .closed: return .wait
        case .ready, .quit:
            state = .closed
            return .close
        case .greeting, .ehlo, .helo, .startTLS, .handshake, .authentication, .computing:
            return fail(with: outcome(of: end), after: end.kind)
        case .replies:
            switch end {
            case .closed, .broken, .tlsFailed: return endedByServer(outcome(of: end), .lost)
            case .timedOut, .cancelled:
                progress.settle(outcome(of: end), end.kind)
                return finish(isReusable: false)
            }
        case .content, .emptyContent, .finalReply, .reset:
            if let yes = heardYes() { return yes }
            progress.settle(outcome(of: end), end.kind)
            return finish(isReusable: false)
        }
    }

    /// Says QUIT, when ``isReady``; else the connection is to be closed as it is.
    package mutating func quit(into out: inout ByteBuffer) -> Action {
        guard isReady else {
            state = .closed
            return .close
        }
        out.writeStaticString("QUIT\r\n")
        state = .quit
        deadlineBegins()
        return .wait
    }

    // MARK: Replies

    /// What a reply leads to; nil if the next one is to be looked at.
    private mutating func replied(_ reply: Reply, into out: inout ByteBuffer) -> Action? {
        isTLSProven = isEncrypted
        switch state {
        case .replies: return replied(toCommandWith: reply, into: &out)
        case .content: return replied(toContentWith: reply, isWhole: false)
        case .finalReply: return replied(toContentWith: reply, isWhole: true)
        case .reset: return finish(isReusable: reply.isPositive)
        case .emptyContent: return finish(isReusable: reply.code != 421)
        case .quit:
            state = .closed
            return .close
        case .greeting, .ehlo, .helo, .startTLS, .authentication:
            if parser.hasUnread { return unsolicited() }
            return replied(toOpeningWith: reply, into: &out)
        case .handshake, .computing, .ready, .closed: preconditionFailure("a reply taken where none is expected")
        }
    }

    private mutating func replied(toOpeningWith reply: Reply, into out: inout ByteBuffer) -> Action? {
        if reply.code == 421 { return refused(reply) }
        switch state {
        case .greeting:
            guard reply.isPositive else { return refused(reply) }
            serverName = reply.firstWord
            sendEHLO(into: &out)
            return nil
        case .ehlo:
            // RFC 5321 section 3.2: a server that does not know EHLO gets HELO. With LMTP there is none (RFC 2033 section 4.1).
            if reply.isPermanent, configuration.dialect == .smtp {
                send("HELO \(configuration.name)", into: &out)
                state = .helo
                return nil
            }
            guard reply.isPositive else { return refused(reply) }
            extensions = ServerExtensions(ehlo: reply)
            return open(into: &out)
        case .helo:
            guard reply.isPositive else { return refused(reply) }
            return open(into: &out)
        case .startTLS:
            if reply.isPositive {
                state = .handshake
                deadlineBegins()
                return .startTLS
            }
            if reply.code / 100 == 3 { return protocolError("\(reply.code) in reply to STARTTLS") }
            switch configuration.security {
            case .required:
                return lacking(
                    tlsMissing("the server refused STARTTLS: \(shown(reply))"), .refused(shown(reply)))
            case .opportunistic, .none:
                missingTLS = .refused(shown(reply))
                return authenticate(into: &out)
            }
        case .authentication: return replied(toAuthenticationWith: reply, into: &out)
        case .handshake, .computing, .ready, .replies, .content, .emptyContent, .finalReply, .reset, .quit, .closed:
            preconditionFailure("not a state of a session's opening")
        }
    }

    /// The hello was answered: TLS, if it is to be.
    private mutating func open(into out: inout ByteBuffer) -> Action? {
        if isEncrypted { return authenticate(into: &out) }
        switch configuration.security {
        case .none: return authenticate(into: &out)
        case .opportunistic where !extensions.startTLS:
            missingTLS = .notOffered
            return authenticate(into: &out)
        case .required where !extensions.startTLS:
            return lacking(tlsMissing("TLS is required, and the server does not offer it"), .notOffered)
        case .opportunistic, .required:
            send("STARTTLS", into: &out)
            state = .startTLS
            return nil
        }
    }

    mutating func becomeReady() -> Action {
        login = SMTPLogin()
        state = .ready
        deadlineBegins()
        return .ready
    }

    private mutating func sendEHLO(into out: inout ByteBuffer) {
        send("\(configuration.dialect.hello) \(configuration.name)", into: &out)
        state = .ehlo
    }

    mutating func send(_ line: String, into out: inout ByteBuffer) {
        out.writeString(line)
        out.writeStaticString("\r\n")
        deadlineBegins()
    }

    /// What was waited for is there, or was just asked for: the next deadline is a new one.
    mutating func deadlineBegins() { waitNumber &+= 1 }

    // MARK: Ends

    /// The server does not want a session, or does not speak SMTP.
    private mutating func refused(_ reply: Reply) -> Action {
        if reply.code / 100 == 3 { return protocolError("\(reply.code) where a session should open") }
        // A positive reply does not come here.
        let isForGood = reply.isPermanent && configuration.dialect == .smtp
        // In reply to STARTTLS it is that which is refused, however the session ends.
        return fail(
            with: Outcome(isForGood ? .permanent : .temporary, shown(reply), isRemote: true),
            state == .startTLS ? .refused(shown(reply)) : nil)
    }

    /// There is no session as it was asked for.
    mutating func lacking(
        _ outcome: Outcome, _ fault: SessionFailure.TLSFault? = nil, isTokenStale: Bool = false
    ) -> Action {
        fail(with: outcome, isOfSecurity: true, fault, isTokenStale: isTokenStale)
    }

    private mutating func fail(
        with outcome: Outcome, after kind: OutcomeCause.Kind = .reply, isOfSecurity: Bool = false,
        _ fault: SessionFailure.TLSFault? = nil, isTokenStale: Bool = false
    ) -> Action {
        let isTLSFailure = kind != .cancelled && isTLSOnItsWay
        let inClear: SessionFailure.InClear =
            switch configuration.security {
            case .opportunistic where isTLSFailure && configuration.credentials == nil:
                configuration.mayGoInClear ? .now : .later
            case .none, .opportunistic, .required: .no
            }
        let isLogin = state == .authentication || state == .computing
        let isOfSecurity = isOfSecurity || isTLSFailure || (isLogin && kind != .cancelled)
        state = .closed
        return .failed(
            SessionFailure(
                outcome: outcome, inClear: inClear, isTimeout: kind == .timedOut, isOfSecurity: isOfSecurity,
                fault: fault ?? (isTLSFailure ? .failed : nil), isTokenStale: isTokenStale))
    }

    /// From STARTTLS until the server says a word inside TLS, what ends a session ends it because of TLS: a server that
    /// cannot do it closes before its 220, answers nonsense, says 421, or fails in the handshake or right behind it.
    private var isTLSOnItsWay: Bool {
        state == .startTLS || state == .handshake || (isEncrypted && !isTLSProven)
    }

    /// There is more than was asked for. A 421 may come at any time; nothing else may.
    mutating func unsolicited() -> Action {
        if let reply = try? parser.next(), reply.code == 421 {
            return giveUp(with: Outcome(.temporary, shown(reply), isRemote: true), .reply)
        }
        return protocolError("more replies than commands")
    }

    /// The server does not keep to the protocol: what it may have meant is not guessed, and no mail bounces for it.
    mutating func protocolError(_ what: String) -> Action {
        giveUp(
            with: Outcome(.temporary, Reply(451, EnhancedStatus(4, 5, 0), "protocol error: \(what)")), .protocolError)
    }

    /// The session ends here, with `outcome` for whoever has none.
    private mutating func giveUp(with outcome: Outcome, _ kind: OutcomeCause.Kind) -> Action {
        switch state {
        case .greeting, .ehlo, .helo, .startTLS, .handshake, .authentication, .computing:
            return fail(with: outcome, after: kind)
        case .replies, .content, .emptyContent, .finalReply, .reset:
            progress.settle(outcome, kind)
            return finish(isReusable: false)
        case .ready, .quit, .closed:
            state = .closed
            return .close
        }
    }

    private func tlsMissing(_ text: String) -> Outcome {
        Outcome(.temporary, Reply(451, EnhancedStatus(4, 7, 4), text))
    }

    private func outcome(of end: End) -> Outcome {
        switch end {
        case .closed: lost("the server closed the connection \(whileWaiting)")
        case .broken(let text): lost("connection lost \(whileWaiting): \(text)")
        case .timedOut: lost("timed out \(whileWaiting)")
        case .tlsFailed(let text): Outcome(.temporary, Reply(451, EnhancedStatus(4, 7, 5), "TLS failed: \(text)"))
        case .cancelled: Outcome(.temporary, Reply(451, EnhancedStatus(4, 3, 2), "the attempt was broken off"))
        }
    }

    private func lost(_ text: String) -> Outcome { Outcome(.temporary, Reply(451, EnhancedStatus(4, 4, 2), text)) }

    private var whileWaiting: String {
        switch state {
        case .greeting: "before its greeting"
        case .ehlo: "in reply to \(configuration.dialect.hello)"
        case .helo: "in reply to HELO"
        case .startTLS: "in reply to STARTTLS"
        case .handshake: "in the TLS handshake"
        case .authentication, .computing: "in reply to AUTH"
        case .replies:
            switch progress.command(progress.answered) {
            case .mail: "in reply to MAIL"
            case .recipient: "in reply to RCPT"
            case .data: "in reply to DATA"
            }
        case .content: "while the message was sent"
        case .finalReply: "in reply to the message (it may be delivered more than once)"
        case .emptyContent, .reset: "in reply to RSET"
        case .ready, .quit, .closed: "while idle"
        }
    }
}
