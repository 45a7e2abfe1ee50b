// Random events in random states: whatever a client sends and whenever an event comes, the machine keeps its promises.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerRandomTests {
    @Test func anyEventInAnyState() {
        var seen = RandomSession.Seen()
        for seed in 0..<3000 as Range<UInt64> {
            var session = RandomSession(seed: seed, seen: seen)
            session.run()
            seen = session.seen
        }
        // The test went everywhere.
        #expect(seen.messages > 50 && seen.logins > 100 && seen.handshakes > 200 && seen.discards > 50, "\(seen)")
        #expect(
            seen.closed.isSuperset(of: [
                "quit", "timeout", "tooManyErrors", "tooManyCommands", "shutdown", "refused", "clientClosed",
                "lineEnds",
            ]), "\(seen)")
    }
}

/// One session of random events.
private struct RandomSession {
    struct Seen { var messages = 0, logins = 0, handshakes = 0, discards = 0, closed: Set<String> = [] }

    private static let lines: [[UInt8]] = [
        "EHLO c\r\n", "EHLO c\r\n", "HELO c\r\n", "STARTTLS\r\n", "AUTH PLAIN AHUAcA==\r\n", "AUTH PLAIN AHUAeA==\r\n",
        "AUTH PLAIN\r\n", "AUTH LOGIN\r\n", "dQ==\r\n", "*\r\n", "MAIL FROM:<a@x.org>\r\n", "MAIL FROM:<> SIZE=7\r\n",
        "MAIL FROM:<\u{E9}@x> SMTPUTF8 BODY=8BITMIME\r\n", "RCPT TO:<b@y.org>\r\n", "RCPT TO:<b@y.org>\r\n",
        "RCPT TO:<Postmaster>\r\n", "DATA\r\n", "DATA\r\n", "text\r\n", "..\r\n", ".\r\n", ".\r\n", "RSET\r\n",
        "NOOP\r\n",
        "MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nRCPT TO:<c@y.org>\r\nDATA\r\n",
    ].map { Array($0.utf8) }

    private static let oddities: [[UInt8]] = [
        "QUIT\r\n", "VRFY x\r\n", "HELP\r\n", "EXPN\r\n", "FOO\r\n", "RCPT TO:<bad\r\n", "EHLO\r\n", "AUTH\r\n", "MAI",
        "\r", "\n",
        "\0", ".\n", "\r.\r\n", "\u{16}\u{3}", " ", "\r\n",
    ].map { Array($0.utf8) }

    private(set) var seen: Seen
    private var generator: SeededGenerator
    private let configuration: SMTPServerConfiguration
    private var machine: SMTPServerMachine
    private var output = ByteBuffer()
    private var written = ByteBuffer()
    private var question: SMTPServerMachine.Action?
    private var isInHandshake: Bool
    private var isClosed = false
    private var isInputClosed = false

    init(seed: UInt64, seen: Seen) {
        var generator = SeededGenerator(seed: seed)
        configuration = .test(
            tls: [.startTLS, .immediate, .none].randomElement(using: &generator)!,
            authentication: [.required, .optional, .none].randomElement(using: &generator)!,
            plaintext: Bool.random(using: &generator), size: [0, 10, 100_000].randomElement(using: &generator)!,
            recipients: [1, 2, 100].randomElement(using: &generator)!,
            errors: [3, 20, 100].randomElement(using: &generator)!,
            commands: [10, 100, 1000].randomElement(using: &generator)!)
        // Mostly: who is neither trusted nor authenticated gets no further than MAIL.
        machine = SMTPServerMachine(configuration, isTrusted: Int.random(in: 0..<4, using: &generator) > 0)
        isInHandshake = configuration.tls == .immediate
        self.generator = generator
        self.seen = seen
        machine.connected(&output)
    }

    private mutating func one<Element>(of elements: [Element]) -> Element { elements.randomElement(using: &generator)! }
    private mutating func happens(_ number: Int, in all: Int) -> Bool {
        Int.random(in: 0..<all, using: &generator) < number
    }

    mutating func run() {
        for _ in 0..<Int.random(in: 5...120, using: &generator) where !isClosed {
            if isInHandshake, happens(1, in: 2) {
                machine.tlsEstablished(.test, &output)
                isInHandshake = false
                seen.handshakes += 1
            } else if happens(2, in: 3) {
                receive()
            } else if happens(1, in: 30) {
                machine.drain()
            } else if happens(1, in: 200) {
                machine.inputClosed()
                isInputClosed = true
            } else if happens(1, in: 60) {
                machine.deadlinePassed(&output)
                (question, isInHandshake) = (nil, false)
            } else {
                answer()
            }
            perform()
        }
        written.writeBuffer(&output)
        expectWellFormed(String(buffer: written))
    }

    private mutating func receive() {
        // A driver stops reading when much is unread, and gives what comes in a handshake to TLS.
        guard !isInHandshake, !isInputClosed, machine.unreadCount < 20_000 else { return }
        var octets: [UInt8] = []
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
            octets += one(of: happens(1, in: 12) ? Self.oddities : Self.lines)
        }
        if happens(1, in: 20) { octets = generator.octets(Int.random(in: 1...60, using: &generator)) }
        if happens(1, in: 60) { octets = [UInt8](repeating: UInt8(ascii: "x"), count: 13_000) }
        machine.received(ByteBuffer(bytes: octets))
    }

    /// Any answer; one to a question that is not open must do nothing.
    private mutating func answer() {
        let before = output.readableBytes
        let isExpected: Bool
        switch Int.random(in: 0..<3, using: &generator) {
        case 0:
            machine.passwordChecked(one(of: [.right(.init(login: "u")), .wrong, .unavailable]), &output)
            isExpected = if case .checkPassword = question { true } else { false }
        case 1:
            machine.roomChecked(one(of: [nil, nil, Reply(452, .init(4, 3, 1), "No room")]), &output)
            isExpected = if case .checkRoom = question { true } else { false }
        default:
            let replies = [
                Reply(250, .init(2, 6, 0), "Ok"), Reply(550, .init(5, 7, 1), "No"), Reply(421, .init(4, 3, 0), "Go"),
            ]
            machine.messageStored(one(of: replies), &output)
            isExpected = if case .endMessage = question { true } else { false }
        }
        #expect((output.readableBytes > before) == isExpected)
        if isExpected { question = nil }
    }

    private mutating func perform() {
        // No state gives more actions than there are octets.
        for _ in 0..<50_000 {
            let action = machine.next(&output)
            if question != nil || isInHandshake || isClosed {
                #expect(action == .wait, "no action while the machine waits for an answer, for TLS, or for nothing")
            }
            switch action {
            case .wait:
                if question == nil, !isInHandshake, !isClosed { #expect(machine.unreadCount < 12288) }
                return
            case .pause:
                #expect(question == nil && !isInHandshake)
                written.writeBuffer(&output)
            case .startTLS:
                #expect(configuration.tls == .startTLS && machine.unreadCount == 0)
                isInHandshake = true
            case .checkPassword(let credentials):
                #expect(!credentials.login.isEmpty && !credentials.password.isEmpty)
                #expect(configuration.authentication != .none)
                seen.logins += 1
                question = action
            case .checkRoom: question = action
            case .content(let octets): #expect(octets.readableBytes > 0)
            case .discardContent: seen.discards += 1
            case .endMessage(let submission):
                #expect(!submission.recipients.isEmpty && submission.recipients.count <= configuration.recipients)
                #expect(!submission.clientName.isEmpty)
                seen.messages += 1
                question = action
            case .close(let reason):
                isClosed = true
                seen.closed.insert("\(reason)")
            }
        }
        Issue.record("the machine does not come to rest")
    }
}
