// A server machine with a driver in memory: performs actions as SlimtaEdge's driver does, answers questions from a
// table, and writes down what happened. The machine's tests feed it.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaSMTP

/// A session, and what came of it so far as lines of text: "S: ..." what the server wrote, else its actions.
struct SMTPSession {
    /// The answers to the machine's questions.
    struct Answers {
        /// Logins with their passwords; "down" cannot be checked now.
        var passwords = ["u": "p", "ü": "pässwort"]
        var senders: [String] = []
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
    private(set) var question: SMTPServerMachine.Action?
    private(set) var closed: SMTPServerMachine.CloseReason?
    private(set) var isInHandshake = false
    private var output = ByteBuffer()
    private var content: ByteBuffer?

    /// - Parameter isTrusted: nil: as for a client on the loopback address.
    init(_ configuration: SMTPServerConfiguration = .test(), isTrusted: Bool? = nil) {
        machine = SMTPServerMachine(
            configuration, isTrusted: isTrusted ?? (configuration.authentication != .required))
        isInHandshake = configuration.tls == .immediate
        machine.connected(&output)
        flush()
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
        machine.tlsEstablished(.test, &output)
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
        machine.deadlinePassed(&output)
        run()
    }

    /// Answers the open question.
    mutating func answer() {
        guard let question else { return }
        self.question = nil
        answer(question)
        run()
    }

    private mutating func answer(_ question: SMTPServerMachine.Action) {
        switch question {
        case .checkPassword(let credentials):
            let password = String(decoding: credentials.password, as: UTF8.self)
            if credentials.login == "down" {
                machine.passwordChecked(.unavailable, &output)
            } else if answers.passwords[credentials.login] == password {
                machine.passwordChecked(.right(.init(login: credentials.login, senders: answers.senders)), &output)
            } else {
                machine.passwordChecked(.wrong, &output)
            }
        case .checkRoom: machine.roomChecked(answers.room, &output)
        case .endMessage: machine.messageStored(answers.stored, &output)
        case .wait, .pause, .startTLS, .content, .discardContent, .close: Issue.record("no question: \(question)")
        }
    }

    // MARK: Actions

    private mutating func run() {
        while closed == nil {
            let action = machine.next(&output)
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
            case .checkPassword(let credentials):
                ask(action, "password \(credentials.login):\(String(decoding: credentials.password, as: UTF8.self))")
            case .checkRoom(let size): ask(action, "room \(size.map { "\($0)" } ?? "-")")
            case .content(let octets):
                #expect(octets.readableBytes > 0)
                content = content ?? ByteBuffer()
                content?.writeImmutableBuffer(octets)
            case .discardContent:
                content = nil
                flush()
                transcript.append("discard")
            case .endMessage(let submission):
                let text = content.map { String(buffer: $0) } ?? ""
                content = nil
                ask(action, "message \(describe(submission)): \(text)")
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

    private mutating func ask(_ action: SMTPServerMachine.Action, _ text: String) {
        flush()
        transcript.append(text)
        if keepsQuestionsOpen { question = action } else { answer(action) }
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
        size: Int = 100_000, recipients: Int = 100, errors: Int = 1000, commands: Int = 100_000
    ) -> SMTPServerConfiguration {
        SMTPServerConfiguration(
            hostname: "mx.example.org", tls: tls, authentication: authentication,
            allowsPlaintextAuthentication: plaintext, messageSize: size, recipients: recipients, errors: errors,
            commands: commands)
    }
}

extension TLSDescription {
    static let test = TLSDescription(version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384")
}
