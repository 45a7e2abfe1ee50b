// Milters of a session over real sockets: in which order they are asked, what their verdicts come to, connections, and every way
// in which one fails. What is said to one, and what it may say, is SlimtaMilterTests's.

import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaMilter
import SlimtaQueue
import Synchronization
import Testing

@testable import SlimtaEdge

/// As a class: what changes a value is no part of an expectation.
private final class BackOff {
    private var value = MilterBackOff()

    var isOpen: Bool { value.isOpen }
    func mayTry(_ now: NIODeadline) -> Bool { value.mayTry(now) }
    func failed(_ now: NIODeadline) -> Bool { value.failed(now) }
    func answered() -> Bool { value.answered() }
    func abandoned(_ now: NIODeadline) { value.abandoned(now) }
}

@Suite struct MilterBackOffTests {
    private let begin = NIODeadline.now()

    @Test func longerEachTime() {
        let backOff = BackOff()
        var now = begin
        #expect(backOff.mayTry(now) && backOff.mayTry(now) && !backOff.isOpen)
        #expect(backOff.failed(now))
        // Others that were on their way are no news, and make nothing longer.
        #expect(!backOff.failed(now))
        for pause in [1, 2, 4, 8, 16, 30, 30] as [Int64] {
            #expect(!backOff.mayTry(now + .seconds(pause) - .nanoseconds(1)))
            now = now + .seconds(pause)
            // One for all.
            #expect(backOff.mayTry(now) && !backOff.mayTry(now) && backOff.isOpen)
            #expect(!backOff.failed(now))
        }
        now = now + .seconds(30)
        #expect(backOff.mayTry(now) && backOff.answered() && !backOff.answered() && !backOff.isOpen)
        // From the beginning.
        #expect(backOff.failed(now) && backOff.mayTry(now + .seconds(1)))
    }

    @Test func aTrialThatComesToNothing() {
        let backOff = BackOff()
        _ = backOff.failed(begin)
        #expect(backOff.mayTry(begin + .seconds(1)) && !backOff.mayTry(begin + .seconds(60)))
        backOff.abandoned(begin + .seconds(60))
        #expect(backOff.mayTry(begin + .seconds(60)) && !backOff.mayTry(begin + .seconds(61)))
        // One of which nothing is heard.
        #expect(backOff.mayTry(begin + .seconds(180)))
    }
}

@Suite struct MilterOrderTests {
    /// All in their order; the second is shown what the first has left; one connection for two messages.
    @Test func oneAfterTheOther() async throws {
        let first = ScriptedMilter { _, letter, _ in
            letter == "E" ? .sayAll([("h", milterText("X-One", "1")), ("c", [])]) : .usual
        }
        let second = ScriptedMilter { _, letter, _ in
            letter == "E"
                ? .sayAll([("i", [0, 0, 0, 0] + milterText("X-Two", "2")), ("q", milterText("odd")), ("c", [])])
                : .usual
        }
        let session = try await MilterFixture(
            MilterFixture.service(try await first.start(), name: "one"),
            MilterFixture.service(try await second.start(), name: "two"))
        await session.greet()
        for number in 1...2 as ClosedRange<UInt64> {
            await session.begin(transaction: number)
            guard case .changed(let mail) = try await session.show(transaction: number) else {
                Issue.record("no change")
                return
            }
            #expect(String(buffer: mail.message.head) == "Subject: x\r\nX-One: 1\r\n\r\ntext\r\n")
            #expect(String(buffer: mail.fieldsAboveReceived) == "X-Two: 2\r\n" && mail.heldReason == "odd")
        }
        try await session.end()
        try await first.until("OCHMRTLNBEAMRTLNBEAQ")
        try await second.until("OCHMRTLLNBEAMRTLLNBEAQ")
        #expect(first.connections == 1 && second.connections == 1)
        #expect(second.seen.contains("1 LX-One,1,"))
        await first.stop()
        await second.stop()
    }

    @Test(
        arguments: [
            ("r", [], "550 5.7.1 Command rejected"), ("t", [], "451 4.7.1 Service unavailable - try again later"),
            ("y", milterText("554 5.7.9 no %% here"), "554 5.7.9 no % here"),
            // What is no reply is not passed on.
            ("y", milterText("250 2.0.0 yes"), "451 4.7.1 Service unavailable - try again later"),
            ("y", milterText("421 4.7.0 go"), "421 4.7.0 go"),
        ] as [(String, [UInt8], String)])
    func refuses(letter: String, data: [UInt8], reply: String) async throws {
        for stage in ["C", "H", "M", "R", "T", "E"] as [Character] {
            let second = ScriptedMilter { _, found, _ in found == stage ? .say(letter, data) : .usual }
            let (first, third) = (ScriptedMilter(), ScriptedMilter())
            let session = try await MilterFixture(
                MilterFixture.service(try await first.start(), name: "one"),
                MilterFixture.service(try await second.start(), name: "two"),
                MilterFixture.service(try await third.start(), name: "three"))
            let events: [MilterEvent] = [
                .connect(MilterClient(name: nil, address: .unknown)), .hello("c"),
                .mail(path: "<a@x.test>", parameters: []), .recipient(path: "<b@y.test>", parameters: []), .data,
            ]
            var refusal: String?
            for event in events where refusal == nil { refusal = await session.ask(event) }
            if stage == "E", case .refused(let reply, let name) = try await session.show() {
                refusal = "\(name): \(reply)"
            }
            #expect(refusal == "two: \(reply)", "\(stage)")
            // Who comes behind is not asked.
            #expect(!third.letters().contains(stage) && first.letters().contains(stage))
            // One recipient is not the message.
            if stage == "R", letter != "y" {
                #expect(await session.ask(.data) == nil)
                guard case .unchanged = try await session.show() else { Issue.record("refused"); return }
            }
            try await session.end()
            for milter in [first, second, third] { await milter.stop() }
        }
    }

    @Test func discards() async throws {
        for stage in ["M", "R", "T", "L", "E"] as [Character] {
            let first = ScriptedMilter { connection, letter, _ in letter == stage ? .say("d") : .usual }
            let second = ScriptedMilter()
            let session = try await MilterFixture(
                MilterFixture.service(try await first.start(), name: "one"),
                MilterFixture.service(try await second.start(), name: "two"))
            await session.greet()
            await session.begin()
            guard case .discarded("one") = try await session.show() else { Issue.record("\(stage)"); return }
            #expect(!second.letters().contains("E"))
            // The next message is one of its own.
            await session.begin(transaction: 2)
            try await session.end()
            await first.stop()
            await second.stop()
        }
    }

    /// Of the parameters of a recipient that is added, whom it is there for and when the sender is told of it are passed on; the
    /// log tells of the others.
    @Test func parameters() async throws {
        let milter = ScriptedMilter { _, letter, _ in
            letter == "E"
                ? .sayAll([
                    ("2", milterText("<c@z.test>", "NOTIFY=NEVER ORCPT=rfc822;o+2Bx@y.test")),
                    ("2", milterText("d@z.test", "orcpt=x400;/c=de/ notify=failure,success NOTIFY=OFTEN")),
                    ("e", milterText("<s@z.test>", "RET=HDRS")),
                    ("c", []),
                ])
                : .usual
        }
        let log = KeptLog()
        let session = try await MilterFixture(MilterFixture.service(try await milter.start(), log: log))
        await session.greet()
        await session.begin()
        guard case .changed(let mail) = try await session.show() else { Issue.record("no change"); return }
        #expect(mail.recipients.map(\.text) == ["b@y.test", "c@z.test", "d@z.test"] && mail.sender?.text == "s@z.test")
        #expect(mail.originals == [mail.recipients[1]: Mailbox(localPart: "o+x", domain: "y.test")])
        #expect(mail.notifications == [mail.recipients[1]: [], mail.recipients[2]: [.failure, .success]])
        let told = log.lines("parameters of a milter are not used")
        #expect(told.count == 1 && !"\(told)".contains("NEVER"))
        #expect("\(told)".contains("orcpt=x400;/c=de/ notify=failure,success NOTIFY=OFTEN RET=HDRS"))
        try await session.end()
        await milter.stop()
    }

    @Test func nobodyIsLeft() async throws {
        let milter = ScriptedMilter { _, letter, _ in
            letter == "E" ? .sayAll([("-", milterText("<b@y.test>")), ("c", [])]) : .usual
        }
        let session = try await MilterFixture(MilterFixture.service(try await milter.start(), name: "one"))
        await session.greet()
        await session.begin()
        guard case .discarded("one") = try await session.show() else { Issue.record("not discarded"); return }
        await milter.stop()
    }
}

@Suite struct MilterConnectionTests {
    /// A large message comes from its file, for each milter anew, and in packets that a milter takes.
    @Test func largeBodies() async throws {
        let (first, second) = (ScriptedMilter(), ScriptedMilter(bits: 0x0008_0000))
        let session = try await MilterFixture(
            MilterFixture.service(try await first.start()), MilterFixture.service(try await second.start()))
        await session.greet()
        await session.begin()
        let octets = ByteBuffer(bytes: (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) })
        guard case .unchanged = try await session.show("X: y\r\n\r\nbegin\r\n", rest: HeldBody(octets)) else {
            Issue.record("not let through")
            return
        }
        for milter in [first, second] {
            var expected = ByteBuffer(string: "begin\r\n")
            expected.writeImmutableBuffer(octets)
            #expect(milter.body() == expected)
            await milter.stop()
        }
    }

    /// What cannot be read is no message.
    @Test func aFileThatCannotBeRead() async throws {
        let milter = ScriptedMilter()
        let session = try await MilterFixture(MilterFixture.service(try await milter.start()))
        await session.greet()
        await session.begin()
        let rest = HeldBody(ByteBuffer(string: "x"), failsWith: .failed("disk"))
        guard case .refused(let reply, _) = try await session.show(rest: rest) else {
            Issue.record("let through"); return
        }
        #expect(reply.code == 451)
        // The next message has a connection of its own, which hears of the session first.
        await session.begin(transaction: 2)
        guard case .unchanged = try await session.show(transaction: 2) else { Issue.record("refused"); return }
        #expect(milter.letters(2).hasPrefix("OCHMRTLNBE"))
        await milter.stop()
    }

    /// The client is gone while its message is on its way: it is shown all the same, or nobody would have looked at it.
    @Test func theSessionEndsFirst() async throws {
        let milter = ScriptedMilter { _, letter, _ in letter == "E" ? .say("r") : .usual }
        let session = try await MilterFixture(MilterFixture.service(try await milter.start(), onFailure: .accept))
        await session.greet()
        await session.begin()
        var filter: (any MessageFilter)? = try await session.filter()
        try await session.end()
        let message = FilteredMessage(
            id: QueueID(high: 1, low: 2), message: Message(head: ByteBuffer(string: "\r\n")), sender: nil,
            recipients: [Mailbox(localPart: "b", domain: "y.test")])
        guard case .refused = await filter?.filter(message) else { Issue.record("let through"); return }
        #expect(!milter.letters().contains("Q"))
        filter = nil
        try await milter.until("OCHMRTNEAQ")
        await milter.stop()
    }

    @Test func anotherSession() async throws {
        let milter = ScriptedMilter()
        let service = MilterFixture.service(try await milter.start(), reuses: true)
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        for number in 1...3 {
            let session = try await MilterFixture(service, loop: loop)
            await session.greet()
            await session.begin()
            guard case .unchanged = try await session.show() else { Issue.record("\(number)"); return }
            try await session.end()
            try await milter.until("O" + String(repeating: "CHMRTLNBEK", count: number))
        }
        #expect(milter.connections == 1)
        await service.close()
        try await milter.until("O" + String(repeating: "CHMRTLNBEK", count: 3) + "Q")
        await milter.stop()
    }

    @Test func oneThatIsGoneMeanwhile() async throws {
        let milter = ScriptedMilter { _, letter, _ in letter == "K" ? .close : .usual }
        let service = MilterFixture.service(try await milter.start(), reuses: true)
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        for number in 1...2 {
            let session = try await MilterFixture(service, loop: loop)
            await session.greet()
            await session.begin()
            guard case .unchanged = try await session.show() else { Issue.record("\(number)"); return }
            try await session.end()
            try await milter.until("OCHMRTLNBEK", number)
            for _ in 0..<1000 where service.idleCount > 0 { try await Task.sleep(for: .milliseconds(5)) }
        }
        #expect(milter.connections == 2 && service.idleCount == 0)
        await milter.stop()
    }

    /// It is found out only by asking: the session has another connection, and hears nothing of it.
    @Test func oneThatIsGoneWhenItIsAsked() async throws {
        let count = Mutex(0)
        let milter = ScriptedMilter { connection, letter, _ in
            guard letter == "C", connection == 1 else { return .usual }
            return count.withLock { count in
                count += 1
                return count == 2 ? .close : .usual
            }
        }
        let service = MilterFixture.service(try await milter.start(), reuses: true)
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        for number in 1...2 {
            let session = try await MilterFixture(service, loop: loop)
            await session.greet()
            await session.begin()
            guard case .unchanged = try await session.show() else { Issue.record("\(number)"); return }
            try await session.end()
            try await milter.until(number == 1 ? "OCHMRTLNBEK" : "OCHMRTLNBEKC")
        }
        #expect(milter.connections == 2)
        await milter.stop()
    }

    /// Who wants to know of recipients that others have refused is told; what it says of them is nothing to anybody.
    @Test func refusedRecipients() async throws {
        let (curious, other) = (
            ScriptedMilter(bits: 0x800) { _, letter, _ in letter == "R" ? .say("r") : .usual }, ScriptedMilter()
        )
        let session = try await MilterFixture(
            MilterFixture.service(try await other.start()), MilterFixture.service(try await curious.start()))
        await session.greet()
        #expect(await session.ask(.mail(path: "<>", parameters: [])) == nil)
        await session.refused(.recipient(path: "<no@y.test>", parameters: []))
        #expect(curious.letters() == "OCHMR" && other.letters() == "OCHM")
        await curious.stop()
        await other.stop()
    }

    /// All of them have a time together, whatever each of them may take.
    @Test func togetherTheyTakeTooLong() async throws {
        let (first, second) = (ScriptedMilter { _, letter, _ in letter == "E" ? .hang : .usual }, ScriptedMilter())
        let session = try await MilterFixture(
            MilterFixture.service(try await first.start(), name: "one", onFailure: .quarantine),
            MilterFixture.service(try await second.start(), name: "two", onFailure: .quarantine),
            limit: .milliseconds(200))
        await session.greet()
        await session.begin()
        guard case .changed(let mail) = try await session.show() else { Issue.record("not held"); return }
        #expect(mail.heldReason?.hasPrefix("milter one did not answer in time") == true)
        #expect(!second.letters().contains("E"))
        await first.stop()
        await second.stop()
    }
}

@Suite struct MilterFailureTests {
    /// What it does in place of an answer.
    static let deeds: [(String, ScriptedMilter.Deed)] = [
        ("hangs", .hang), ("closes", .close), ("says what is none", .octets([0, 0, 0, 1, UInt8(ascii: "Z")])),
        ("says rubbish", .octets([UInt8](repeating: 0xFF, count: 5000))),
        ("says it twice", .sayAll([("c", []), ("c", [])])), ("edits too early", .say("h", milterText("X", "y"))),
    ]

    /// In each state, with each `on_failure`: the client hears what that says, and the next message is a new one.
    @Test(arguments: MilterFailurePolicy.allCases) func fails(policy: MilterFailurePolicy) async throws {
        for stage in ["C", "H", "M", "R", "T", "L", "N", "B", "E"] as [Character] {
            for (what, deed) in Self.deeds {
                let log = KeptLog()
                let milter = ScriptedMilter { connection, letter, _ in
                    connection == 1 && letter == stage ? deed : .usual
                }
                if what == "edits too early", stage == "E" { continue }
                let session = try await MilterFixture(
                    MilterFixture.service(
                        try await milter.start(), onFailure: policy,
                        limit: what == "hangs" ? .seconds(1) : .seconds(60),
                        log: log))
                let place: Comment = "\(what) at \(stage)"
                var replies: [String?] = []
                replies.append(await session.ask(.connect(MilterClient(name: nil, address: .unknown))))
                replies.append(await session.ask(.hello("c")))
                replies.append(await session.ask(.mail(path: "<a@x.test>", parameters: [])))
                replies.append(await session.ask(.recipient(path: "<b@y.test>", parameters: [])))
                replies.append(await session.ask(.data))
                let verdict = try await session.show()
                switch (policy, verdict) {
                case (.accept, .unchanged), (.tempfail, .refused), (.reject, .refused): break
                case (.quarantine, .changed(let mail)): #expect(mail.heldReason?.hasPrefix("milter m ") == true)
                // A second answer is found out with the next question; at C, H and E there may be none that it fails.
                default:
                    let isRenewed = ["C", "H"].contains(stage)
                    #expect(isRenewed || what == "says it twice", "\(place): \(verdict)")
                }
                let code = policy == .reject ? "m: 550" : "m: 451"
                for reply in replies.compactMap(\.self) { #expect(reply.hasPrefix(code), place) }
                if policy == .accept || policy == .quarantine { #expect(replies.allSatisfy { $0 == nil }, place) }
                // The next message: on a new connection, unless it is not to be asked again.
                #expect(await session.ask(.mail(path: "<a@x.test>", parameters: []), transaction: 2) == nil, place)
                #expect(await session.ask(.recipient(path: "<b@y.test>", parameters: []), transaction: 2) == nil, place)
                #expect(await session.ask(.data, transaction: 2) == nil, place)
                guard case .unchanged = try await session.show(transaction: 2) else {
                    Issue.record("the next message, \(place)")
                    continue
                }
                if policy == .accept, what != "says it twice" { #expect(milter.connections == 1, place) }
                try await session.end()
                await milter.stop()
            }
        }
    }

    /// Another EHLO is a new beginning: the client has not lost its session.
    @Test func helloOnceMore() async throws {
        let milter = ScriptedMilter { connection, letter, _ in connection == 1 && letter == "H" ? .close : .usual }
        let session = try await MilterFixture(MilterFixture.service(try await milter.start()))
        #expect(await session.ask(.connect(MilterClient(name: nil, address: .unknown))) == nil)
        #expect(await session.ask(.hello("c"))?.hasPrefix("m: 451 4.7.1 ") == true)
        #expect(await session.ask(.hello("c")) == nil)
        await session.begin()
        #expect(milter.letters(2) == "OCHMRT")
        try await session.end()
        await milter.stop()
    }

    /// Who is not there is left alone, told of once, and asked again.
    @Test func isNotThere() async throws {
        let log = KeptLog()
        let milter = ScriptedMilter()
        let address = try await milter.start()
        await milter.stop()
        let service = MilterFixture.service(address, log: log)
        for _ in 0..<5 {
            let session = try await MilterFixture(service)
            await session.greet()
            #expect(
                await session.ask(.mail(path: "<>", parameters: []))
                    == "m: 451 4.7.1 Service unavailable - try again later")
            try await session.end()
        }
        #expect(log.lines("milter cannot be asked, it is left alone for a while").count == 1)
        #expect(service.complaint?.hasPrefix("milter m: it cannot be reached: ") == true)
        #expect(service.complaint?.hasSuffix("; on_failure = \"tempfail\" counts") == true)
        let again = ScriptedMilter()
        _ = try await again.start(port: try #require(address.port))
        for _ in 0..<200 {
            let session = try await MilterFixture(service)
            await session.greet()
            let reply = await session.ask(.mail(path: "<>", parameters: []))
            try await session.end()
            if reply == nil { break }
            try await Task.sleep(for: .milliseconds(50))
        }
        #expect(service.complaint == nil && log.lines("milter answers again").count == 1)
        await again.stop()
    }

    /// A milter that takes connections and says nothing is as good as none.
    @Test func saysNothing() async throws {
        let milter = ScriptedMilter { _, _, _ in .hang }
        let service = MilterFixture.service(
            try await milter.start(), onFailure: .accept, limit: .milliseconds(100))
        let session = try await MilterFixture(service)
        await session.greet()
        await session.begin()
        guard case .unchanged = try await session.show() else { Issue.record("refused"); return }
        #expect(service.complaint?.contains("did not answer in time") == true)
        #expect(milter.letters() == "O")
        try await session.end()
        await milter.stop()
    }
}

/// A body of octets in memory, or one that cannot be read.
final class HeldBody: SpooledBody {
    let reference: SpoolReference
    private let octets: ByteBuffer
    private let failure: StorageError?

    init(_ octets: ByteBuffer, failsWith failure: StorageError? = nil) {
        self.octets = octets
        self.failure = failure
        reference = SpoolReference(id: QueueID(high: 9, low: 9), length: Int64(octets.readableBytes), crc32c: 0)
    }

    func makeReader() -> any SpoolReader { Reader(octets, failure) }

    private final class Reader: SpoolReader {
        private let rest: Mutex<ByteBuffer>
        private let failure: StorageError?

        init(_ octets: ByteBuffer, _ failure: StorageError?) {
            rest = Mutex(octets)
            self.failure = failure
        }

        func next(_ limit: Int) async throws -> ByteBuffer? {
            if let failure { throw failure }
            return rest.withLock { rest in
                rest.readableBytes == 0 ? nil : rest.readSlice(length: min(limit, rest.readableBytes))
            }
        }
    }
}
