// Dovecot's authentication protocol: lines, what they mean, and every event in every state of the connection.

import NIOCore
import SlimtaSASL
import TestKit
import Testing

@testable import SlimtaEdge

private typealias Machine = DovecotMachine

@Suite struct DovecotLineTests {
    /// All lines, or what is wrong with them.
    private static func read(_ chunks: [ByteBuffer]) -> [String] {
        var reader = DovecotLineReader()
        var lines: [String] = []
        do {
            for var chunk in chunks {
                while let line = try reader.read(&chunk) { lines.append(line.words.joined(separator: "|")) }
            }
        } catch { lines.append("\(error)") }
        return lines
    }

    /// Each cut of each octet makes the same lines.
    @Test func cutAnywhere() throws {
        let text = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\n\nOK\t1\tuser=a\u{1}tb\u{1}1\u{1}n\u{1}r\u{1}0\t\nDONE\ntail"
        let lines = try ChunkVerifier.verify(Array(text.utf8)) { Self.read($0) }
        #expect(lines == ["VERSION|1|2", "MECH|PLAIN|plaintext", "", "OK|1|user=a\tb\u{1}\n\r\0|", "DONE"])
    }

    @Test func theLongestLine() throws {
        let longest = String(repeating: "x", count: DovecotLineReader.longest - 1)
        #expect(Self.read([ByteBuffer(string: longest + "\n")]) == [longest])
        let long = Array("DONE\n\(longest)x".utf8)
        #expect(
            try ChunkVerifier.verify(long, cuts: 3) { Self.read($0) }
                == ["DONE", "it sent a line of more than 16384 octets"])
    }

    /// Whatever is escaped comes back, and nothing of it ends a word or a line.
    @Test func escapes() {
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<500 {
            let octets = generator.octets(20, from: [0, 1, 9, 10, 13, 48, 49, 110, 114, 116, 0xC3, 0xA4])
            let encoded = DovecotEscape.encoded(octets)
            #expect(DovecotEscape.decoded(encoded) == octets)
            #expect(encoded.allSatisfy { ![0, 9, 10, 13].contains($0) })
        }
        // As Dovecot reads what it does not write.
        #expect(DovecotEscape.decoded([1, 120, 65, 1]) == [120, 65])
    }

    @Test(arguments: [
        ("VERSION\t1\t2", DovecotMessage.version(major: "1", minor: "2")),
        ("MECH\tPLAIN\tplaintext", .mechanism("PLAIN")),
        ("MECH\tscram-sha-256\tmutual-auth", .mechanism("SCRAM-SHA-256")),
        ("MECH\tX\tplaintext\tanonymous", .other), ("MECH\tX\tprivate", .other), ("SPID\t1", .other),
        ("CUID\t1", .other), ("COOKIE\tabc", .other), ("NEW\tx", .other), ("", .other),
        ("DONE", .done), ("DONE\tx", .done),
        ("CONT\t1\t", .challenge(1, [])), ("CONT\t4294967295\tdj0=", .challenge(.max, Array("v=".utf8))),
        ("OK\t7\tuser=a=b\tnologin", .success(7, DovecotFields(["user=a=b", "nologin"]))),
        ("OK\t7", .success(7, DovecotFields([]))),
        ("FAIL\t2\tuser=x\ttemp", .failure(2, DovecotFields(["user=x", "temp"]))),
    ])
    func messages(_ text: String, _ message: DovecotMessage) throws {
        #expect(try DovecotMessage(DovecotLine(text.utf8)) == message)
    }

    @Test(arguments: [
        "VERSION\t1", "VERSION", "MECH", "MECH\t", "CONT\t1", "CONT\tx\t", "CONT\t1\t=", "CONT\t1\tA", "CONT\t-1\t",
        "CONT\t4294967296\t", "OK", "OK\t", "OK\t+1", "OK\t1 ", "FAIL", "FAIL\tuser=x",
    ])
    func whatCannotBeRead(_ text: String) {
        #expect(throws: DovecotFault.malformed(command: String(text.prefix { $0 != "\t" }))) {
            try DovecotMessage(DovecotLine(text.utf8))
        }
    }

    @Test(arguments: [
        ("user=a@b.example", DovecotAnswer.right(login: "a@b.example", senders: nil)),
        ("original_user=A\tuser=a\tproxy\thost=h", .right(login: "a", senders: nil)),
        ("user=a\tsenders=a@b.example, @c.example,", .right(login: "a", senders: ["a@b.example", "@c.example"])),
        ("user=a\tsenders=", .right(login: "a", senders: [])),
        ("user=a\tuser=b", .right(login: "a", senders: nil)),
        ("user=a\tnologin\treason=Closed", .refused("Closed")),
        ("user=a\tnologin", .refused("This account may not log in")),
        ("user=a\tnologin=y\treason=", .refused("This account may not log in")),
        ("user=a\tnologin\treason=a\u{1}nb", .refused("a\\x0ab")),
        ("user=a\tauth_user=master", .refused("Logging in for somebody else is not possible here")),
    ])
    func whatOKMeans(_ words: String, _ answer: DovecotAnswer) throws {
        #expect(DovecotAnswer(success: DovecotFields(DovecotLine(words.utf8).words)) == answer)
    }

    @Test(arguments: ["", "user=", "user", "users=a", "user=a\u{1}n", "user=\u{FFFD}", "reason=x"])
    func anOKForNobody(_ words: String) {
        guard case .unavailable = DovecotAnswer(success: DovecotFields(DovecotLine(words.utf8).words)) else {
            Issue.record("\(words) lets somebody in")
            return
        }
    }

    @Test(arguments: [
        ("user=a", DovecotAnswer.wrong), ("user=a\tauthz", .wrong), ("user=a\tuser_disabled", .wrong),
        ("code=authz_fail", .wrong), ("code=pass_expired\treason=x", .wrong), ("code=new", .wrong), ("", .wrong),
        ("user=a\ttemp", .unavailable("Dovecot cannot say now")),
        ("code=temp_fail\treason=no LDAP", .unavailable("Dovecot cannot say now: no LDAP")),
    ])
    func whatFAILMeans(_ words: String, _ answer: DovecotAnswer) {
        #expect(DovecotAnswer(failure: DovecotFields(DovecotLine(words.utf8).words)) == answer)
    }

    private static func text(_ line: SecretOctets?) -> String? { line.map { String(decoding: $0, as: UTF8.self) } }

    @Test func requests() {
        var request = DovecotRequest(mechanism: "PLAIN", parameters: [], initialResponse: nil)
        #expect(Self.text(request.line(3)) == "AUTH\t3\tPLAIN\tservice=smtp\n")
        request.initialResponse = SecretOctets([])
        #expect(Self.text(request.line(3)) == "AUTH\t3\tPLAIN\tservice=smtp\tresp==\n")
        request.parameters = [("secured", nil), ("session", "a\tb\nc\u{1}")]
        request.initialResponse = SecretOctets([0, 1, 2])
        #expect(
            Self.text(request.line(.max))
                == "AUTH\t4294967295\tPLAIN\tservice=smtp\tsecured\tsession=a\u{1}tb\u{1}nc\u{1}1\tresp=AAEC\n")
        #expect(Self.text(DovecotRequest.response(3, SecretOctets([]))) == "CONT\t3\t\n")
        #expect(Self.text(DovecotRequest.response(3, SecretOctets([0]))) == "CONT\t3\tAA==\n")
        request.initialResponse = SecretOctets([UInt8](repeating: 0, count: 12_288))
        #expect(request.line(1) == nil)
        #expect(DovecotRequest.response(1, SecretOctets([UInt8](repeating: 0, count: 12_288))) == nil)
    }
}

@Suite struct DovecotMachineTests {
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
    private static func at(_ seconds: Int64) -> NIODeadline { start + .seconds(seconds) }
    private static let plain = DovecotRequest(
        mechanism: "PLAIN", parameters: [("secured", nil)], initialResponse: SecretOctets([0]))
    private static func octets(_ text: String) -> SecretOctets { SecretOctets(text.utf8) }

    private enum State: CaseIterable { case stopped, connecting, greeting, ready, dovecotsTurn, clientsTurn, paused }

    /// A machine in a state, reached as it is in service; exchange 1 is there in the states that are a turn.
    private static func machine(_ state: State) -> Machine {
        var machine = Machine()
        func heard(_ text: String) throws {
            #expect(machine.received(1, try DovecotMessage(DovecotLine(text.utf8)), at(0)).count <= 1)
        }
        if state == .stopped { return machine }
        #expect(machine.started(at(0)) == [.connect(1)])
        if state == .connecting { return machine }
        if state == .paused {
            #expect(machine.failed(1, "refused", at(0)) == [.close(1), .tellLost("refused")])
            return machine
        }
        #expect(machine.connected(1, as: 9, at(0)) == [.send(1, octets("VERSION\t1\t2\nCPID\t9\n"))])
        if state == .greeting { return machine }
        #expect(throws: Never.self) {
            for line in [
                "COOKIE\tx", "MECH\tPLAIN\tplaintext", "VERSION\t1\t2", "MECH\tANONYMOUS\tanonymous", "SPID\t1",
                "CUID\t2",
                "DONE",
            ] { try heard(line) }
        }
        #expect(machine.isReady)
        if state == .ready { return machine }
        #expect(machine.nextID() == 1)
        #expect(
            machine.began(1, plain, at(0))
                == [.send(1, octets("AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp=AA==\n"))])
        if state == .dovecotsTurn { return machine }
        #expect(machine.received(1, .challenge(1, [7]), at(0)) == [.answer(1, .challenge([7]))])
        return machine
    }

    /// Every event in every state: what it leads to. Where a row has nothing, nothing does.
    @Test func everyEventInEveryState() {
        typealias Event = @Sendable (inout Machine) -> [Machine.Action]
        let fields = DovecotFields(["user=a"])
        let unexpected = "it sent a CONT line where none is due"
        func lost(_ reason: String, answers: Bool = false) -> [Machine.Action] {
            [.close(1), .tellLost(reason)]
                + (answers ? [.answer(1, .unavailable("the connection to Dovecot was lost: \(reason)"))] : [])
        }
        func faults(_ command: String) -> [State: [Machine.Action]] {
            [.greeting: lost("it sent a \(command) line where none is due")]
        }
        let gone = Machine.Action.answer(1, .unavailable("Dovecot waits for it no longer"))
        let noConnection = Machine.Action.answer(9, .unavailable("there is no connection to Dovecot"))
        let cancel = Machine.Action.send(1, Self.octets("CANCEL\t1\n"))
        let began = Machine.Action.send(1, Self.octets("AUTH\t9\tPLAIN\tservice=smtp\tsecured\tresp=AA==\n"))
        let table: [(String, Event, [State: [Machine.Action]])] = [
            ("started", { $0.started(Self.at(0)) }, [.stopped: [.connect(1)]]),
            (
                "connected", { $0.connected(1, as: 9, Self.at(0)) },
                [.connecting: [.send(1, Self.octets("VERSION\t1\t2\nCPID\t9\n"))]]
            ),
            ("version", { $0.received(1, .version(major: "1", minor: "9"), Self.at(0)) }, [:]),
            (
                "another version", { $0.received(1, .version(major: "2", minor: "0"), Self.at(0)) },
                [.greeting: lost("it speaks version 2.0 of the protocol, not 1")]
            ),
            ("done without version", { $0.received(1, .done, Self.at(0)) }, faults("DONE")),
            ("other", { $0.received(1, .other, Self.at(0)) }, [:]),
            (
                "challenge", { $0.received(1, .challenge(1, []), Self.at(0)) },
                faults("CONT").merging([
                    .dovecotsTurn: [.answer(1, .challenge([]))], .clientsTurn: lost(unexpected),
                ]) { $1 }
            ),
            (
                "OK", { $0.received(1, .success(1, fields), Self.at(0)) },
                faults("OK").merging([
                    .dovecotsTurn: [.answer(1, .right(login: "a", senders: nil))],
                    .clientsTurn: lost("it sent a OK line where none is due"),
                ]) { $1 }
            ),
            (
                "FAIL", { $0.received(1, .failure(1, fields), Self.at(0)) },
                faults("FAIL").merging([.dovecotsTurn: [.answer(1, .wrong)]]) { $1 }
            ),
            ("OK of another", { $0.received(1, .success(5, fields), Self.at(0)) }, faults("OK")),
            ("FAIL of another", { $0.received(1, .failure(5, fields), Self.at(0)) }, faults("FAIL")),
            ("challenge of another", { $0.received(1, .challenge(5, []), Self.at(0)) }, faults("CONT")),
            ("OK of another connection", { $0.received(2, .success(1, fields), Self.at(0)) }, [:]),
            ("another connection is lost", { $0.failed(2, "x", Self.at(0)) }, [:]),
            (
                "lost", { $0.failed(1, "x", Self.at(0)) },
                [
                    .connecting: lost("x"), .greeting: lost("x"), .ready: lost("x"), .clientsTurn: lost("x"),
                    .dovecotsTurn: lost("x", answers: true),
                ]
            ),
            (
                "began", { $0.began(9, Self.plain, Self.at(0)) },
                [
                    .stopped: [noConnection], .connecting: [noConnection], .greeting: [noConnection],
                    .paused: [noConnection], .ready: [began], .dovecotsTurn: [began], .clientsTurn: [began],
                ]
            ),
            (
                "responded", { $0.responded(1, SecretOctets([0]), Self.at(0)) },
                Dictionary(uniqueKeysWithValues: State.allCases.map { ($0, [gone]) })
                    .merging([
                        .dovecotsTurn: [cancel, gone], .clientsTurn: [.send(1, Self.octets("CONT\t1\tAA==\n"))],
                    ]) { $1 }
            ),
            ("abandoned", { $0.abandoned(1) }, [.dovecotsTurn: [cancel], .clientsTurn: [cancel]]),
            (
                "a second", { $0.timePassed(Self.at(1)) },
                [.paused: [.connect(2)]]
            ),
            (
                "ten seconds", { $0.timePassed(Self.at(10)) },
                [
                    .paused: [.connect(2)], .connecting: lost("connecting timed out"),
                    .greeting: lost("the handshake timed out"),
                ]
            ),
            (
                "a minute", { $0.timePassed(Self.at(60)) },
                [
                    .paused: [.connect(2)], .connecting: lost("connecting timed out"),
                    .greeting: lost("the handshake timed out"),
                    .dovecotsTurn: [cancel, .answer(1, .unavailable("Dovecot has not answered in time"))]
                        + lost("it says nothing"),
                ]
            ),
            (
                "stopped", { $0.stopped() },
                Dictionary(uniqueKeysWithValues: State.allCases.map { ($0, [.close(1)]) })
                    .merging([
                        .stopped: [], .dovecotsTurn: [.close(1), .answer(1, .unavailable("slimtad stops"))],
                    ]) { $1 }
            ),
        ]
        for (name, event, expected) in table {
            for state in State.allCases {
                var machine = Self.machine(state)
                #expect(event(&machine) == expected[state] ?? [], "\(name) while \(state)")
            }
        }
    }

    /// It tries again after 1, 2, 5, 5 s, tells once, and begins anew when it was there.
    @Test func pauses() {
        var machine = Self.machine(.connecting)
        var now: Int64 = 0
        for (number, pause) in zip(UInt64(1)..., [Int64(1), 2, 5, 5, 5]) {
            let actions = machine.failed(number, "refused", Self.at(now))
            #expect(actions == [.close(number)] + (number == 1 ? [.tellLost("refused")] : []))
            #expect(machine.nextDue == Self.at(now + pause))
            #expect(machine.timePassed(Self.at(now + pause) - .nanoseconds(1)) == [])
            now += pause
            #expect(machine.timePassed(Self.at(now)) == [.connect(number + 1)])
        }
        _ = machine.connected(6, as: 1, Self.at(now))
        #expect(machine.mechanisms == nil)
        _ = machine.received(6, .version(major: "1", minor: "2"), Self.at(now))
        #expect(machine.received(6, .done, Self.at(now)) == [.tellReady])
        #expect(machine.timePassed(Self.at(now + 10)) == [])
        #expect(machine.failed(6, "closed", Self.at(now + 10)) == [.close(6), .tellLost("closed")])
        #expect(machine.nextDue == Self.at(now + 11))
    }

    /// Whoever has taken Dovecot's socket can say a line's length there, and what terminals act upon.
    @Test func anotherVersionIsToldBriefly() {
        var machine = Self.machine(.greeting)
        let version = DovecotMessage.version(major: "2\u{1B}[2J", minor: String(repeating: "\u{FFFD}", count: 5000))
        let actions = machine.received(1, version, Self.at(0))
        let told = "2\\x1b[2J." + String(repeating: "\u{FFFD}", count: 18)
        let reason = "it speaks version \(told) of the protocol, not 1"
        #expect(actions == [.close(1), .tellLost(reason)])
        #expect(machine.complaint == reason)
    }

    /// One that shakes hands and closes, for ever: told of twice, tried ever more slowly, and told of again when it lasts: by an
    /// answer, or by its time.
    @Test(arguments: [true, false]) func readyAndGone(_ isAnswered: Bool) {
        var machine = Self.machine(.connecting)
        var (now, told) = (Int64(0), [Machine.Action]())
        func ready(_ id: UInt64) {
            _ = machine.connected(id, as: 1, Self.at(now))
            _ = machine.received(id, .version(major: "1", minor: "2"), Self.at(now))
            _ = machine.received(id, .mechanism("PLAIN"), Self.at(now))
            told += machine.received(id, .done, Self.at(now))
            #expect(machine.isReady)
        }
        for (number, pause) in zip(UInt64(1)..., [Int64(1), 2, 5, 5, 5]) {
            ready(number)
            told += machine.failed(number, "closed", Self.at(now)).filter { $0 != .close(number) }
            #expect(machine.nextDue == Self.at(now + pause))
            now += pause
            #expect(machine.timePassed(Self.at(now)) == [.connect(number + 1)])
        }
        #expect(told == [.tellReady, .tellLost("closed"), .tellReady, .tellLost("closed")])
        ready(6)
        if isAnswered {
            let id = machine.nextID()
            _ = machine.began(id, Self.plain, Self.at(now))
            let answer = machine.received(6, .failure(id, DovecotFields([])), Self.at(now))
            #expect(answer == [.tellReady, .answer(id, .wrong)])
        } else {
            #expect(machine.nextDue == Self.at(now + 10))
            #expect(machine.timePassed(Self.at(now + 10)) == [.tellReady])
        }
        #expect(machine.failed(6, "closed", Self.at(now + 10)) == [.close(6), .tellLost("closed")])
        #expect(machine.nextDue == Self.at(now + 11))
    }

    /// What was offered last is offered while nobody is there, and is read again.
    @Test func mechanismsAreReadAgain() {
        var machine = Self.machine(.ready)
        #expect(machine.mechanisms == ["PLAIN"])
        _ = machine.failed(1, "closed", Self.at(0))
        #expect(machine.mechanisms == ["PLAIN"])
        _ = machine.timePassed(Self.at(1))
        _ = machine.connected(2, as: 1, Self.at(1))
        _ = machine.received(2, .version(major: "1", minor: "2"), Self.at(1))
        _ = machine.received(2, .mechanism("LOGIN"), Self.at(1))
        _ = machine.received(2, .done, Self.at(1))
        #expect(machine.mechanisms == ["LOGIN"])
        // Dovecot would close the connection for it.
        let id = machine.nextID()
        #expect(
            machine.began(id, Self.plain, Self.at(1))
                == [.answer(id, .unavailable("Dovecot does not offer PLAIN any more"))])
    }

    @Test func neverForClients() {
        var machine = Self.machine(.ready)
        var request = Self.plain
        request.mechanism = "ANONYMOUS"
        #expect(
            machine.began(1, request, Self.at(0))
                == [.answer(1, .unavailable("Dovecot does not offer ANONYMOUS any more"))])
        #expect(machine.exchangeCount == 0)
    }

    @Test func tooManyMechanisms() {
        var machine = Self.machine(.greeting)
        for number in 1...64 {
            #expect(
                machine.received(1, .mechanism("\(number)"), Self.at(0)) == [])
        }
        #expect(
            machine.received(1, .mechanism("65"), Self.at(0))
                == [.close(1), .tellLost("it offers more mechanisms than there are")])
    }

    /// Of a Dovecot that answers others, the connection stays.
    @Test func oneIsLateAndOthersAreNot() {
        var machine = Self.machine(.dovecotsTurn)
        #expect(machine.timePassed(Self.at(10)) == [])
        #expect(machine.nextDue == Self.at(60))
        let second = machine.nextID()
        _ = machine.began(second, Self.plain, Self.at(30))
        #expect(machine.received(1, .challenge(second, []), Self.at(31)) == [.answer(second, .challenge([]))])
        #expect(
            machine.timePassed(Self.at(60)) == [
                .send(1, Self.octets("CANCEL\t1\n")), .answer(1, .unavailable("Dovecot has not answered in time")),
            ])
        #expect(machine.isReady && machine.nextDue == nil)
        // What comes of it now is for nobody.
        #expect(machine.received(1, .success(1, DovecotFields(["user=a"])), Self.at(61)) == [])
        // The client may take its time.
        #expect(machine.timePassed(Self.at(600)) == [] && machine.exchangeCount == 1)
    }

    /// Numbers that are in use, and 0, are not given out.
    @Test func numbers() {
        var machine = Self.machine(.dovecotsTurn)
        #expect((0..<3).map { _ in machine.nextID() } == [2, 3, 4])
    }
}
