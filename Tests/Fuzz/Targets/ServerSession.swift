// The server's machine against a client that sends anything, and a driver that answers anything. What happens is written
// down, and then read by rules of RFC 5321 (and 3207, 4954) that know nothing of the machine.

import NIOCore
import SlimtaMail

@testable import SlimtaSMTP

extension FuzzTarget {
    /// A session: one reply to each command, content as it was sent, and 250 for what was stored.
    static let server = FuzzTarget(name: "server", maximumLength: 800) { octets in
        var whole = ServerSession(octets, cutsInput: false)
        try whole.run()
        var listener = Listener(whole)
        try listener.check(whole.events)
        var cut = ServerSession(octets, cutsInput: true)
        try cut.run()
        listener = Listener(cut)
        try listener.check(cut.events)
        // What is behind STARTTLS depends on when it comes.
        if !whole.isCutOff, !cut.isCutOff { try same(whole.summary, cut.summary, "input whole, and octet by octet") }
    }
}

/// What happened, in its order.
private enum Event: Equatable {
    case sent([UInt8])
    case reply(Int, String)
    case asked(SMTPServerMachine.Question)
    case answered(SMTPServerMachine.Answer)
    case content([UInt8])
    case discard
    case tls
    case established
    /// The machine has nothing to do, and waits for the client.
    case rest
    /// Ends a session without the client's doing: the deadline, a server that stops.
    case end
    case close
}

/// Drives a machine as an input says, and writes down what happens.
private struct ServerSession {
    private static let lines: [String] = [
        "EHLO c", "HELO c", "STARTTLS", "AUTH PLAIN AHUAcA==", "AUTH PLAIN", "AUTH LOGIN", "dQ==", "*", "=",
        "MAIL FROM:<a@x.org>", "MAIL FROM:<> SIZE=7", "MAIL FROM:<\u{E9}@x> SMTPUTF8 BODY=8BITMIME",
        "RCPT TO:<b@y.org>",
        "RCPT TO:<c@y.org>", "RCPT TO:<Postmaster>", "DATA", "text", "..", ".", ".x", "RSET", "NOOP", "QUIT", "VRFY x",
        "RCPT TO:<bad", "", "GET / HTTP/1.1", "FOO",
    ]
    private static let oddities: [[UInt8]] = [
        [10], [13], [0], [46, 10], [13, 46, 13, 10], [0x16, 3], [32], [13, 10, 46, 13, 10],
        [UInt8](repeating: 120, count: 2100), [UInt8](repeating: 65, count: 13_000),
        Array("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n".utf8),
        Array("Subject: x\r\n\r\nbody\r\n.\r\nMAIL FROM:<z@x.org>\r\n".utf8),
    ]

    /// Chunks as they should be, and as they should not.
    private static let chunks: [[UInt8]] = [
        "BDAT 6\r\nabcd\r\n", "BDAT 6 LAST\r\nefgh\r\n", "BDAT 0 LAST\r\n", "BDAT 0\r\n", "BDAT 3\r\n..\r",
        "bdat 3 last\r\n\nx\u{0}",
        "BDAT 6\r\nQUIT\r\n", "BDAT 4 LAST\r\n.\r\n.", "BDAT 2 LAST\r\n\u{E9}", "BDAT 12 LAST\r\nabcdefghij\r\n",
        "BDAT x\r\n",
        "BDAT 200000\r\n", "BDAT 9223372036854775807 LAST\r\n", "BDAT 5\r\nab",
    ].map { Array($0.utf8) }

    let configuration: SMTPServerConfiguration
    let isTrusted: Bool
    private(set) var events: [Event] = []
    /// Octets of the client came behind STARTTLS.
    private(set) var isCutOff = false
    private let cutsInput: Bool
    private var choices: Choices
    private var machine: SMTPServerMachine
    private var output = ByteBuffer()
    private var question: SMTPServerMachine.Question?
    private var isInHandshake: Bool
    private var isClosed = false
    private var isInputClosed = false

    init(_ octets: [UInt8], cutsInput: Bool) {
        self.cutsInput = cutsInput
        choices = Choices(octets)
        var configuration = SMTPServerConfiguration(
            hostname: "mx.example.org", tls: choices.one(of: [.startTLS, .none, .immediate]),
            authentication: choices.one(of: [.optional, .none, .required]),
            allowsPlaintextAuthentication: choices.flag(), messageSize: choices.one(of: [100_000, 10, 0]),
            recipients: choices.one(of: [100, 1, 2]), errors: choices.one(of: [100, 3]),
            commands: choices.one(of: [1000, 10]))
        let last = choices.octet()
        configuration.lenientPaths = last & 1 == 1
        if last & 0xE == 0xE { configuration.greeting = Reply(554, .init(5, 7, 1), "No") }
        if last & 0xE == 0xC { configuration.greeting = Reply(421, .init(4, 3, 2), "Away") }
        configuration.stages = SMTPStages(rawValue: choices.octet())
        self.configuration = configuration
        isTrusted = choices.number(below: 4) != 3
        machine = SMTPServerMachine(configuration, isTrusted: isTrusted)
        isInHandshake = configuration.tls == .immediate
    }

    /// Replies and closes, without what depends on how the octets came.
    var summary: [String] {
        events.compactMap { event in
            switch event {
            case .reply(let code, let text): "\(code) \(text)"
            case .asked(let question): "\(question)"
            case .tls, .close, .discard: "\(event)"
            case .sent, .answered, .content, .established, .rest, .end: nil
            }
        }
    }

    mutating func run() throws {
        machine.connected(into: &output)
        try perform()
        var steps = 0
        while !choices.isAtEnd, !isClosed, steps < 300 {
            steps += 1
            let choice = choices.octet()
            switch choice % 32 {
            case 0: try answer(kept: true)
            case 1:
                machine.drain()
                events.append(.end)
            case 2:
                if choices.number(below: 4) == 0 { closeInput() }
            case 3:
                if choices.number(below: 4) == 0 { deadline() }
            case 4: try send(choices.octets())
            case 5: try send(choices.one(of: Self.oddities))
            case 6:
                let count = choices.number(below: 6)
                try send((0...count).flatMap { _ in Array((choices.one(of: Self.lines) + "\r\n").utf8) })
            case 7, 8: try send(choices.one(of: Self.chunks))
            default: try send(Array((choices.one(of: Self.lines) + "\r\n").utf8))
            }
            try perform()
            if isInHandshake, choices.number(below: 4) != 3 { try establish() }
            // A driver answers, sooner or later.
            while question != nil, choices.number(below: 8) != 7 { try answer(kept: false) }
        }
        try hold(machine.unreadCapacity <= 1 << 17, "\(machine.unreadCapacity) octets for \(machine.unreadCount)")
    }

    private mutating func send(_ octets: [UInt8]) throws {
        // A driver stops reading when much is unread, and gives what comes in a handshake to TLS.
        guard !isInHandshake, !isInputClosed, !isClosed, machine.unreadCount < 20_000, !octets.isEmpty else { return }
        guard cutsInput, octets.count < 1000 else {
            events.append(.sent(octets))
            machine.received(ByteBuffer(bytes: octets))
            return
        }
        for octet in octets {
            guard !isInHandshake, !isClosed else { return isCutOff = true }
            events.append(.sent([octet]))
            machine.received(ByteBuffer(integer: octet))
            try perform()
        }
    }

    private mutating func closeInput() {
        isInputClosed = true
        machine.inputClosed()
        events.append(.end)
    }

    private mutating func deadline() {
        machine.deadlinePassed(into: &output)
        events.append(.end)
        (question, isInHandshake) = (nil, false)
    }

    private mutating func establish() throws {
        isInHandshake = false
        events.append(.established)
        machine.tlsEstablished(TLSDescription(version: "TLSv1.3", cipher: "x"), into: &output)
        try perform()
    }

    private mutating func answer(kept: Bool) throws {
        let answers: [SMTPServerMachine.Answer]
        switch question {
        case .authentication:
            answers = [
                .authentication(.right(.init(login: "u"))), .authentication(.wrong), .authentication(.unavailable),
                .authentication(.challenge([1, 2])), .authentication(.malformed), .authentication(.refused("No")),
                .goOn,
            ]
        case .end:
            answers = [
                .reply(Reply(250, .init(2, 6, 0), "Ok")), .reply(Reply(452, .init(4, 3, 1), "Full")),
                .reply(Reply(550, .init(5, 7, 1), "No")), .reply(Reply(421, .init(4, 3, 0), "Go")), .goOn,
                .reply(Reply(354, nil, "?")),
            ]
        case .connect, .hello, .startTLS, .login, .mail, .room, .recipient, .data, .message:
            answers = [
                .goOn, .goOn, .goOn, .goOn, .reply(Reply(450, .init(4, 7, 1), "Later")),
                .reply(Reply(550, .init(5, 7, 1), "No")), .reply(Reply(421, .init(4, 7, 0), "Go")),
                .authentication(.wrong),
                .reply(Reply(250, nil, "Yes")),
            ]
        case nil:
            // Nobody asked: nothing may come of it.
            guard kept else { return }
            let before = output.readableBytes
            machine.answered(.reply(Reply(250, .init(2, 0, 0), "Ok")), into: &output)
            try same(output.readableBytes, before, "an answer that nobody asked for is a reply")
            return
        }
        let answer = choices.one(of: answers)
        events.append(.answered(answer))
        question = nil
        machine.answered(answer, into: &output)
        try perform()
    }

    private mutating func perform() throws {
        for _ in 0..<60_000 {
            let action = machine.next(into: &output)
            try takeReplies()
            if question == .connect, case .close = action {
                // Nobody is kept waiting for a greeting that will not be.
                question = nil
            } else if question != nil || isInHandshake || isClosed {
                try same(action, .wait, "an action while an answer, TLS or nothing is waited for")
            }
            switch action {
            case .wait:
                guard question == nil, !isInHandshake, !isClosed else { return }
                try hold(machine.unreadCount < 12_288, "\(machine.unreadCount) octets are kept")
                events.append(.rest)
                return
            case .pause: break
            case .startTLS:
                events.append(.tls)
                isInHandshake = true
            case .ask(let asked):
                events.append(.asked(asked))
                question = asked
            case .content(let octets):
                try hold(octets.readableBytes > 0, "content of nothing")
                events.append(.content(Array(octets.readableBytesView)))
            case .discardContent: events.append(.discard)
            case .close:
                events.append(.close)
                isClosed = true
            }
        }
        throw Broken(description: "the machine does not come to rest")
    }

    private mutating func takeReplies() throws {
        let text = output.readString(length: output.readableBytes) ?? ""
        output.clear()
        guard !text.isEmpty else { return }
        try hold(!isInHandshake && !isClosed, "\(text) in clear in a handshake, or behind the end")
        var lines = text.split(separator: "\r\n", omittingEmptySubsequences: false)
        try hold(lines.removeLast().isEmpty, "half a reply: \(text)")
        var begun: Substring?
        for line in lines {
            try hold(line.utf8.allSatisfy { $0 >= 32 && $0 != 127 } && line.utf8.count <= 510, "the line \(line)")
            guard let code = Int(line.prefix(3)), (200...599).contains(code), line.utf8.count > 3 else {
                throw Broken(description: "\(line) is no reply")
            }
            if let begun { try same(begun, line.prefix(3), "the codes of one reply") }
            if line.dropFirst(3).first == "-" {
                begun = line.prefix(3)
            } else {
                begun = nil
                events.append(.reply(code, String(line.dropFirst(4))))
            }
        }
        try hold(begun == nil, "a reply has no last line: \(text)")
    }
}

/// Listens to both sides of a session with the ears of RFC 5321.
private struct Listener {
    private let session: ServerSession
    /// What the client has sent and no reply was to.
    private var pending: [UInt8] = []
    private var awaitsGreeting = true
    private var isEnding = false
    private var isEncrypted = false
    private var isLoggedIn = false
    private var mail: String?
    private var recipients: [String] = []
    /// Behind 354: the content so far; nil: commands.
    private var content: [UInt8]?
    private var isDiscarded = false
    /// Of a message that comes by BDAT: what its chunks had that were taken; nil: there are none.
    private var chunks: [UInt8]?
    /// Content of the chunk that is not answered yet.
    private var given: [UInt8] = []
    /// What the client says next is a response (RFC 4954).
    private var isInDialogue = false
    /// A chunk was answered before its octets had come: nothing is read behind that.
    private var mustEnd = false
    /// The last reply refused a message.
    private var wasRefused = false
    private var submission: SMTPServerMachine.Submission?
    private var stored: Int?
    private var lastQuestion: SMTPServerMachine.Question?
    private var isTLSAgreed = false

    init(_ session: ServerSession) { self.session = session }

    mutating func check(_ events: [Event]) throws {
        do {
            for event in events { try hear(event) }
        } catch let broken as Broken {
            let story = events.map { event -> String in
                if case .sent(let octets) = event { return "C " + String(decoding: octets.prefix(80), as: UTF8.self) }
                return "\(event)"
            }
            throw Broken(description: "\(broken): \(story)")
        }
    }

    private mutating func hear(_ event: Event) throws {
        switch event {
        case .sent(let octets): pending += octets
        case .reply(let code, let text): try hear(code, text)
        case .asked(let question): try hear(question)
        case .answered(let answer):
            if case .end = lastQuestion {
                stored = if case .reply(let reply) = answer, reply.code / 100 != 3 { Int(reply.code) } else { 451 }
            }
        case .content(let octets):
            if content == nil {
                try hold(mail != nil && !recipients.isEmpty && chunk != nil, "content without 354 or BDAT")
                given += octets
            } else {
                try hold(!isDiscarded, "content behind a refusal")
                content? += octets
            }
        case .discard:
            try hold(content != nil || wasRefused, "content is discarded where none is")
            wasRefused = false
            isDiscarded = true
        case .tls:
            try hold(isTLSAgreed && pending.isEmpty && !isEncrypted, "TLS begins with \(pending) unread")
        case .established:
            (isEncrypted, isLoggedIn, mail, recipients, pending, content) = (true, false, nil, [], [], nil)
            (chunks, given, isInDialogue) = (nil, [], false)
            awaitsGreeting = session.configuration.tls == .immediate
        case .rest:
            try hold(!awaitsGreeting, "no greeting")
            if content == nil {
                try hold(chunk.map { !$0.isWhole } ?? !pending.contains(10), "a command without a reply")
            } else {
                try hold(dataOfRFC5321(pending) == nil, "a message without a reply")
            }
        case .end: break
        case .close: isEnding = true
        }
    }

    private mutating func hear(_ question: SMTPServerMachine.Question) throws {
        lastQuestion = question
        switch question {
        case .authentication:
            let configuration = session.configuration
            try hold(configuration.authentication != .none, "AUTH where it is not offered")
            try hold(isEncrypted || configuration.allowsPlaintextAuthentication, "a password in clear")
        case .message(let asked), .end(let asked):
            try checkContent()
            try hold(
                mail.map { $0.contains("<\(asked.sender?.text ?? "")>") || $0.contains(asked.sender?.text ?? "") }
                    ?? false, "the sender \(mail ?? "")")
            try hold(!asked.recipients.isEmpty && asked.recipients.count <= recipients.count, "\(recipients)")
            for recipient in asked.recipients {
                let isAsked = recipients.contains { $0.contains(recipient.text) || $0.contains("Postmaster") }
                try hold(isAsked, "\(recipient) was not asked for")
            }
            try same(asked.tls != nil, isEncrypted, "whether it came in TLS")
            try same(asked.login != nil, isLoggedIn, "whether it came with a login")
            if case .end = question { submission = asked }
        case .connect, .hello, .startTLS, .login, .mail, .room, .recipient, .data: break
        }
    }

    private mutating func hear(_ code: Int, _ text: String) throws {
        try hold(!isEnding, "\(code) \(text) behind the last reply")
        if code == 421 {
            isEnding = true
            return
        }
        if awaitsGreeting {
            awaitsGreeting = false
            try hold(code == 220 || code >= 400, "\(code) as a greeting")
            return
        }
        if content != nil { return try hearFinal(code) }
        try hold(!mustEnd, "\(code) behind a chunk that was not read")
        guard let end = pending.firstIndex(of: 10) else { throw Broken(description: "\(code) \(text) to no command") }
        if let chunk { return try hear(code, to: chunk) }
        isInDialogue = code == 334
        let line = String(decoding: pending[..<end], as: UTF8.self)
        pending.removeFirst(end + 1)
        switch code {
        case 354:
            try hold(mail != nil && !recipients.isEmpty && line.uppercased().hasPrefix("DATA"), "354 to \(line)")
            try hold(chunks == nil, "DATA behind BDAT")
            (content, isDiscarded, stored, submission) = ([], false, nil, nil)
        case 221: isEnding = true
        case 235: isLoggedIn = true
        case 220:
            try hold(
                line.uppercased().hasPrefix("STARTTLS") && session.configuration.tls == .startTLS, "220 to \(line)")
            isTLSAgreed = true
        case 250: try hearYes(line.uppercased(), line)
        default: break
        }
    }

    /// BDAT, as RFC 3030 section 2 has it, at the beginning of what is pending.
    private struct Chunk {
        /// nil: its size is no number.
        var octets: [UInt8]?
        var isLast = false
        var isWhole = false
        /// Of the command and its octets.
        var length = 0
    }

    private var chunk: Chunk? {
        // A line of 2048 octets is too long, whatever it begins with.
        guard !isInDialogue, let end = pending.firstIndex(of: 10), end < 2048 else { return nil }
        let words = String(decoding: pending[..<end], as: UTF8.self).uppercased().split(whereSeparator: \.isWhitespace)
        guard words.first == "BDAT", !pending[..<end].contains(0) else { return nil }
        var chunk = Chunk(length: end + 1)
        guard words.count > 1, words.count < 4, words[1].allSatisfy({ "0123456789".contains($0) }),
            let size = Int(words[1]),
            words.count == 2 || words[2] == "LAST"
        else { return chunk }
        chunk.isLast = words.count == 3
        let rest = pending[(end + 1)...]
        chunk.isWhole = rest.count >= size
        let octets = Array(rest.prefix(size))
        chunk.octets = octets
        chunk.length += octets.count
        return chunk
    }

    private mutating func checkContent() throws {
        if let content {
            guard !isDiscarded, let read = dataOfRFC5321(pending) else {
                throw Broken(description: "no message to be stored")
            }
            try same(content, read.content, "the content and what was sent")
            return try hold(content.count <= session.configuration.messageSize, "a message that is too large")
        }
        guard let chunk, let octets = chunk.octets, chunk.isLast, chunk.isWhole else {
            throw Broken(description: "no chunk to end the message")
        }
        let sent = (chunks ?? []) + octets
        let isEnded = sent.isEmpty || sent.suffix(2) == [13, 10]
        try same((chunks ?? []) + given, sent + (isEnded ? [] : [13, 10]), "the content and what was sent in chunks")
        try hold(sent.count <= session.configuration.messageSize, "chunks that are too large")
        for (index, octet) in sent.enumerated() {
            let isBare =
                octet == 0 || octet == 10 && (index == 0 || sent[index - 1] != 13)
                || octet == 13 && (index + 1 == sent.count || sent[index + 1] != 10)
            try hold(!isBare, "a wrong line end in chunks")
        }
    }

    private mutating func hear(_ code: Int, to chunk: Chunk) throws {
        pending.removeFirst(chunk.length)
        if !chunk.isWhole { mustEnd = true }
        if code == 250, !chunk.isLast {
            try hold(chunk.isWhole && mail != nil && !recipients.isEmpty, "a chunk outside of a transaction")
            try same(given, chunk.octets ?? [], "the content and the chunk")
            (chunks, given) = ((chunks ?? []) + given, [])
            return
        }
        if let stored {
            try same(code, stored, "the storage's answer and the reply to the last chunk")
        } else {
            try hold(code >= 400, "\(code) for chunks that were not stored")
        }
        (mail, recipients, chunks, given, stored, wasRefused) = (nil, [], nil, [], nil, code >= 400)
    }

    private mutating func hearYes(_ verb: String, _ line: String) throws {
        if verb.hasPrefix("MAIL") {
            try hold(mail == nil, "a transaction within another")
            try hold(session.isTrusted || isLoggedIn, "a stranger may send")
            mail = line
        } else if verb.hasPrefix("RCPT") {
            try hold(mail != nil && chunks == nil, "RCPT without MAIL, or behind BDAT")
            recipients.append(line)
            try hold(recipients.count <= session.configuration.recipients, "\(recipients.count) recipients")
        } else if verb.hasPrefix("RSET") || verb.hasPrefix("EHLO") || verb.hasPrefix("HELO") {
            // What had come of a message is nothing any more.
            if chunks != nil { wasRefused = true }
            (mail, recipients, chunks, given) = (nil, [], nil, [])
        }
    }

    /// The reply to the message: yes for what the storage said yes to, and for nothing else.
    private mutating func hearFinal(_ code: Int) throws {
        defer { (content, mail, recipients, stored, wasRefused) = (nil, nil, [], nil, code >= 400) }
        if let stored {
            try same(code, stored, "the storage's answer and the reply")
        } else {
            try hold(code >= 400, "\(code) for a message that was not stored")
        }
        if let read = dataOfRFC5321(pending) {
            pending = read.rest
        } else {
            // Wrong line ends: where this message ends is nobody's to say, so nothing more is heard but 421.
            try hold(code >= 400, "\(code) for data without an end")
            pending = []
        }
    }
}
