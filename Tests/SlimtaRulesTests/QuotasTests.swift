// Quotas: limits at MAIL, RCPT and the message, the breaker and who is held, what is told and when, bounds, and the file.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct QuotasTests {
    private let alice = QuotaSubject.login("alice")
    private let start: Int64 = 1_800_000_000

    private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: (start + seconds) * 1000) }

    private func recipients(_ range: Range<Int>) -> [Mailbox] {
        range.map { Mailbox(localPart: "r\($0)", domain: "example.org") }
    }

    /// Rules with these limits, where nobody is new.
    private func rules(_ limits: QuotaLimits) -> QuotaRules {
        var rules = QuotaRules()
        rules.limits = limits
        (rules.learning, rules.learningRecipients) = (.zero, 0)
        return rules
    }

    private func quotas(_ rules: QuotaRules?, bounds: Quotas.Bounds = .init()) -> Quotas {
        Quotas(rules: rules, key: SIMD2(3, 4), bounds: bounds)
    }

    /// What became of a message.
    private struct Sent {
        let charge: Quotas.Charge?
        let refusal: Reply?
        var isHeld = false
        var isNews: Bool
        var events: [Quotas.Event]
    }

    /// A message that is stored if it is taken.
    private func send(
        _ quotas: inout Quotas, _ subject: QuotaSubject? = nil, to recipients: [Mailbox], size: Int = 1000,
        at seconds: Int64
    ) -> Sent {
        let decision = quotas.take(subject ?? alice, to: recipients, size: size, at: at(seconds))
        var sent = Sent(
            charge: decision.charge, refusal: decision.refusal, isNews: decision.isNews, events: decision.events)
        guard let charge = decision.charge else { return sent }
        sent.isHeld = quotas.isHeld(charge)
        guard let news = quotas.settle(charge, as: sent.isHeld ? .held : .stored).news else { return sent }
        sent.isNews = true
        sent.events.append(news)
        return sent
    }

    /// A message that is taken, and not stored yet.
    private func take(_ quotas: inout Quotas, to range: Range<Int> = 0..<1, at seconds: Int64) throws -> Quotas.Charge {
        try #require(quotas.take(alice, to: recipients(range), size: 1000, at: at(seconds)).charge)
    }

    @Test func whoIsWho() throws {
        let address = try #require(IPAddress("2001:db8::1:2:3:4"))
        #expect(QuotaSubject(login: "a", address: address) == .login("a"))
        #expect(QuotaSubject(login: nil, address: address).description == "2001:db8::")
        #expect(QuotaSubject(login: nil, address: IPAddress("192.0.2.7")).description == "192.0.2.7")
        #expect(QuotaSubject(login: nil, address: nil) == .local)
        var client = ClientInfo(address: "192.0.2.7", name: "", protocolWord: "SMTP")
        #expect(QuotaSubject(client) == QuotaSubject(login: nil, address: IPAddress("192.0.2.7")))
        client.login = "a"
        #expect(QuotaSubject(client) == .login("a"))
    }

    // MARK: Hard limits

    @Test func messagesAnHourAndADay() {
        var quotas = quotas(rules(QuotaLimits(hard: [.init(.messages, .hour, 3), .init(.messages, .day, 5)])))
        for second in 0..<3 {
            #expect(quotas.refusal(of: alice, recipients: 0, at: at(Int64(second))) == nil)
            #expect(send(&quotas, to: recipients(0..<1), at: Int64(second)).charge != nil)
        }
        let reply = quotas.refusal(of: alice, recipients: 0, at: at(3))
        #expect(
            reply?.description == "450 4.7.1 Too much at once: 4 messages in an hour, allowed are 3; try again later")
        // Two that passed MAIL together do not both pass the end.
        #expect(send(&quotas, to: recipients(0..<1), at: 3).refusal == reply)
        #expect(quotas.refusal(of: .login("bob"), recipients: 0, at: at(3)) == nil)
        // The hour has gone; there is no midnight.
        for second in [3661, 3662] { #expect(send(&quotas, to: recipients(0..<1), at: Int64(second)).charge != nil) }
        let later = send(&quotas, to: recipients(0..<1), at: 7400)
        #expect(later.refusal?.text.contains("6 messages in a day, allowed are 5") == true)
        #expect(send(&quotas, to: recipients(0..<1), at: 86400 + 1441).charge != nil)
    }

    @Test func recipientsOfATransaction() {
        var quotas = quotas(rules(QuotaLimits(hard: [.init(.recipients, .hour, 10), .init(.newRecipients, .hour, 8)])))
        _ = send(&quotas, to: recipients(0..<6), at: 0)
        #expect(quotas.refusal(of: alice, recipients: 4, at: at(1)) == nil)
        #expect(quotas.refusal(of: alice, recipients: 5, at: at(1))?.text.contains("11 recipients in an hour") == true)
        #expect(!quotas.isNew(recipients(0..<1)[0], to: alice, at: at(1)))
        #expect(quotas.isNew(recipients(0..<1)[0], to: .login("bob"), at: at(1)))
        #expect(
            quotas.refusal(of: alice, recipients: 3, newRecipients: 3, at: at(1))?.text.contains("9 new recipients")
                == true)
        #expect(send(&quotas, to: recipients(4..<9), at: 1).refusal != nil)
        #expect(send(&quotas, to: recipients(4..<8), at: 1).charge != nil)
    }

    @Test func whatIsNotStoredIsGivenBack() throws {
        var quotas = quotas(rules(QuotaLimits(hard: [.init(.messages, .hour, 1)])))
        let charge = try #require(quotas.take(alice, to: recipients(0..<1), size: 1, at: at(0)).charge)
        #expect(quotas.take(alice, to: recipients(0..<1), size: 1, at: at(0)).refusal != nil)
        #expect(quotas.settle(charge, as: .notStored) == .init())
        // And whom it was to is still new: nobody becomes known by messages that are refused.
        #expect(quotas.isNew(recipients(0..<1)[0], to: alice, at: at(1)))
        #expect(send(&quotas, to: recipients(0..<1), at: 1).charge != nil)
        #expect(!quotas.isNew(recipients(0..<1)[0], to: alice, at: at(1)))
    }

    @Test func exceptions() throws {
        var rules = rules(QuotaLimits(hard: [.init(.messages, .hour, 1)]))
        let more = QuotaLimits(hard: [.init(.messages, .hour, 2)])
        rules.exceptions = [
            .init(logins: [Glob("app-*")], networks: [], limits: QuotaLimits()),
            .init(logins: [], networks: [try #require(NetworkRange("192.0.2.0/24"))], limits: more),
        ]
        var quotas = quotas(rules)
        for second in 0..<9 {
            #expect(send(&quotas, .login("app-shop"), to: recipients(0..<9), at: Int64(second)).refusal == nil)
        }
        #expect(quotas.count == 0)
        let (near, far) = (
            QuotaSubject(login: nil, address: IPAddress("192.0.2.1")),
            QuotaSubject(login: nil, address: IPAddress("198.51.100.1"))
        )
        for (subject, allowed) in [(near, 2), (far, 1), (alice, 1), (.local, 1)] {
            let taken = (0..<4).count { send(&quotas, subject, to: recipients(0..<1), at: Int64($0)).charge != nil }
            #expect(taken == allowed, "\(subject)")
        }
    }

    // MARK: Soft limits

    @Test func softLimitIsToldOnce() {
        var quotas = quotas(rules(QuotaLimits(soft: [.init(.messages, .hour, 2), .init(.recipients, .day, 100)])))
        let events = (0..<10).flatMap { send(&quotas, to: recipients(0..<1), at: Int64($0)).events }
        #expect(events == [.exceeded(alice, .over(.init(.messages, .hour, 2), count: 3))])
        #expect(quotas.warnings(at: at(10)) == ["alice sends much: 10 messages in an hour, allowed are 2"])
        #expect(quotas.warnings(at: at(4000)).isEmpty)
        // Under it, and over it again: that is news.
        #expect(send(&quotas, to: recipients(0..<1), at: 4000).events.isEmpty)
        #expect((4001..<4005).flatMap { send(&quotas, to: recipients(0..<1), at: $0).events }.count == 1)
    }

    // MARK: The breaker

    @Test func breakerHoldsAtTheThreshold() {
        var quotas = quotas(rules(QuotaLimits(breaker: [.init(.newRecipients, .hour, 100)])))
        var (held, events) = (0, [Quotas.Event]())
        for number in 0..<500 {
            let decision = send(&quotas, to: recipients(number..<number + 1), at: Int64(number))
            #expect(decision.refusal == nil && decision.charge != nil)
            #expect(decision.isHeld == (number >= 100))
            #expect(decision.isNews == (number == 100))
            held += decision.isHeld == true ? 1 : 0
            events += decision.events
        }
        #expect(held == 400)
        let excess = QuotaExcess.over(.init(.newRecipients, .hour, 100), count: 101)
        #expect(events == [.held("alice", excess)])
        #expect(quotas.facts(of: alice, at: at(500))?.hold?.messages == 400)
        #expect(quotas.warnings(at: at(500)).first?.contains("101 new recipients in an hour, allowed are 100") == true)
        // Whom a hijacker has written to is not known by that.
        #expect(quotas.isNew(recipients(300..<301)[0], to: alice, at: at(500)))
        // Others go on.
        #expect(send(&quotas, .login("bob"), to: recipients(0..<1), at: 500).isHeld == false)
        // Released, it may for a day.
        #expect(quotas.release(alice, at: at(600)) && !quotas.release(alice, at: at(600)))
        for number in 0..<300 {
            #expect(send(&quotas, to: recipients(1000 + number..<1001 + number), at: 601).isHeld == false)
        }
        #expect(send(&quotas, to: recipients(5000..<5200), at: 600 + 86400).isHeld == true)
    }

    /// What a policy refuses holds nobody, however much it was; what is stored does, once, for whatever reason it is held.
    @Test func breakerTripsOnWhatIsStored() throws {
        var quotas = quotas(rules(QuotaLimits(breaker: [.init(.newRecipients, .hour, 10)])))
        let refused = try take(&quotas, to: 0..<50, at: 0)
        #expect(quotas.isHeld(refused) && quotas.settle(refused, as: .notStored) == .init())
        #expect(quotas.held == 0 && send(&quotas, to: recipients(0..<9), at: 1).isHeld == false)
        // Two at once.
        let (first, second) = (try take(&quotas, to: 100..<102, at: 2), try take(&quotas, to: 102..<103, at: 2))
        #expect(quotas.isHeld(first) && quotas.isHeld(second))
        let excess = QuotaExcess.over(.init(.newRecipients, .hour, 10), count: 11)
        #expect(quotas.settle(first, as: .stored).news == .held("alice", excess))
        #expect(quotas.settle(second, as: .held) == .init() && quotas.held == 1)
        // One of them is held by a rule.
        #expect(quotas.facts(of: alice, at: at(3))?.hold?.messages == 1)
        #expect(quotas.isNew(recipients(100..<101)[0], to: alice, at: at(3)))
    }

    /// Whether a message is held is decided when it is stored, by what its login is then.
    @Test func heldOrReleasedBetweenTakenAndStored() throws {
        var quotas = quotas(rules(QuotaLimits(breaker: [.init(.newRecipients, .hour, 10)])))
        let charge = try take(&quotas, at: 0)
        #expect(!quotas.isHeld(charge))
        _ = send(&quotas, to: recipients(0..<50), at: 1)
        #expect(quotas.isHeld(charge) && quotas.settle(charge, as: .held) == .init())
        #expect(quotas.facts(of: alice, at: at(2))?.hold?.messages == 2)
        let (ours, theirs) = (try take(&quotas, at: 3), try take(&quotas, at: 3))
        #expect(quotas.release(alice, at: at(4)) && !quotas.isHeld(ours))
        // What a rule holds is not released with its login.
        #expect(quotas.settle(theirs, as: .stored) == .init())
        #expect(quotas.settle(ours, as: .held).isReleased)
        // One that would have tripped the breaker is forgiven too.
        let before = try take(&quotas, to: 0..<9, at: 4 + 86400)
        let late = try take(&quotas, to: 100..<150, at: 4 + 86400)
        #expect(quotas.settle(before, as: .stored) == .init() && quotas.isHeld(late))
        quotas.hold(alice, because: "root", at: at(5 + 86400))
        #expect(quotas.release(alice, at: at(6 + 86400)) && !quotas.isHeld(late))
        #expect(quotas.settle(late, as: .held) == .init(isReleased: true) && quotas.held == 0)
    }

    @Test func newLoginsHaveTheLimitAndNoBreaker() {
        var rules = QuotaRules()
        rules.limits = QuotaLimits(breaker: [.init(.newRecipients, .hour, 10)], refusedShare: 20)
        var quotas = quotas(rules)
        #expect(send(&quotas, to: recipients(0..<10), at: 0).charge != nil)
        #expect(quotas.refusal(of: alice, recipients: 1, newRecipients: 1, at: at(1))?.code == 450)
        #expect(send(&quotas, to: recipients(10..<11), at: 1).refusal?.code == 450)
        #expect(quotas.ended(alice, refused: 50, others: 0, at: at(2)).isEmpty)
        // Old enough, and still it has written to few.
        let week: Int64 = 7 * 86400
        #expect(send(&quotas, to: recipients(10..<30), at: week).refusal?.code == 450)
        for number in 0..<40 { _ = send(&quotas, to: recipients(number % 10..<number % 10 + 1), at: week + 1) }
        #expect(send(&quotas, to: recipients(10..<30), at: week + 2).isHeld == true)
    }

    @Test func refusedRecipients() {
        var limits = QuotaLimits(
            soft: [.init(.refused, .hour, 5)], hard: [.init(.refused, .hour, 15)], refusedShare: 20)
        var quotas = quotas(rules(limits))
        _ = send(&quotas, to: recipients(0..<40), at: 0)
        #expect(
            quotas.ended(alice, refused: 6, others: 0, at: at(1)) == [
                .exceeded(alice, .over(.init(.refused, .hour, 5), count: 6))
            ])
        #expect(quotas.refusal(of: alice, recipients: 0, at: at(2)) == nil)
        #expect(quotas.ended(alice, refused: 10, others: 30, at: at(3)).isEmpty)
        #expect(
            quotas.refusal(of: alice, recipients: 0, at: at(4))?.text.contains("16 refused recipients in an hour")
                == true)
        #expect(quotas.ended(alice, refused: 4, others: 0, at: at(5)) == [.held("alice", .refused(20, of: 50))])
        #expect(quotas.facts(of: alice, at: at(6))?.hold?.reason == "20 of the last 50 recipients were refused")
        // Who has sent nothing has nothing that ends.
        #expect(quotas.ended(.login("bob"), refused: 100, others: 0, at: at(7)).isEmpty && quotas.count == 1)
        limits.hard = []
        #expect(quotas.release(alice, at: at(8)) == true)
        #expect(quotas.ended(alice, refused: 90, others: 0, at: at(9)).isEmpty)
    }

    @Test func onlyLoginsAreHeldByThemselves() {
        var quotas = quotas(rules(QuotaLimits(breaker: [.init(.newRecipients, .hour, 1)], refusedShare: 1)))
        #expect(send(&quotas, .local, to: recipients(0..<2), at: 0).refusal?.code == 450)
        #expect(send(&quotas, .local, to: recipients(0..<1), at: 0).isHeld == false)
        #expect(quotas.ended(.local, refused: 9, others: 0, at: at(1)).isEmpty)
    }

    @Test func heldLimit() throws {
        var rules = rules(QuotaLimits(hard: [.init(.messages, .hour, 1)]))
        (rules.heldMessages, rules.heldSize) = (3, 10_000)
        var quotas = quotas(rules)
        quotas.hold(alice, because: "an operator", at: at(0))
        // What is held is held to no other limit: a spammer learns nothing.
        for second in 0..<3 { #expect(send(&quotas, to: recipients(0..<1), at: Int64(second)).isHeld == true) }
        #expect(send(&quotas, to: recipients(0..<1), at: 4).refusal?.code == 452)
        #expect(quotas.refusal(of: alice, recipients: 0, at: at(4))?.code == 452)
        // What was cleaned out makes room, and what was held is in nobody's way behind a release.
        try quotas.counted(messages: 0, octets: 0, of: alice, before: #require(quotas.holds[alice]))
        for second in 5..<8 { #expect(send(&quotas, to: recipients(0..<1), at: Int64(second)).isHeld) }
        #expect(send(&quotas, to: recipients(0..<1), at: 8).refusal?.code == 452)
        #expect(quotas.release(alice, at: at(9)) && quotas.refusal(of: alice, recipients: 1, at: at(9)) == nil)
        #expect(send(&quotas, to: recipients(0..<1), at: 9).charge != nil)
        #expect(send(&quotas, to: recipients(0..<1), at: 9).refusal?.code == 450)
        quotas.hold(.login("bob"), because: "an operator", at: at(0))
        #expect(send(&quotas, .login("bob"), to: recipients(0..<1), size: 9000, at: 1).isHeld == true)
        #expect(send(&quotas, .login("bob"), to: recipients(0..<1), size: 1001, at: 1).refusal?.code == 452)
        #expect(send(&quotas, .login("bob"), to: recipients(0..<1), size: 1000, at: 1).isHeld == true)
    }

    @Test func actionRefuse() {
        var rules = rules(QuotaLimits(breaker: [.init(.messages, .hour, 2)]))
        rules.action = .refuse
        var quotas = quotas(rules)
        for second in 0..<2 { #expect(send(&quotas, to: recipients(0..<1), at: Int64(second)).charge != nil) }
        let decision = send(&quotas, to: recipients(0..<1), at: 3)
        #expect(decision.refusal?.code == 450 && decision.isNews && decision.events.count == 1)
        #expect(quotas.refusal(of: alice, recipients: 0, at: at(4))?.code == 450)
    }

    /// Without limits somebody can still be held, and who is released while a message is stored is told of.
    @Test func operatorsHold() throws {
        var quotas = quotas(nil)
        #expect(quotas.isIdle && quotas.take(alice, to: recipients(0..<1), size: 1, at: at(0)) == .init())
        quotas.hold(alice, because: "root", at: at(0))
        quotas.hold(alice, because: "another", at: at(1))
        #expect(!quotas.isIdle && quotas.facts(of: alice, at: at(1))?.hold?.reason == "root")
        let (first, second) = (
            try #require(quotas.take(alice, to: recipients(0..<1), size: 1, at: at(2)).charge),
            try #require(quotas.take(alice, to: recipients(0..<1), size: 1, at: at(2)).charge)
        )
        #expect(quotas.settle(first, as: .held) == .init())
        #expect(quotas.release(alice, at: at(3)) == true)
        #expect(quotas.settle(second, as: .held).isReleased && quotas.isIdle)
    }

    /// Who holds a login, and what is then to be done; durable like the hold, and done for that hold alone.
    @Test func dutiesOfAHold() throws {
        var rules = rules(QuotaLimits(breaker: [.init(.messages, .hour, 1)]))
        var quotas = quotas(rules)
        for second in 0..<2 { _ = send(&quotas, to: recipients(0..<1), at: Int64(second)) }
        #expect(quotas.holds[alice]?.duties == .recent)
        rules.notify = Mailbox(parsing: "postmaster@example.com")
        quotas.rules = rules
        quotas.hold(.login("bob"), because: "root", at: at(3))
        #expect(quotas.holds[.login("bob")]?.duties == .recent)
        #expect(quotas.release(alice, at: at(4)) && quotas.holds[alice] == nil)
        for second in 0..<2 { _ = send(&quotas, to: recipients(0..<1), at: 100_000 + Int64(second)) }
        let hold = try #require(quotas.holds[alice])
        #expect(hold.duties == [.recent, .notice] && hold.messages == 1)
        var read = try #require(Quotas(octets: quotas.octets))
        #expect(read.holds == quotas.holds)
        read.fulfilled(.notice, of: alice, heldSince: at(0))
        #expect(read.holds[alice]?.duties == hold.duties && !read.isChanged)
        read.fulfilled(.notice, of: alice, heldSince: hold.since)
        #expect(read.holds[alice]?.duties == .recent && read.isChanged)
        // Each hold has a name of its own.
        let names = quotas.holds.map { quotas.name(of: $1, $0) }
        #expect(Set(names).count == 2 && quotas.name(of: hold, alice) == read.name(of: hold, alice))
        // What came while it was counted is added to what was found.
        _ = send(&quotas, to: recipients(0..<1), at: 100_003)
        quotas.counted(messages: 0, octets: 0, of: alice, before: hold)
        #expect(quotas.holds[alice]?.messages == 1 && quotas.holds[alice]?.octets == 1000)
        quotas.counted(messages: 9, octets: 9, of: alice, before: QuotaHold(since: at(0), reason: ""))
        #expect(quotas.holds[alice]?.messages == 1)
    }

    /// What was on its way when its login was held by another message is recent mail.
    @Test func whatIsStoredWhileItsLoginIsHeldIsLookedFor() throws {
        var quotas = quotas(rules(QuotaLimits(hard: [.init(.messages, .hour, 9)])))
        let charge = try take(&quotas, at: 0)
        quotas.hold(alice, because: "root", at: at(1))
        quotas.fulfilled(.recent, of: alice, heldSince: at(1))
        _ = quotas.settle(charge, as: .stored)
        #expect(quotas.holds[alice]?.duties == .recent)
    }

    // MARK: Bounds and the file

    @Test func thoseThatWereSilentGo() {
        var bounds = Quotas.Bounds()
        bounds.accounts = 200
        var quotas = quotas(rules(QuotaLimits(hard: [.init(.messages, .hour, 9)])), bounds: bounds)
        quotas.hold(alice, because: "root", at: at(0))
        for number in 0..<1000 {
            _ = send(&quotas, .login("user\(number)"), to: recipients(number..<number + 1), at: Int64(number))
        }
        #expect(quotas.count <= 200)
        #expect(quotas.facts(of: .login("user999"), at: at(1000)) != nil)
        #expect(quotas.facts(of: .login("user0"), at: at(1000)) == nil)
        #expect(quotas.facts(of: alice, at: at(1000))?.hold != nil)
        #expect(quotas.facts(limit: 10, isOnlyHeld: true, at: at(1000)).map(\.subject) == [alice])
    }

    @Test func recipientsOfAllAreBounded() async {
        var bounds = Quotas.Bounds()
        (bounds.knownByOne, bounds.known) = (1000, 5000)
        var quotas = quotas(rules(QuotaLimits(soft: [.init(.messages, .hour, 1)])), bounds: bounds)
        for number in 0..<20 {
            _ = send(&quotas, .login("small\(number)"), to: recipients(0..<50), at: 0)
            _ = send(&quotas, .login("large\(number)"), to: recipients(0..<900), at: 1)
            #expect(quotas.known <= 5000)
            #expect(quotas.known == quotas.accounts.values.map(\.known.count).reduce(0, +))
            await Task.yield()
        }
        // Who knows few keeps them.
        #expect((0..<20).allSatisfy { quotas.facts(of: .login("small\($0)"), at: at(2))?.known == 50 })
    }

    /// 100,000 logins, each with fifty recipients: within 200 MB by a wide margin.
    @Test func sizeOfManyLogins() async {
        var quotas = quotas(rules(QuotaLimits(hard: [.init(.messages, .hour, 9)])))
        for number in 0..<2000 {
            _ = send(&quotas, .login("user\(number)@example.com"), to: recipients(number..<number + 50), at: 0)
            if number % 100 == 0 { await Task.yield() }
        }
        #expect(quotas.octets.count / 2000 < 700)
    }

    @Test func theFile() throws {
        var quotas = quotas(
            rules(QuotaLimits(soft: [.init(.messages, .hour, 1)], breaker: [.init(.newRecipients, .hour, 30)])))
        for number in 0..<20 {
            _ = send(&quotas, .login("user\(number)"), to: recipients(number..<number + 5), at: Int64(number) * 1000)
            _ = send(
                &quotas, QuotaSubject(login: nil, address: IPAddress("192.0.2.\(number)")), to: recipients(0..<3), at: 5
            )
        }
        _ = send(&quotas, .local, to: recipients(0..<3), at: 5)
        _ = quotas.ended(.login("user1"), refused: 3, others: 90, at: at(6))
        _ = send(&quotas, to: recipients(0..<40), at: 7)
        quotas.hold(.login("é\n\0x"), because: "root", at: at(8))
        _ = quotas.release(.login("é\n\0x"), at: at(9))
        let octets = quotas.octets
        let read = try #require(Quotas(octets: octets))
        #expect(read.accounts == quotas.accounts && read.known == quotas.known && read.digest == quotas.digest)
        #expect(read.held == 1 && !read.isIdle && read.octets.count == octets.count)
        #expect(try #require(Quotas(octets: self.quotas(nil).octets)).count == 0)
        // Nothing else is such a file.
        for count in Set([0, 1, 15, 16, 43, 44, octets.count - 1]) {
            #expect(Quotas(octets: Array(octets.prefix(count))) == nil)
        }
        for place in stride(from: 0, to: octets.count, by: 7) {
            var damaged = octets
            damaged[place] ^= 0x10
            #expect(Quotas(octets: damaged) == nil, "octet \(place)")
        }
    }

    /// Octets with the right digest, whatever else they are: read or refused, and what was read is written as it was.
    @Test func anyOctetsAreReadOrRefused() async throws {
        var quotas = quotas(rules(QuotaLimits(soft: [.init(.messages, .hour, 1)])))
        for name in ["a", "b"] { _ = send(&quotas, .login(name), to: recipients(0..<4), at: 0) }
        quotas.hold(alice, because: "root", at: at(1))
        let octets = quotas.octets
        var read = 0
        for round in 0..<4000 {
            var changed = Array(octets.dropLast(8))
            for _ in 0..<Int.random(in: 1...3) { changed[.random(in: 32..<changed.count)] = .random(in: 0...255) }
            if round % 3 == 0 { changed.removeLast(.random(in: 1...40)) }
            let digest = changed.withUnsafeBytes { SipHash(key: SIMD2(0, 0))($0) }
            changed += (0..<8).map { UInt8(truncatingIfNeeded: digest >> (8 * $0)) }
            if round % 500 == 0 { await Task.yield() }
            guard var found = Quotas(octets: changed) else { continue }
            read += 1
            #expect(Quotas(octets: found.octets)?.accounts == found.accounts)
            found.rules = rules(QuotaLimits(soft: [.init(.messages, .hour, 1)], hard: [.init(.refused, .day, 1)]))
            for subject in Array(found.accounts.keys) { _ = send(&found, subject, to: recipients(0..<9), at: 5) }
            _ = found.warnings(at: at(6))
        }
        #expect(read > 100)
    }
}
