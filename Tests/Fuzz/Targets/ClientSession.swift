// The client's machine against a server that says anything, in any order. What is checked is what RFC 5321 asks of a client,
// kept by an account of our own of what was said on both sides.

import NIOCore
import SlimtaMail
import SlimtaSASL

@testable import SlimtaSMTP

extension FuzzTarget {
    /// A session: the right commands in their order, an end, and one true outcome for each recipient.
    static let client = FuzzTarget(name: "client", maximumLength: 600) { try ClientSession.runTwice($0, .smtp) }
    /// The same in LMTP.
    static let lmtp = FuzzTarget(name: "lmtp", maximumLength: 600) { try ClientSession.runTwice($0, .lmtp) }
}

extension ClientSession {
    fileprivate static func runTwice(_ octets: [UInt8], _ dialect: SMTPDialect) throws {
        var whole = ClientSession(octets, dialect, cutsReplies: false)
        try whole.run()
        var cut = ClientSession(octets, dialect, cutsReplies: true)
        try cut.run()
        // Half a reply takes the next one in.
        if !whole.isDisordered, !cut.isDisordered {
            try same(whole.transcript, cut.transcript, "replies whole, and octet by octet")
        }
    }
}

/// A session whose server, driver and transactions an input makes up.
private struct ClientSession {
    /// What the client has said and not been answered for.
    private enum Said: Equatable {
        case ehlo, helo, startTLS, auth, mail, rcpt(Int), data, content([Int]), emptyContent, rset, quit
    }

    private static let replies = [
        "220 mx.example.org", "250 Ok", "250 Ok", "250 Ok", "354 Go on", "550 5.1.1 No", "450 4.2.0 Later",
        "421 4.3.2 Bye",
        "452 4.5.3 Too many", "552 Too many", "334 VXNlcm5hbWU6", "235 2.7.0 Yes", "535 5.7.8 No", "251 Forwarded",
        "250-mx\r\n250-PIPELINING\r\n250-SIZE 100000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN",
        "250-mx\r\n250-STARTTLS\r\n250 AUTH LOGIN", "250-mx\r\n250-SIZE 5\r\n250 AUTH PLAIN",
        "250-mx\r\n250 PIPELINING", "503 5.5.1 Order",
    ]

    private let dialect: SMTPDialect
    private let cutsReplies: Bool
    private var choices: Choices
    private var machine: SMTPClientMachine
    private let hasPassword: Bool
    private var out = ByteBuffer()
    private(set) var transcript: [String] = []

    // What RFC 5321 says that the sides know of each other.
    private var awaitsGreeting = true
    private var outstanding: [Said] = []
    private var isEncrypted = false
    private var isHandshake = false
    private var hasHello = false
    private var mayHELO = false
    private var awaitsResponse = false
    private var pipelining = false
    /// The server has said what nobody asked for or no reply: whose reply is whose is open from then on.
    private(set) var isDisordered = false
    private var isOver = false
    private var isReady = false

    // The transaction under way.
    private var transaction: SMTPTransaction?
    private var asked: [Int] = []
    private var accepted: Set<Int> = []
    private var isMailAsked = false
    private var isMailAccepted = false
    private var isDataAllowed = false
    private var isContentSent = false
    /// What was said of the message, by recipient.
    private var finalCodes: [Int: UInt16] = [:]
    private var codes: Set<UInt16> = []

    init(_ octets: [UInt8], _ dialect: SMTPDialect, cutsReplies: Bool) {
        self.dialect = dialect
        self.cutsReplies = cutsReplies
        choices = Choices(octets)
        hasPassword = choices.number(below: 4) == 1
        machine = SMTPClientMachine(
            .init(
                name: "client.example.org", dialect: dialect,
                security: choices.one(of: [.none, .opportunistic, .required]),
                mayGoInClear: choices.flag(),
                credentials: hasPassword ? .init(username: "user", password: "secret") : nil))
    }

    mutating func run() throws {
        var steps = 0
        while !choices.isAtEnd, !isOver, steps < 200 {
            steps += 1
            switch choices.number(below: 16) {
            case 0: try end()
            case 1: try contentEnds(isWhole: false)
            case 2, 3: try contentEnds(isWhole: true)
            case 4: try hear(choices.octets().prefix(40) + [], isReply: false)
            case 5:
                try hear(
                    Array("250-".utf8) + [UInt8](repeating: 120, count: 2100) + Array("\r\n250 x\r\n".utf8),
                    isReply: false)
            case 6:
                // Several at once: to commands that were sent at once.
                let count = choices.number(below: 5)
                try hear((0...count).map { _ in choices.one(of: Self.replies) })
            case 7 where isHandshake: try handshake()
            default: try hear([choices.one(of: Self.replies)])
            }
            if isHandshake, !isOver, choices.flag() { try handshake() }
        }
        // Whatever is left ends with the connection.
        if !isOver { try perform(machine.ended(.closed)) }
        if !isOver { try perform(machine.ended(.cancelled)) }
        try hold(isOver, "a session has no end: \(transcript)")
        try hold(transaction == nil, "recipients without an outcome: \(transcript)")
        machine.received(ByteBuffer(string: "250 Ok\r\n"))
        try same(machine.next(into: &out), .wait, "behind the end")
        try same(out.readableBytes, 0, "octets behind the end")
    }

    // MARK: Events

    private mutating func hear(_ replies: [String]) throws {
        // More than were asked for: nobody can say what the rest is about.
        if replies.count > max(1, outstanding.count) { isDisordered = true }
        for reply in replies { account(for: UInt16(reply.prefix(3)) ?? 0, reply) }
        try hear(Array(replies.map { $0 + "\r\n" }.joined().utf8), isReply: true, isCut: replies.count == 1)
    }

    private mutating func hear(_ octets: [UInt8], isReply: Bool, isCut: Bool = false) throws {
        // What no reply was made of may have been any.
        if !isReply { (isDisordered, awaitsGreeting) = (true, false) }
        transcript.append("S: " + String(decoding: octets.prefix(60), as: UTF8.self))
        // Octets in a handshake are TLS's, and those behind a TLS that failed are nobody's.
        guard !isHandshake else { return }
        if cutsReplies, isCut {
            for octet in octets where !isOver { try hear(ByteBuffer(integer: octet)) }
        } else {
            try hear(ByteBuffer(bytes: octets))
        }
    }

    private mutating func hear(_ octets: ByteBuffer) throws {
        machine.received(octets)
        for _ in 0..<1000 {
            let action = machine.next(into: &out)
            try perform(action)
            if action == .wait || isOver || isHandshake { return }
        }
        throw Broken(description: "the machine does not come to rest: \(transcript)")
    }

    private mutating func handshake() throws {
        isHandshake = false
        isEncrypted = true
        // What was said before does not count.
        (hasHello, pipelining, mayHELO) = (false, false, false)
        if isDisordered { outstanding = [] }
        machine.tlsEstablished(into: &out)
        try takeSaid()
        try same(outstanding, [.ehlo], "what is said first inside TLS")
    }

    private mutating func contentEnds(isWhole: Bool) throws {
        guard machine.waitsFor.kind == .content else { return }
        if isWhole {
            machine.contentSent()
            // RFC 2033 section 4.2: one reply for each who was accepted, in the order of RCPT.
            let all = accepted.sorted()
            outstanding += dialect == .lmtp ? all.map { .content([$0]) } : [.content(all)]
            isContentSent = true
        } else {
            try perform(machine.contentFailed(Outcome(.permanent, Reply(554, nil, "no")), .message))
        }
    }

    private mutating func end() throws {
        let ends: [SMTPClientMachine.End] = [.closed, .broken("reset"), .timedOut, .tlsFailed("no"), .cancelled]
        let end = choices.one(of: ends)
        transcript.append("\(end)")
        try perform(machine.ended(end))
        isHandshake = isHandshake && !isOver
    }

    // MARK: The account

    private mutating func account(for code: UInt16, _ reply: String) {
        codes.insert(code)
        if awaitsGreeting {
            awaitsGreeting = false
            return
        }
        guard !outstanding.isEmpty else { return isDisordered = true }
        let isPositive = code / 100 == 2
        let said = outstanding.removeFirst()
        switch said {
        case .ehlo:
            mayHELO = code / 100 == 5
            hasHello = isPositive
            pipelining = isPositive && reply.contains("PIPELINING")
        case .helo: hasHello = isPositive
        case .auth: awaitsResponse = code == 334
        case .mail: isMailAccepted = isPositive
        // Who refuses MAIL has no transaction, whatever else it says.
        case .rcpt(let index): if isPositive, isMailAccepted { accepted.insert(index) }
        case .data: isDataAllowed = code == 354
        case .content(let recipients): for index in recipients { finalCodes[index] = code }
        case .startTLS, .emptyContent, .rset, .quit: break
        }
    }

    private mutating func takeSaid() throws {
        let octets = Array(out.readableBytesView)
        out.clear()
        guard !octets.isEmpty else { return }
        try hold(!isOver && !isHandshake, "octets in clear in a handshake, or behind the end")
        try hold(!awaitsGreeting, "the client speaks first")
        try hold(octets.suffix(2).elementsEqual([13, 10]), "half a command")
        let text = String(decoding: octets, as: UTF8.self)
        for line in text.dropLast().split(separator: "\r\n", omittingEmptySubsequences: false) {
            try hold(line.utf8.allSatisfy { $0 >= 32 && $0 != 127 }, "a control character in \(line)")
            try hold(hasPassword || !line.hasPrefix("AUTH"), "AUTH without a password")
            transcript.append("C: \(line)")
            let said = try command(String(line))
            if !isDisordered { try checkOrder(said) }
            outstanding.append(said)
        }
        // RFC 2920: without PIPELINING each command waits for the reply to the one before.
        if !isDisordered, !pipelining { try hold(outstanding.count <= 1, "\(outstanding) at once: \(transcript)") }
    }

    private mutating func command(_ line: String) throws -> Said {
        if awaitsResponse {
            awaitsResponse = false
            try hold(isEncrypted, "a password in clear")
            return .auth
        }
        let words = line.split(separator: " ")
        switch words.first {
        case "EHLO" where dialect == .smtp: return .ehlo
        case "LHLO" where dialect == .lmtp: return .ehlo
        case "HELO": return .helo
        case "STARTTLS": return .startTLS
        case "AUTH":
            try hold(isEncrypted, "a password in clear")
            return .auth
        case "MAIL": return .mail
        case "RCPT":
            let next = transaction?.recipients.indices.first { index in
                !asked.contains(index) && line == "RCPT TO:<\(transaction?.recipients[index].text ?? "")>"
            }
            guard let next else { throw Broken(description: "\(line) names nobody: \(transcript)") }
            return .rcpt(next)
        case "DATA": return .data
        case "RSET": return .rset
        case "QUIT": return .quit
        case ".": return .emptyContent
        default:
            // An AUTH exchange of a server that is out of order.
            guard isDisordered, isEncrypted, hasPassword else { throw Broken(description: "\(line): \(transcript)") }
            return .auth
        }
    }

    /// RFC 5321 section 4.1.4, RFC 3207 section 4, RFC 4954 section 4.
    private mutating func checkOrder(_ said: Said) throws {
        func fits(_ condition: Bool) throws { try hold(condition, "\(said) out of order: \(transcript)") }
        switch said {
        case .ehlo: try fits(!hasHello && transaction == nil)
        case .helo: try fits(mayHELO && !hasHello && dialect == .smtp)
        case .startTLS: try fits(hasHello && !isEncrypted && transaction == nil)
        case .auth: try fits(hasHello && transaction == nil)
        case .mail:
            try fits(hasHello && transaction != nil && !isMailAsked)
            isMailAsked = true
        case .rcpt(let index):
            try fits(isMailAsked && !asked.contains(index) && (asked.last ?? -1) < index)
            asked.append(index)
        case .data: try fits(!asked.isEmpty && (pipelining || !accepted.isEmpty))
        case .emptyContent: try fits(isDataAllowed && accepted.isEmpty)
        case .rset: try fits(isMailAsked && !isContentSent)
        case .content, .quit: break
        }
    }

    // MARK: Actions

    private mutating func perform(_ action: SMTPClientMachine.Action) throws {
        try takeSaid()
        switch action {
        case .wait: break
        case .startTLS:
            try hold(!isEncrypted && transaction == nil && !isOver, "TLS is begun twice")
            try hold(isDisordered || outstanding.isEmpty, "TLS is begun with \(outstanding) open")
            isHandshake = true
            transcript.append("TLS")
        case .compute:
            guard var computation = machine.computation else { throw Broken(description: "nothing to compute") }
            computation.run()
            try perform(machine.computed(computation, into: &out))
        case .ready:
            try hold(transaction == nil && !isOver, "ready in a transaction")
            try begin()
        case .sendContent:
            try hold(transaction != nil && !isContentSent, "content without a transaction")
            if !isDisordered { try hold(isDataAllowed && !accepted.isEmpty, "content for nobody: \(transcript)") }
            transcript.append("content")
        case .settled(let index, let outcome):
            try hold(transaction != nil && isContentSent && dialect == .lmtp, "a reply of its own: \(transcript)")
            transcript.append("settled \(index) \(outcome.reply.code)")
            if !isDisordered { try same(finalCodes[index], outcome.reply.code, "whose reply: \(transcript)") }
        case .finished(let outcomes, let isReusable):
            try finish(outcomes, isReusable ? "finished" : "finished, close")
            if isReusable { try begin() } else { isOver = true }
        case .stale(let outcomes):
            try hold(!isContentSent, "stale with content sent")
            try finish(outcomes, "stale")
            isOver = true
        case .failed(let failure):
            try hold(transaction == nil && !isOver && failure.outcome.result != .delivered, "\(failure)")
            try hold(failure.inClear == .no || !hasPassword, "in clear with a password")
            transcript.append("failed \(failure.outcome.reply)")
            isOver = true
        case .close:
            try hold(transaction == nil && !isOver, "a transaction is forgotten: \(transcript)")
            transcript.append("close")
            isOver = true
        }
    }

    private mutating func begin() throws {
        // What came with the last reply may have ended the session since.
        guard machine.isReady else { return }
        if choices.number(below: 8) == 7 {
            try perform(machine.quit(into: &out))
            return
        }
        let recipients = (0...choices.number(below: 4)).map { _ in
            Mailbox(
                localPart: choices.one(of: ["a", "b", "\u{FC}", "x\r\nRSET", "\"q q\""]),
                domain: choices.one(of: ["example.org", "m\u{FC}nchen.de"]))
        }
        let new = SMTPTransaction(
            sender: choices.flag() ? nil : Mailbox(localPart: choices.one(of: ["s", "s\n"]), domain: "example.net"),
            recipients: recipients, size: choices.one(of: [3, 1000, 200_000]),
            eightBit: choices.one(of: [.no, .yes, .perhaps]),
            smtpUTF8Need: choices.number(below: 8) == 1 ? "the header" : nil)
        transaction = new
        (asked, accepted, codes) = ([], [], [])
        (isMailAsked, isMailAccepted, isDataAllowed, isContentSent, finalCodes) = (false, false, false, false, [:])
        try perform(machine.begin(new, into: &out))
    }

    private mutating func finish(_ outcomes: [Outcome], _ what: String) throws {
        guard let transaction, !isOver else { throw Broken(description: "outcomes of nothing: \(transcript)") }
        transcript.append("\(what) \(outcomes.map { "\($0.result) \($0.reply.code)" })")
        try same(outcomes.count, transaction.recipients.count, "outcomes and recipients: \(transcript)")
        try same(machine.causes.count, outcomes.count, "causes")
        for (index, outcome) in outcomes.enumerated() {
            if outcome.result == .delivered {
                try hold(isContentSent && outcome.isRemote, "delivered without content: \(transcript)")
                if !isDisordered {
                    try hold(accepted.contains(index), "delivered to who was refused: \(transcript)")
                    try hold(
                        finalCodes[index].map { $0 / 100 == 2 } ?? false, "delivered without a yes: \(transcript)")
                }
            } else if !isDisordered, finalCodes[index].map({ $0 / 100 == 2 }) ?? false {
                try hold(!accepted.contains(index), "a yes that was not heard: \(transcript)")
            }
            if outcome.result == .permanent, outcome.isRemote, !isDisordered {
                try hold(codes.contains { $0 / 100 == 5 }, "permanent without a 5xx: \(transcript)")
            }
        }
        self.transaction = nil
    }
}
