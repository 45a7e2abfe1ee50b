// A server machine with a driver in memory: performs actions as SlimtaEdge's driver does, answers questions from a
// table, and writes down what happened. The machine's tests feed it.

import NIOCore
import SlimtaMail
import SlimtaSASL
import Testing

@testable import SlimtaSMTP

/// A session, and what came of it so far as lines of text: "S: ..." what the server wrote, else its actions.
struct SMTPSession {
    /// The answers to the machine's questions.
    struct Answers {
        /// Logins with their passwords; "down" cannot be checked now.
        var passwords = ["u": "p", "ü": "pässwort"]
        var senders: [String]?
        var room: Reply?
        var stored = Reply(250, .init(2, 6, 0), "Message queued as 0123")
    }

    var machine: SMTPServerMachine
    var answers = Answers()
    /// Whether a question stays open until ``answer()``.
    var keepsQuestionsOpen = false

    private(set) var transcript: [String] = []
    /// How often the machine asked to be asked again later.
    private(set) var turns = 0
    /// The most octets of replies that were written at once.
    private(set) var largestOutput = 0
    private(set) var question: SMTPServerMachine.Question?
    /// The exchange that goes on.
    private var exchange: SASLServer?
    /// What follows from its last step.
    private var result = SMTPServerMachine.AuthenticationResult.unavailable
    private(set) var closed: SMTPServerMachine.CloseReason?
    private(set) var isInHandshake = false
    private var output = ByteBuffer()
    private var content: ByteBuffer?

    /// - Parameter isTrusted: nil: as for a client on the loopback address.
    init(
        _ configuration: SMTPServerConfiguration = .test(), isTrusted: Bool? = nil, keepsQuestionsOpen: Bool = false
    ) {
        self.keepsQuestionsOpen = keepsQuestionsOpen
        machine = SMTPServerMachine(
            configuration, isTrusted: isTrusted ?? (configuration.authentication != .required))
        isInHandshake = configuration.tls == .immediate
        machine.connected(into: &output)
        run()
    }

    /// What was written and done since the last call.
    mutating func taken() -> [String] {
        defer { transcript = [] }
        return transcript
    }

    // MARK: Events

    mutating func send(_ text: String) { send(ByteBuffer(string: text)) }

    mutating func send(_ octets: ByteBuffer) {
        guard closed == nil else { return }
        machine.received(octets)
        run()
    }

    mutating func establishTLS() {
        isInHandshake = false
        machine.tlsEstablished(.test, into: &output)
        run()
    }

    mutating func drain() {
        machine.drain()
        run()
    }

    mutating func closeInput() {
        machine.inputClosed()
        run()
    }

    mutating func deadlinePassed() {
        machine.deadlinePassed(into: &output)
        run()
    }

    /// Answers the open question.
    mutating func answer() {
        guard let question else { return }
        self.question = nil
        answer(question)
        run()
    }

    /// Answers the open question with this.
    mutating func answer(with answer: SMTPServerMachine.Answer) {
        question = nil
        machine.answered(answer, into: &output)
        run()
    }

    private mutating func answer(_ question: SMTPServerMachine.Question) {
        machine.answered(answer(to: question), into: &output)
    }

    private func answer(to question: SMTPServerMachine.Question) -> SMTPServerMachine.Answer {
        switch question {
        case .authentication: return .authentication(result)
        case .room: return answers.room.map { .reply($0) } ?? .goOn
        case .end: return .reply(answers.stored)
        case .connect, .hello, .startTLS, .login, .mail, .recipient, .data, .message: return .goOn
        }
    }

    /// As SlimtaEdge's dialogue does, with the passwords that the session has.
    private mutating func answer(
        to step: SMTPServerMachine.AuthenticationStep
    ) -> SMTPServerMachine.AuthenticationResult {
        let next: SASLStep
        switch step {
        case .begin(let mechanism, let response, _):
            let context = SASLContext(listed: [], inventing: SecretOctets([1]), hostname: "mx.example.org")
            var begun = SASLServer.begin(mechanism, context: context)
            next = begun.received(response.map { Array($0) })
            exchange = begun
        case .response(let response): next = exchange?.received(Array(response)) ?? .unavailable
        case .cancelled: return .malformed
        }
        switch next {
        case .challenge(let challenge): return .challenge(challenge)
        case .malformed: return .malformed
        case .refused: return .wrong
        case .success, .unavailable: return .unavailable
        case .ask(let question):
            guard case .password(let credentials) = question else { return .unavailable }
            let password = String(decoding: credentials.password, as: UTF8.self)
            transcript.append("password \(credentials.login):\(password)")
            if credentials.login == "down" { return .unavailable }
            guard answers.passwords[credentials.login] == password else { return .wrong }
            return .right(.init(login: credentials.login, senders: answers.senders))
        }
    }

    // MARK: Actions

    private mutating func run() {
        while closed == nil {
            let action = machine.next(into: &output)
            switch action {
            case .wait:
                flush()
                return
            case .pause:
                turns += 1
                flush()
            case .startTLS:
                flush()
                transcript.append("TLS")
                isInHandshake = true
            case .ask(let question): ask(question)
            case .content(let octets):
                #expect(octets.readableBytes > 0)
                content = content ?? ByteBuffer()
                content?.writeImmutableBuffer(octets)
            case .discardContent:
                content = nil
                flush()
                transcript.append("discard")
            case .close(let reason):
                flush()
                transcript.append("close \(reason)")
                closed = reason
            }
            if question != nil {
                flush()
                return
            }
        }
    }

    private mutating func ask(_ question: SMTPServerMachine.Question) {
        flush()
        switch question {
        case .authentication(let step): result = answer(to: step)
        case .room(let mail): transcript.append("room \(mail.size.map { "\($0)" } ?? "-")")
        case .end(let submission):
            transcript.append("message \(describe(submission)): \(content.map { String(buffer: $0) } ?? "")")
            content = nil
        case .connect: transcript.append("connect?")
        case .hello(let name, let isExtended): transcript.append("hello? \(name) \(isExtended)")
        case .startTLS: transcript.append("starttls?")
        case .login(let user): transcript.append("login? \(user.login)")
        case .mail(let mail): transcript.append("mail? <\(mail.sender?.text ?? "")>")
        case .recipient(let recipient, let name): transcript.append("recipient? \(recipient) \(name)")
        case .data: transcript.append("data?")
        case .message(let submission): transcript.append("message? \(describe(submission))")
        }
        if keepsQuestionsOpen { self.question = question } else { answer(question) }
    }

    private func describe(_ submission: SMTPServerMachine.Submission) -> String {
        var words = ["<\(submission.sender?.text ?? "")>"] + submission.recipients.map { "<\($0)>" }
        words += [submission.clientName, submission.protocolWord]
        if submission.body == .eightBitMIME { words.append("8bit") }
        if submission.smtpUTF8 { words.append("utf8") }
        if let login = submission.login { words.append("login=\(login)") }
        if submission.tls != nil { words.append("tls") }
        return words.joined(separator: " ")
    }

    private mutating func flush() {
        largestOutput = max(largestOutput, output.readableBytes)
        let text = output.readString(length: output.readableBytes) ?? ""
        output.clear()
        expectWellFormed(text)
        // In "\r\n" Swift sees one character.
        transcript += text.split(separator: "\r\n", omittingEmptySubsequences: true).map { "S: " + $0 }
    }
}

/// Replies as RFC 5321 section 4.2 and RFC 2034 section 4 want them, whole and nothing else.
func expectWellFormed(_ output: String) {
    guard !output.isEmpty else { return }
    #expect(output.hasSuffix("\r\n"))
    var continued: Substring?
    for line in output.split(separator: "\r\n", omittingEmptySubsequences: false).dropLast() {
        let octets = Array(line.utf8)
        #expect(octets.count <= 510)
        #expect(!octets.contains { $0 < 32 || $0 == 127 })
        guard octets.count >= 4, let code = Int(line.prefix(3)), (200...599).contains(code) else {
            Issue.record("no reply: \(line)")
            return
        }
        #expect(octets[3] == 32 || octets[3] == 45)
        // The status has the class of the code; greetings, EHLO, HELO and 3xx have none.
        let hasStatus = EnhancedStatus(prefixOf: line.dropFirst(4)).map { Int($0.statusClass) == code / 100 }
        let mayLack = code / 100 == 3 || code == 220 || code == 250
        #expect(hasStatus ?? mayLack, "\(line)")
        if let continued { #expect(continued == line.prefix(3), "one code in all lines") }
        continued = octets[3] == 45 ? line.prefix(3) : nil
    }
    #expect(continued == nil, "the last line was there")
}

extension SMTPServerConfiguration {
    static func test(
        tls: TLSMode = .startTLS, authentication: Authentication = .required, plaintext: Bool = false,
        size: Int = 100_000, recipients: Int = 100, errors: Int = 1000, commands: Int = 100_000,
        stages: SMTPStages = []
    ) -> SMTPServerConfiguration {
        var configuration = SMTPServerConfiguration(
            hostname: "mx.example.org", tls: tls, authentication: authentication,
            allowsPlaintextAuthentication: plaintext, messageSize: size, recipients: recipients, errors: errors,
            commands: commands)
        configuration.stages = stages
        return configuration
    }
}

extension TLSDescription {
    static let test = TLSDescription(version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384")
}
