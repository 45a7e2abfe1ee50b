// Random events in random states: whatever a client sends and whenever an event comes, the machine keeps its promises.

import NIOCore
import SlimtaMail
import SlimtaSASL
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerRandomTests {
    @Test func anyEventInAnyState() {
        var seen = RandomSession.Seen()
        for seed in 0..<10_000 as Range<UInt64> {
            var session = RandomSession(seed: seed, seen: seen)
            session.run()
            seen = session.seen
        }
        // The test went everywhere.
        #expect(seen.messages > 50 && seen.logins > 100 && seen.handshakes > 200 && seen.discards > 50, "\(seen)")
        #expect(seen.stages.rawValue == 255 && seen.refusedMessages > 2, "\(seen)")
        #expect(
            seen.closed.isSuperset(of: [
                "quit", "timeout", "tooManyErrors", "tooManyCommands", "shutdown", "refused", "clientClosed",
                "lineEnds",
            ]), "\(seen)")
    }
}

/// One session of random events.
private struct RandomSession {
    struct Seen {
        var messages = 0, refusedMessages = 0, stages = SMTPStages(), logins = 0, handshakes = 0, discards = 0,
            closed: Set<String> = []
    }

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
    private var question: SMTPServerMachine.Question?
    /// Whether content may come: from 354 on, and not behind a refusal.
    private var mayHaveContent = false
    /// Octets of the client that can end a command.
    private var lineEnds = 0
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
            commands: [10, 100, 1000].randomElement(using: &generator)!,
            stages: SMTPStages(rawValue: Bool.random(using: &generator) ? .random(in: 0...255, using: &generator) : 0))
        // Mostly: who is neither trusted nor authenticated gets no further than MAIL.
        machine = SMTPServerMachine(configuration, isTrusted: Int.random(in: 0..<4, using: &generator) > 0)
        isInHandshake = configuration.tls == .immediate
        self.generator = generator
        self.seen = seen
        machine.connected(into: &output)
        perform()
    }

    private mutating func one<Element>(of elements: [Element]) -> Element { elements.randomElement(using: &generator)! }
    private mutating func happens(_ number: Int, in all: Int) -> Bool {
        Int.random(in: 0..<all, using: &generator) < number
    }

    mutating func run() {
        for _ in 0..<Int.random(in: 5...120, using: &generator) where !isClosed {
            if isInHandshake, happens(1, in: 2) {
                machine.tlsEstablished(.test, into: &output)
                isInHandshake = false
                seen.handshakes += 1
            } else if question != nil, happens(1, in: 3) {
                answer()
            } else if happens(2, in: 3) {
                receive()
            } else if happens(1, in: 30) {
                machine.drain()
            } else if happens(1, in: 200) {
                machine.inputClosed()
                isInputClosed = true
            } else if happens(1, in: 60) {
                machine.deadlinePassed(into: &output)
                (question, isInHandshake) = (nil, false)
            } else {
                answer()
            }
            perform()
        }
        write()
        let text = String(buffer: written)
        expectWellFormed(text)
        // Never a reply without a command: but for the greeting, and for the 421 that ends the session.
        let replies = text.split(separator: "\r\n").count { $0.utf8.dropFirst(3).first == UInt8(ascii: " ") }
        #expect(replies <= lineEnds + 2)
    }

    private mutating func write() {
        guard output.readableBytes > 0 else { return }
        if String(buffer: output).contains("354 ") { mayHaveContent = true }
        written.writeBuffer(&output)
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
        lineEnds += octets.count { $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\n") || $0 == 0 }
        machine.received(ByteBuffer(bytes: octets))
    }

    /// Any answer to any question; to none it does nothing. Never more than one reply, and the 421 behind one too many.
    private mutating func answer() {
        write()
        let isOpen = question != nil
        let answer: SMTPServerMachine.Answer =
            switch (Int.random(in: 0..<10, using: &generator), question) {
            case (0...3, .authentication), (6, _): .authentication(.right(.init(login: "u")))
            case (4...5, .authentication): .authentication(.challenge([1]))
            case (0...5, .end), (7, _): .reply(Reply(250, .init(2, 6, 0), "Ok"))
            case (0...5, _): .goOn
            case (8, _): .reply(one(of: [Reply(550, .init(5, 7, 1), "No"), Reply(421, .init(4, 3, 0), "Go")]))
            default:
                one(of: [
                    .authentication(.wrong), .authentication(.unavailable), .authentication(.undecided),
                    .authentication(.turnedAway), .authentication(.malformed),
                    .authentication(.refused("No")), .reply(Reply(452, .init(4, 3, 1), "No")),
                ])
            }
        machine.answered(answer, into: &output)
        let codes = String(buffer: output).split(separator: "\r\n").filter { $0.utf8.dropFirst(3).first == 32 }
        #expect(isOpen || codes.isEmpty)
        #expect(codes.count <= (codes.last?.hasPrefix("421") == true ? 2 : 1))
        // Who was not told to go on is refused.
        switch (question, answer) {
        case (nil, _), (_, .goOn), (.authentication, .authentication), (.end, .reply): break
        case (.some(let question), _):
            let first = codes.first?.first
            #expect(first == "4" || first == "5", "\(question) \(answer)")
            mayHaveContent = false
            if case .message = question { seen.refusedMessages += 1 }
        }
        question = nil
    }

    private mutating func perform() {
        // No state gives more actions than there are octets.
        for _ in 0..<50_000 {
            let action = machine.next(into: &output)
            write()
            if question == .connect, case .close(let reason) = action {
                // Who waits for a greeting is not kept by a server that stops, nor by a question about who is gone.
                #expect(reason == .shutdown || reason == .clientClosed && isInputClosed)
                question = nil
            } else if question != nil || isInHandshake || isClosed {
                #expect(action == .wait, "no action while the machine waits for an answer, for TLS, or for nothing")
            }
            switch action {
            case .wait:
                if question == nil, !isInHandshake, !isClosed { #expect(machine.unreadCount < 12288) }
                return
            case .pause:
                #expect(question == nil && !isInHandshake)
                write()
            case .startTLS:
                #expect(configuration.tls == .startTLS && machine.unreadCount == 0)
                isInHandshake = true
            case .ask(let question):
                self.question = question
                ask(question)
            case .content(let octets): #expect(octets.readableBytes > 0 && mayHaveContent)
            case .discardContent:
                seen.discards += 1
                mayHaveContent = false
            case .close(let reason):
                isClosed = true
                seen.closed.insert("\(reason)")
            }
        }
        Issue.record("the machine does not come to rest")
    }

    private mutating func ask(_ question: SMTPServerMachine.Question) {
        if let stage = question.stage {
            #expect(configuration.stages.contains(stage))
            seen.stages.insert(stage)
        }
        switch question {
        case .authentication(let step):
            #expect(configuration.authentication != .none && machine.session.login == nil)
            if case .begin(let mechanism, _, let listed) = step {
                #expect(listed.contains(mechanism))
                seen.logins += 1
            }
        case .message(let submission), .end(let submission):
            #expect(!submission.recipients.isEmpty && submission.recipients.count <= configuration.recipients)
            #expect(!submission.clientName.isEmpty && mayHaveContent)
            if case .end = question {
                seen.messages += 1
                mayHaveContent = false
            }
        case .recipient, .data: #expect(machine.session.mail != nil)
        case .mail, .room: #expect(machine.session.mail == nil && machine.session.clientName != nil)
        case .startTLS: #expect(configuration.tls == .startTLS && machine.session.tls == nil)
        case .connect, .hello, .login: break
        }
    }
}
