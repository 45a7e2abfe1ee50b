// Sessions of the client machine: opening, TLS, AUTH, transactions, and what a server must not do.

import NIOCore
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Testing

/// A machine and what it wrote.
struct ClientDialog {
    var machine: SMTPClientMachine
    var out = ByteBuffer()

    init(
        _ security: SMTPClientMachine.Security = .none, credentials: SASLClient.Credentials? = nil,
        mayGoInClear: Bool = true, dialect: SMTPDialect = .smtp
    ) {
        machine = SMTPClientMachine(
            .init(
                name: "client.test", dialect: dialect, security: security, mayGoInClear: mayGoInClear,
                credentials: credentials))
    }

    /// A session that is ready, with what the server offers.
    init(offering extensions: [String], _ security: SMTPClientMachine.Security = .none) {
        self.init(security)
        _ = hear("220 server.test\r\n")
        let actions = hear((["server.test"] + extensions).ehloReply)
        precondition(actions == [.ready])
        _ = said()
    }

    /// The actions that come of what the server says.
    mutating func hear(_ text: String) -> [SMTPClientMachine.Action] { hear(Array(text.utf8)) }

    mutating func hear(_ octets: [UInt8]) -> [SMTPClientMachine.Action] {
        machine.received(ByteBuffer(bytes: octets))
        var actions: [SMTPClientMachine.Action] = []
        while true {
            let action = machine.next(into: &out)
            if action == .wait { return actions }
            actions.append(action)
        }
    }

    /// Does what the machine wants computed.
    mutating func compute() -> SMTPClientMachine.Action {
        guard var computation = machine.computation else { return .wait }
        computation.run()
        return machine.computed(computation, into: &out)
    }

    mutating func begin(_ transaction: SMTPTransaction) -> SMTPClientMachine.Action {
        machine.begin(transaction, into: &out)
    }

    /// What was written since the last call.
    mutating func said() -> String {
        defer { out.clear() }
        return String(buffer: out)
    }
}

extension [String] {
    var ehloReply: String {
        enumerated().map { "250\($0.offset == count - 1 ? " " : "-")\($0.element)\r\n" }.joined()
    }
}

extension SMTPTransaction {
    /// From a@client.test to one@, two@, ... at server.test.
    init(to count: Int, size: Int = 100, isEightBit: Bool = false, smtpUTF8Need: String? = nil) {
        let names = ["one", "two", "three", "four", "five"]
        self.init(
            sender: Mailbox(localPart: "a", domain: "client.test"),
            recipients: names.prefix(count).map { Mailbox(localPart: $0, domain: "server.test") }, size: size,
            eightBit: isEightBit ? .yes : .no, smtpUTF8Need: smtpUTF8Need)
    }
}

func remoteOutcome(_ code: UInt16, _ text: String, _ status: EnhancedStatus? = nil) -> Outcome {
    let reply = Reply(code, status, text)
    return Outcome(Outcome.result(of: reply), reply, isRemote: true)
}

func protocolErrorOutcome(_ text: String) -> Outcome {
    Outcome(.temporary, Reply(451, EnhancedStatus(4, 5, 0), "protocol error: \(text)"))
}

struct SMTPClientMachineSessionTests {
    @Test func opening() {
        var dialog = ClientDialog(.opportunistic)
        #expect(dialog.said() == "")
        #expect(dialog.hear("220-server.test\r\n220 ESMTP\r\n") == [])
        #expect(dialog.said() == "EHLO client.test\r\n")
        #expect(dialog.hear("250-server.test\r\n250-PIPELINING\r\n250 SIZE\r\n") == [.ready])
        #expect(dialog.machine.isReady)
        #expect(dialog.said() == "")
    }

    @Test(arguments: [500, 501, 502, 503, 504, 550, 554])
    func heloIsTheFallback(_ code: Int) {
        var dialog = ClientDialog()
        _ = dialog.hear("220 x\r\n")
        _ = dialog.said()
        #expect(dialog.hear("\(code) what?\r\n") == [])
        #expect(dialog.said() == "HELO client.test\r\n")
        #expect(dialog.hear("250 x\r\n") == [.ready])
    }

    /// Everything that a server can say where a session should open, up to each point.
    @Test(
        arguments: [
            ([], "421 busy", remoteOutcome(421, "busy")), ([], "450 later", remoteOutcome(450, "later")),
            ([], "554 5.7.1 blocked", remoteOutcome(554, "blocked", EnhancedStatus(5, 7, 1))),
            ([], "521 no mail", remoteOutcome(521, "no mail")),
            ([], "354 go", protocolErrorOutcome("354 where a session should open")),
            ([], "150 go", protocolErrorOutcome("not an SMTP reply")),
            ([], "SSH-2.0-OpenSSH", protocolErrorOutcome("not an SMTP reply")),
            ([], "220-x\r\n221 y", protocolErrorOutcome("the lines of a reply have different codes")),
            ([], "220 x\r\n250 y", protocolErrorOutcome("more replies than commands")),
            ([], "220 x\r\n421 y", remoteOutcome(421, "y")),
            (["220 x"], "421 busy", remoteOutcome(421, "busy")), (["220 x"], "451 later", remoteOutcome(451, "later")),
            (["220 x"], "354 go", protocolErrorOutcome("354 where a session should open")),
            (["220 x"], "250 x\r\n250 ok", protocolErrorOutcome("more replies than commands")),
            (["220 x", "500 x"], "550 no", remoteOutcome(550, "no")),
            (["220 x", "500 x"], "450 no", remoteOutcome(450, "no")),
            (["220 x", "500 x"], "421 no", remoteOutcome(421, "no")),
            (["220 x", "500 x"], "334 no", protocolErrorOutcome("334 where a session should open")),
        ] as [([String], String, Outcome)])
    func refused(_ before: [String], _ last: String, _ outcome: Outcome) {
        var dialog = ClientDialog(.opportunistic)
        for reply in before { #expect(dialog.hear(reply + "\r\n") == []) }
        #expect(dialog.hear(last + "\r\n") == [.failed(.init(outcome: outcome))])
        // And nothing more happens.
        #expect(dialog.hear("220 hello?\r\n") == [])
        #expect(dialog.machine.ended(.closed) == .wait)
        #expect(dialog.machine.waitsFor.kind == .nothing)
    }

    @Test(
        arguments: [
            ([], "before its greeting"), (["220 x"], "in reply to EHLO"), (["220 x", "500 x"], "in reply to HELO"),
        ] as [([String], String)])
    func endedInOpening(_ before: [String], _ place: String) {
        for (end, text) in [
            (SMTPClientMachine.End.closed, "the server closed the connection \(place)"),
            (.timedOut, "timed out \(place)"), (.broken("reset"), "connection lost \(place): reset"),
        ] {
            var dialog = ClientDialog(.opportunistic)
            for reply in before { _ = dialog.hear(reply + "\r\n") }
            let outcome = Outcome(.temporary, Reply(451, EnhancedStatus(4, 4, 2), text))
            #expect(dialog.machine.ended(end) == .failed(.init(outcome: outcome, isTimeout: end == .timedOut)))
        }
    }

    @Test(
        arguments: [
            (["SIZE 1000"], 1000), (["SIZE"], nil), (["SIZE 0"], nil), (["SIZE 99999999999999999999999"], nil),
            (["SIZE -5"], nil), (["SIZE x"], nil), (["size 10", "SIZE 20"], 10),
        ] as [([String], Int?)])
    func sizes(_ lines: [String], _ expected: Int?) {
        let extensions = ServerExtensions(ehlo: Reply(250, nil, lines: ["x"] + lines))
        #expect(extensions.maximumSize == expected)
        #expect(extensions.size)
    }

    @Test func extensions() {
        let extensions = ServerExtensions(
            ehlo: Reply(
                250, nil,
                lines: [
                    "PIPELINING says hello", "8bitmime", "SMTPUTF8", "STARTTLS", "AUTH=LOGIN", "AUTH GSSAPI PLAIN", "",
                    " ", "X-WHAT=EVER", "STARTTLS", "CHUNKING",
                ]))
        #expect(extensions.eightBitMIME && extensions.smtpUTF8 && extensions.startTLS)
        #expect(!extensions.pipelining && !extensions.size)
        #expect(extensions.mechanisms == [.plain, .login])
    }
}

struct SMTPClientMachineTLSTests {
    static func offered(_ security: SMTPClientMachine.Security, _ credentials: SASLClient.Credentials? = nil)
        -> ClientDialog
    {
        var dialog = ClientDialog(security, credentials: credentials)
        _ = dialog.hear("220 x\r\n")
        _ = dialog.hear(["x", "STARTTLS", "PIPELINING", "AUTH PLAIN"].ehloReply)
        return dialog
    }

    @Test(arguments: [SMTPClientMachine.Security.opportunistic, .required])
    func startTLS(_ security: SMTPClientMachine.Security) {
        var dialog = Self.offered(security)
        #expect(dialog.said() == "EHLO client.test\r\nSTARTTLS\r\n")
        #expect(dialog.hear("220 go\r\n") == [.startTLS])
        #expect(dialog.machine.waitsFor.kind == .handshake)
        dialog.machine.tlsEstablished(into: &dialog.out)
        #expect(dialog.said() == "EHLO client.test\r\n")
        // STARTTLS offered inside TLS is not asked for, and PIPELINING is forgotten.
        #expect(dialog.hear(["x", "STARTTLS"].ehloReply) == [.ready])
        _ = dialog.begin(SMTPTransaction(to: 1))
        #expect(dialog.said() == "MAIL FROM:<a@client.test>\r\n")
    }

    @Test func neverIfNotWanted() {
        var dialog = Self.offered(.none)
        #expect(dialog.machine.isReady)
        #expect(dialog.said() == "EHLO client.test\r\n")
    }

    /// CVE-2021-38371: what stands behind the 220 was not sent inside TLS.
    @Test(arguments: ["250 injected\r\n", "x", "2", "250-a\r\n250 AUTH PLAIN\r\n"])
    func injection(_ behind: String) {
        var dialog = Self.offered(.opportunistic)
        let failure = protocolErrorOutcome("more replies than commands")
        #expect(
            dialog.hear("220 go\r\n" + behind)
                == [.failed(.init(outcome: failure, inClear: .now, isOfSecurity: true, fault: .failed))])
    }

    /// Every way in which TLS can fail before it is there leads to a session in clear, if one may follow; and when the
    /// message has not waited for long enough, nothing else is held against the host.
    @Test(arguments: ["", "x\r\n", "354 go\r\n", "421 4.7.0 bye\r\n", "220 go\r\n", "220 go\r\nx", "220-go\r\n"])
    func everyWayInWhichTLSFails(_ reply: String) {
        for end in [SMTPClientMachine.End.closed, .timedOut, .tlsFailed("x"), .broken("reset"), .cancelled] {
            for (security, mayGoInClear, credentials, expected) in [
                (.opportunistic, true, nil, .now), (.opportunistic, false, nil, .later),
                (.opportunistic, true, Self.credentials, .no), (.required, true, nil, .no),
            ] as [(SMTPClientMachine.Security, Bool, SASLClient.Credentials?, SMTPClientMachine.SessionFailure.InClear)]
            {
                var dialog = ClientDialog(security, credentials: credentials, mayGoInClear: mayGoInClear)
                _ = dialog.hear("220 x\r\n")
                _ = dialog.hear(["x", "STARTTLS", "AUTH PLAIN"].ehloReply)
                let failures = (dialog.hear(reply) + [dialog.machine.ended(end)]).compactMap { action in
                    if case .failed(let failure) = action { failure } else { nil }
                }
                #expect(failures.count == 1)
                // It is we who ended it, unless it was over before.
                let isOurs = end == .cancelled && ["", "220 go\r\n", "220-go\r\n"].contains(reply)
                #expect(failures.first?.inClear == (isOurs ? .no : expected))
                #expect(failures.first?.isOfSecurity == !isOurs)
            }
        }
    }

    @Test(arguments: ["454 4.7.0 not now", "501 no", "550 no", "502 no"])
    func refusedSTARTTLS(_ reply: String) {
        var opportunistic = Self.offered(.opportunistic)
        #expect(opportunistic.hear(reply + "\r\n") == [.ready])
        var required = Self.offered(.required)
        let outcome = Outcome(
            .temporary, Reply(451, EnhancedStatus(4, 7, 4), "the server refused STARTTLS: \(reply)"))
        guard case .failed(let failure)? = required.hear(reply + "\r\n").first, case .refused(let said)? = failure.fault
        else {
            Issue.record("not refused")
            return
        }
        #expect(failure == .init(outcome: outcome, isOfSecurity: true, fault: .refused(said)))
        #expect("\(said)" == reply)
    }

    /// 421 refuses STARTTLS as well, and ends the session.
    @Test(arguments: [SMTPClientMachine.Security.opportunistic, .required])
    func refusedSTARTTLSWith421(_ security: SMTPClientMachine.Security) {
        var dialog = Self.offered(security)
        guard case .failed(let failure)? = dialog.hear("421 4.3.2 no\r\n").first,
            case .refused(let said)? = failure.fault
        else {
            Issue.record("not refused")
            return
        }
        #expect("\(said)" == "421 4.3.2 no" && failure.outcome == remoteOutcome(421, "no", EnhancedStatus(4, 3, 2)))
        #expect(failure.isOfSecurity && failure.inClear != .now || security == .opportunistic)
    }

    @Test func notOffered() {
        var dialog = ClientDialog(.required)
        _ = dialog.hear("220 x\r\n")
        let outcome = Outcome(
            .temporary,
            Reply(451, EnhancedStatus(4, 7, 4), "TLS is required, and the server does not offer it"))
        #expect(
            dialog.hear("250 x\r\n") == [.failed(.init(outcome: outcome, isOfSecurity: true, fault: .notOffered))])
    }

    @Test(arguments: [SMTPClientMachine.Security.opportunistic, .required])
    func failedHandshake(_ security: SMTPClientMachine.Security) {
        for end in [SMTPClientMachine.End.closed, .timedOut, .tlsFailed("bad record"), .broken("reset")] {
            // In the handshake, and before the first word inside TLS.
            for isEstablished in [false, true] {
                var dialog = Self.offered(security)
                _ = dialog.hear("220 go\r\n")
                if isEstablished { dialog.machine.tlsEstablished(into: &dialog.out) }
                guard case .failed(let failure) = dialog.machine.ended(end) else {
                    Issue.record("not failed")
                    continue
                }
                #expect(failure.inClear == (security == .opportunistic ? .now : .no))
                #expect(failure.outcome.result == .temporary)
            }
        }
    }

    @Test func notInClearForOtherFaults() {
        var dialog = Self.offered(.opportunistic)
        _ = dialog.hear("220 go\r\n")
        dialog.machine.tlsEstablished(into: &dialog.out)
        _ = dialog.hear("500 what\r\n")
        guard case .failed(let failure) = dialog.machine.ended(.closed) else {
            Issue.record("not failed")
            return
        }
        #expect(failure.inClear == .no)
    }

    static let credentials = SASLClient.Credentials(username: "test", password: "test")

    static func inTLS(_ auth: String) -> ClientDialog {
        var dialog = offered(.required, credentials)
        _ = dialog.hear("220 go\r\n")
        dialog.machine.tlsEstablished(into: &dialog.out)
        _ = dialog.said()
        _ = dialog.hear(["x", auth].ehloReply)
        return dialog
    }

    @Test func authPlain() {
        var dialog = Self.inTLS("AUTH LOGIN PLAIN")
        #expect(dialog.said() == "AUTH PLAIN AHRlc3QAdGVzdA==\r\n")
        #expect(dialog.hear("235 2.7.0 ok\r\n") == [.ready])
    }

    @Test func authLogin() {
        var dialog = Self.inTLS("AUTH LOGIN")
        #expect(dialog.said() == "AUTH LOGIN\r\n")
        #expect(dialog.hear("334 VXNlcm5hbWU6\r\n") == [])
        #expect(dialog.said() == "dGVzdA==\r\n")
        #expect(dialog.hear("334 UGFzc3dvcmQ6\r\n") == [])
        #expect(dialog.said() == "dGVzdA==\r\n")
        #expect(dialog.hear("235 ok\r\n") == [.ready])
    }

    /// Whatever is wrong with AUTH is for the operator, and bounces nothing.
    @Test(arguments: ["535 5.7.8 wrong", "454 later", "504 what", "334 more"])
    func authRefused(_ reply: String) {
        var dialog = Self.inTLS("AUTH PLAIN")
        guard case .failed(let failure) = dialog.hear(reply + "\r\n").first else {
            Issue.record("not failed")
            return
        }
        #expect(failure.outcome.result == .temporary)
        #expect(failure.outcome.reply.effectiveStatus == EnhancedStatus(4, 7, 0))
        #expect(failure.outcome.reply.text.hasSuffix(reply))
        #expect(failure.isOfSecurity)
    }

    @Test func noPasswordInClear() {
        var dialog = ClientDialog(.opportunistic, credentials: Self.credentials)
        _ = dialog.hear("220 x\r\n")
        _ = dialog.said()
        guard case .failed(let failure) = dialog.hear(["x", "AUTH PLAIN"].ehloReply).first else {
            Issue.record("not failed")
            return
        }
        #expect(dialog.said() == "")
        #expect(failure.outcome.reply.text == "no authentication without TLS" && failure.isOfSecurity)
        // Nor may a failed handshake lead there.
        var other = Self.offered(.opportunistic, Self.credentials)
        _ = other.hear("220 go\r\n")
        guard case .failed(let handshake) = other.machine.ended(.tlsFailed("x")) else {
            Issue.record("not failed")
            return
        }
        #expect(handshake.inClear == .no)
    }

    /// Whom a report names, and why a session is in clear that would not have had to be.
    @Test func whatReportsWantToKnow() {
        for (greeting, name) in [
            ("220 mx.test ESMTP\r\n", "mx.test"), ("220 \r\n", nil), ("220 m\u{FC}\r\n", nil),
            ("220-one.test x\r\n220 two.test\r\n", "one.test"),
        ] as [(String, String?)] {
            var dialog = ClientDialog(.opportunistic)
            _ = dialog.hear(greeting)
            #expect(dialog.machine.serverName == name)
        }
        var clear = ClientDialog(.opportunistic)
        _ = clear.hear("220 x\r\n")
        _ = clear.hear(["x"].ehloReply)
        #expect(clear.machine.isReady && clear.machine.missingTLS == .notOffered)
        var refused = ClientDialog(.opportunistic)
        _ = refused.hear("220 x\r\n")
        _ = refused.hear(["x", "STARTTLS"].ehloReply)
        #expect(refused.hear("454 no\r\n") == [.ready])
        if case .refused? = refused.machine.missingTLS {} else { Issue.record("not refused") }
        var unwanted = ClientDialog(.none)
        _ = unwanted.hear("220 x\r\n")
        _ = unwanted.hear(["x"].ehloReply)
        #expect(unwanted.machine.isReady && unwanted.machine.missingTLS == nil)
    }
}
