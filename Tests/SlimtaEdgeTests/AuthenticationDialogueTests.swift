// How back ends are asked: in their order, no longer than they may take, and what follows for the client.

import Logging
import NIOCore
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Synchronization
import Testing

@testable import SlimtaEdge

/// A back end that says what it is told to.
private struct Saying: CredentialBackEnd {
    let name: String
    var timeout = TimeAmount.seconds(30)
    var serves: Set<SASLMechanism> = [.plain, .login, .scramSHA256, .scramSHA256Plus]
    /// nil: it never answers.
    var verdict: CredentialVerdict? = .wrong
    var known: [String: SCRAMKeys] = [:]
    var exchange: Holding?
    var barred: Set<String> = []

    func mechanisms(on facts: AuthenticationFacts) -> Set<SASLMechanism> { serves }

    func check(_ credentials: Credentials, _ facts: AuthenticationFacts) async -> CredentialVerdict {
        if let verdict { return verdict }
        try? await Task.sleep(for: .seconds(3600))
        return .right(AuthenticatedUser(login: "late"))
    }

    func keys(of login: String, _ hash: SCRAMHash, _ facts: AuthenticationFacts) async -> SecretAnswer<SCRAMKeys> {
        known[login].map { .known($0, AuthenticatedUser(login: login)) } ?? .unknown
    }

    func bars(_ login: String) -> Bool { barred.contains(login) }

    func begin(_ mechanism: SASLMechanism, _ facts: AuthenticationFacts) -> (any BackEndExchange)? { exchange }
}

/// An exchange of a back end: says these steps, and writes down what it heard.
private final class Holding: BackEndExchange {
    private let state: Mutex<(steps: [BackEndStep], heard: [String], isCancelled: Bool)>

    init(_ steps: [BackEndStep]) { state = Mutex((steps.reversed(), [], false)) }

    var heard: [String] { state.withLock { $0.heard } }
    var isCancelled: Bool { state.withLock { $0.isCancelled } }

    func received(_ response: SecretOctets?) async -> BackEndStep {
        state.withLock { state in
            state.heard.append(response.map { String(decoding: $0, as: UTF8.self) } ?? "-")
            return state.steps.popLast() ?? .malformed
        }
    }

    func cancel() { state.withLock { $0.isCancelled = true } }
}

@Suite struct AuthenticationDialogueTests {
    typealias Step = SMTPServerMachine.AuthenticationStep

    private static let user = AuthenticatedUser(login: "u")
    private static let facts = AuthenticationFacts(
        connection: ConnectionFacts(peer: nil, local: nil), edge: "test", session: "1")

    private func backEnds(
        _ all: [Saying], binding: ChannelBindingMode = .offer, guesses: GuessWatch? = nil
    ) -> BackEnds {
        BackEnds(
            all, mechanisms: SASLMechanism.allCases, binding: binding,
            context: SASLContext(
                listed: [], inventing: SecretOctets([1]), iterations: 4096, hostname: "mx.example.org"),
            guesses: guesses)
    }

    private func step(_ exchange: any AuthenticationExchange, _ step: Step) async -> AuthenticationOutcome {
        await withCheckedContinuation { continuation in
            exchange.take(step) { continuation.resume(returning: $0) }
        }
    }

    private func octets(_ text: String) -> SecretOctets { SecretOctets(Array(text.utf8)) }

    private func plain(_ all: [Saying]) async -> AuthenticationOutcome {
        let exchange = backEnds(all).exchange(on: Self.facts)
        return await step(exchange, .begin(.plain, initialResponse: octets("\0U\0p"), listed: [.plain]))
    }

    @Test func theFirstThatSaysYesIsBelieved() async {
        let right = Saying(name: "b", verdict: .right(Self.user))
        for all in [[right], [Saying(name: "a"), right], [Saying(name: "a", verdict: .unavailable("down")), right]] {
            let outcome = await plain(all)
            #expect(outcome.result == .right(Self.user.known(to: "b")) && outcome.login == "U")
        }
    }

    @Test func whoCannotBeAskedIsNotANo() async {
        let down = Saying(name: "a", verdict: .unavailable("down"))
        #expect(await plain([Saying(name: "a"), Saying(name: "b")]).result == .wrong)
        #expect(
            await plain([down, Saying(name: "b")]) == AuthenticationOutcome(.undecided, login: "U", reason: "down"))
        #expect(await plain([down]) == AuthenticationOutcome(.unavailable, login: "U", reason: "down"))
        let refused = Saying(name: "c", verdict: .refused("expired"))
        let right = Saying(name: "d", verdict: .right(Self.user))
        #expect(await plain([down, refused, right]).result == .refused("expired"))
    }

    @Test func whoDoesNotAnswerIsNotWaitedFor() async {
        let hanging = Saying(name: "slow", timeout: .milliseconds(5), verdict: nil)
        let outcome = await plain([hanging])
        #expect(outcome.result == .unavailable && outcome.reason?.hasPrefix("slow has not answered") == true)
        let right = Saying(name: "b", verdict: .right(Self.user))
        #expect(await plain([hanging, right]).result == .right(Self.user.known(to: "b")))
    }

    /// Nothing that is known at once costs a change of thread.
    @Test func whatIsKnownAtOnceIsAnsweredAtOnce() {
        let answer = Mutex<AuthenticationOutcome?>(nil)
        backEnds([Saying(name: "a")]).exchange(on: Self.facts)
            .take(.begin(.plain, initialResponse: octets("\0u\0p"), listed: [])) { outcome in
                answer.withLock { $0 = outcome }
            }
        #expect(answer.withLock { $0?.result } == .wrong)
    }

    @Test func whatIsOffered() {
        let plus: [SASLMechanism] = [.scramSHA256Plus]
        var tls = Self.facts
        tls.connection.tls = TLSFacts(TLSDescription(version: "TLSv1.3", cipher: "x"))
        let all = backEnds([Saying(name: "a")])
        #expect(all.mechanisms(on: tls) == plus + [.scramSHA256, .plain, .login])
        #expect(all.mechanisms(on: Self.facts) == [.scramSHA256, .plain, .login])
        tls.connection.tls = TLSFacts(TLSDescription(version: "TLSv1.2", cipher: "x"))
        #expect(all.mechanisms(on: tls) == [.scramSHA256, .plain, .login])
        let proxy = ProxyFacts(endpoint: .unix)
        var behind = ConnectionFacts(peer: .unix, local: .unix, proxy: proxy)
        behind.tls = TLSFacts(TLSDescription(version: "TLSv1.3", cipher: "x"))
        tls.connection = behind
        #expect(all.mechanisms(on: tls) == [.scramSHA256, .plain, .login])
        tls.connection = ConnectionFacts(peer: nil, local: nil)
        tls.connection.tls = TLSFacts(TLSDescription(version: "TLSv1.3", cipher: "x"))
        #expect(backEnds([Saying(name: "a")], binding: .off).mechanisms(on: tls) == [.scramSHA256, .plain, .login])
        #expect(backEnds([Saying(name: "a")], binding: .require).mechanisms(on: tls) == plus + [.plain, .login])
        #expect(backEnds([Saying(name: "a", serves: [.login])]).mechanisms(on: tls) == [.login])
        #expect(backEnds([]).mechanisms(on: tls) == [])
    }

    // MARK: Who may not log in

    /// Only who bars it says what is wrong; nobody else lets it in, whoever comes first and whatever he calls it.
    @Test func whoIsBarredIsInByNobody() async {
        let right = Saying(name: "b", verdict: .right(Self.user))
        let barring = Saying(name: "a", barred: ["U"])
        let telling = Saying(name: "a", verdict: .refused("disabled"), barred: ["U"])
        for all in [[barring, right], [right, barring]] { #expect(await plain(all).result == .wrong) }
        for all in [[telling, right], [right, telling]] { #expect(await plain(all).result == .refused("disabled")) }
        // By the name that the back end has for it, and where who bars it serves no such mechanism.
        #expect(await plain([Saying(name: "a", barred: ["u"]), right]).result == .wrong)
        #expect(await plain([Saying(name: "a", serves: [], barred: ["U"]), right]).result == .wrong)
        #expect(await plain([Saying(name: "a", barred: ["other"]), right]).result == .right(Self.user.known(to: "b")))
    }

    @Test func whoIsBarredHasNoKeys() async {
        let keys = SCRAMKeys(password: "p".utf8, .sha256, iterations: 5000)
        let barring = Saying(name: "a", barred: ["u"])
        let holding = Holding([.challenge(Array("one".utf8)), .verdict(.right(Self.user))])
        for other in [Saying(name: "b", known: ["u": keys]), Saying(name: "d", exchange: holding)] {
            let (exchange, outcome) = await begin([barring, other])
            #expect(challenge(outcome).hasSuffix(",i=4096"), "invented")
            #expect(await step(exchange, .response(octets("c=biws,r=abc,p=AAAA"))).result == .wrong)
        }
        #expect(holding.heard == [])
        // Dovecot may know the login by another name.
        let (exchange, _) = await begin([
            Saying(name: "a", barred: ["other"]),
            Saying(
                name: "d",
                exchange: Holding([
                    .challenge(Array("one".utf8)), .verdict(.right(AuthenticatedUser(login: "other"))),
                ])),
        ])
        #expect(await step(exchange, .response(octets("proof"))).result == .wrong)
    }

    // MARK: Secrets, and who holds the exchange

    private func begin(_ all: [Saying]) async -> (any AuthenticationExchange, AuthenticationOutcome) {
        let exchange = backEnds(all).exchange(on: Self.facts)
        let outcome = await step(
            exchange, .begin(.scramSHA256, initialResponse: octets("n,,n=u,r=abc"), listed: [.scramSHA256]))
        return (exchange, outcome)
    }

    private func challenge(_ outcome: AuthenticationOutcome) -> String {
        guard case .challenge(let octets) = outcome.result else { return "\(outcome.result)" }
        return String(decoding: octets, as: UTF8.self)
    }

    @Test func keysOfTheFirstThatKnowsTheLogin() async {
        let keys = SCRAMKeys(password: "p".utf8, .sha256, iterations: 5000)
        let (exchange, outcome) = await begin([Saying(name: "a"), Saying(name: "b", known: ["u": keys])])
        #expect(challenge(outcome).hasSuffix(",i=5000"))
        #expect(await step(exchange, .response(octets("c=biws,r=abc,p=AAAA"))).result == .wrong)
        // Behind its end there is nothing.
        #expect(await step(exchange, .response(octets("x"))).result == .unavailable)
    }

    /// Whom nobody knows has a salt all the same, and is refused at the proof.
    @Test func nobodysKeys() async {
        let (exchange, outcome) = await begin([Saying(name: "a")])
        #expect(challenge(outcome).hasSuffix(",i=4096"))
        #expect(await step(exchange, .cancelled(Reply(501, nil, "x"))).result == .wrong, "a try that failed")
    }

    @Test func aBackEndThatKnowsTheLoginGoesOn() async {
        let holding = Holding([
            .challenge(Array("one".utf8)), .challenge(Array("two".utf8)), .verdict(.right(Self.user)),
        ])
        let (exchange, outcome) = await begin([Saying(name: "a"), Saying(name: "d", exchange: holding)])
        #expect(challenge(outcome) == "one")
        #expect(challenge(await step(exchange, .response(octets("proof")))) == "two")
        let end = await step(exchange, .response(octets("")))
        #expect(end.result == .right(Self.user.known(to: "d")))
        #expect(holding.heard == ["n,,n=u,r=abc", "proof", ""])
    }

    /// A server that says at once that there is no such user shows it to nobody.
    @Test func aBackEndThatDoesNotKnowTheLogin() async {
        let (_, outcome) = await begin([Saying(name: "d", exchange: Holding([.verdict(.wrong)]))])
        #expect(challenge(outcome).hasSuffix(",i=4096"))
        let (_, down) = await begin([Saying(name: "d", exchange: Holding([.verdict(.unavailable("down"))]))])
        #expect(down.result == .unavailable && down.reason == "down")
    }

    @Test func whoIsGoneNeedsNoAnswer() async {
        for isCancelled in [true, false] {
            let holding = Holding([.challenge([1])])
            let (exchange, _) = await begin([Saying(name: "d", exchange: holding)])
            if isCancelled { _ = await step(exchange, .cancelled(Reply(501, nil, "x"))) } else { exchange.abandon() }
            #expect(holding.isCancelled)
        }
    }

    @Test func aBoundExchangeThatIsCancelledNamesTheSwitch() async {
        let exchange = backEnds([Saying(name: "a")]).exchange(on: Self.facts)
        let first = await step(exchange, .begin(.scramSHA256Plus, initialResponse: nil, listed: [.scramSHA256Plus]))
        #expect(first.result == .challenge([]))
        let outcome = await step(exchange, .cancelled(Reply(501, nil, "x")))
        #expect(outcome.result == .malformed && outcome.reason?.contains("channel_binding") == true)
    }

    // MARK: Guesses

    private static func client(_ session: String, from address: String = "192.0.2.1") -> AuthenticationFacts {
        AuthenticationFacts(
            connection: ConnectionFacts(peer: try? SocketAddress(ipAddress: address, port: 1), local: nil),
            edge: "test",
            session: session)
    }

    private func watch(_ change: (inout GuessMachine.Limits) -> Void = { _ in }) -> GuessWatch {
        var limits = GuessMachine.Limits()
        change(&limits)
        return GuessWatch(limits, Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
    }

    /// Each way to fail counts as one failure, whatever the mechanism and whoever holds the exchange.
    @Test func everyMechanismCounts() async {
        let watch = watch()
        func exchange(_ saying: Saying, _ number: Int) -> any AuthenticationExchange {
            backEnds([saying], guesses: watch).exchange(on: Self.client("\(number)"))
        }
        let all = Saying(name: "a", serves: Set(SASLMechanism.allCases))
        let plain = await step(
            exchange(all, 1), .begin(.plain, initialResponse: octets("\0u\0p"), listed: [.plain]))
        #expect(plain.result == .wrong && plain.failures == 1)

        let scram = exchange(all, 2)
        let first = await step(scram, .begin(.scramSHA256, initialResponse: octets("n,,n=u,r=abc"), listed: []))
        #expect(first.failures == nil)
        #expect(await step(scram, .response(octets("c=biws,r=abc,p=AAAA"))).failures == 2)

        let cancelled = exchange(all, 3)
        _ = await step(cancelled, .begin(.scramSHA256, initialResponse: octets("n,,n=u,r=abc"), listed: []))
        #expect(await step(cancelled, .cancelled(Reply(501, nil, "x"))).failures == 3)

        let token = exchange(all, 4)
        _ = await step(
            token,
            .begin(.oauthBearer, initialResponse: octets("n,a=u,\u{1}auth=Bearer t\u{1}\u{1}"), listed: []))
        let refused = await step(token, .response(octets("\u{1}")))
        #expect(refused.result == .wrong && refused.failures == 4)

        let external = await step(
            exchange(all, 5), .begin(.external, initialResponse: octets("u"), listed: []))
        #expect(external.result == .wrong && external.failures == 5)

        let md5 = Saying(
            name: "d", serves: [.cramMD5], exchange: Holding([.challenge(Array("<1@x>".utf8)), .verdict(.wrong)]))
        let held = exchange(md5, 6)
        _ = await step(held, .begin(.cramMD5, initialResponse: nil, listed: []))
        let end = await step(held, .response(octets("U abcdef")))
        #expect(end.result == .wrong && end.failures == 6 && end.login == "U")
        #expect(watch.findings().map(\.name) == ["192.0.2.1"])
    }

    /// Who guesses while a back end is away does not do so for nothing.
    @Test func aBackEndThatIsAwayHidesNoGuess() async {
        let (watch, strict) = (watch(), self.watch { ($0.strikes, $0.longestAddressPause) = (3, .milliseconds(1)) })
        let down = Saying(name: "a", verdict: .unavailable("down"))
        for number in 1...3 {
            let exchange = backEnds([down, Saying(name: "b")], guesses: watch).exchange(on: Self.client("\(number)"))
            let outcome = await step(exchange, .begin(.plain, initialResponse: octets("\0u\0p\(number)"), listed: []))
            #expect(outcome.result == .undecided && outcome.failures == number)
        }
        // Nor is he, who may be right, turned away.
        for number in 1...20 {
            let exchange = backEnds([down, Saying(name: "b")], guesses: strict).exchange(on: Self.client("\(number)"))
            _ = await step(exchange, .begin(.plain, initialResponse: octets("\0u\(number)\0p"), listed: []))
        }
        #expect(strict.findings().allSatisfy { $0.until == nil })
        let holding = Holding([.challenge([1])])
        let exchange = backEnds([Saying(name: "d", exchange: holding)], guesses: watch).exchange(on: Self.client("4"))
        _ = await step(exchange, .begin(.scramSHA256, initialResponse: octets("n,,n=u,r=abc"), listed: []))
        let outcome = await step(exchange, .cancelled(Reply(501, nil, "x")))
        #expect(outcome.result == .wrong && outcome.failures == 4, "to break off behind the first answer is a try")
    }

    /// Who keeps one busy to the end of its time waits for the next try; it is no wrong password.
    @Test func aBackEndThatIsKeptBusy() async {
        let watch = watch { ($0.addressFailures, $0.longestAddressPause) = (2, .milliseconds(1)) }
        let hanging = Saying(name: "pam", verdict: .exhausting("late"))
        for all in [[hanging], [Saying(name: "file"), hanging]] {
            for number in 0..<4 {
                let exchange = backEnds(all, guesses: watch).exchange(on: Self.client("\(all.count) \(number)"))
                let outcome = await step(exchange, .begin(.plain, initialResponse: octets("\0u\0p"), listed: []))
                #expect(outcome.result == (all.count == 1 ? .unavailable : .undecided) && outcome.reason == "late")
                #expect(outcome.failures == nil || all.count == 2 && number == 0)
            }
        }
        let found = watch.findings()
        #expect(found.map(\.name) == ["192.0.2.1"] && found.allSatisfy { $0.failures == 8 && $0.until == nil })
    }

    /// What says nothing of a password does not count, and leaves nothing behind.
    @Test func whatIsNoGuess() async {
        let watch = watch { $0.inHand = 2 }
        for verdict in [CredentialVerdict.unavailable("down"), .refused("expired"), .right(Self.user)] {
            for number in 0..<10 {
                let exchange = backEnds([Saying(name: "a", verdict: verdict)], guesses: watch)
                    .exchange(on: Self.client("\(number)"))
                let outcome = await step(
                    exchange, .begin(.plain, initialResponse: octets("\0u\0p\(number)"), listed: []))
                #expect(outcome.failures == nil && outcome.reason?.hasPrefix("too many") != true)
            }
        }
        // A client that goes away in the middle.
        for number in 0..<10 {
            let exchange = backEnds([Saying(name: "a")], guesses: watch).exchange(on: Self.client("\(number)"))
            let outcome = await step(
                exchange, .begin(.scramSHA256, initialResponse: octets("n,,n=u,r=abc"), listed: []))
            #expect(challenge(outcome).hasSuffix("i=4096"))
            exchange.abandon()
        }
        #expect(watch.findings().isEmpty)
    }

    @Test func whoGuessesIsTurnedAway() async {
        let watch = watch { $0.strikes = 3 }
        let backEnds = backEnds([Saying(name: "a")], guesses: watch)
        let peer = Self.client("").connection.peer
        for number in 0..<3 {
            #expect(backEnds.turnsAway(peer, isTrusted: false) == nil)
            let outcome = await step(
                backEnds.exchange(on: Self.client("\(number)")),
                .begin(.plain, initialResponse: octets("\0u\(number)\0p"), listed: []))
            #expect(outcome.result == .wrong)
        }
        #expect(backEnds.turnsAway(peer, isTrusted: false)?.code == 421)
        #expect(backEnds.turnsAway(peer, isTrusted: true) == nil)
        let exchange = backEnds.exchange(on: Self.client("x"))
        #expect(
            await step(exchange, .begin(.plain, initialResponse: octets("\0u\0p"), listed: [])).result == .turnedAway)
        #expect(watch.takeRecord()?.hasPrefix("banned 192.0.2.1/32 ") == true && watch.takeRecord() == nil)
        watch.recordIsLost()
        #expect(watch.takeRecord()?.isEmpty == false, "what could not be written is to be written still")
        #expect(watch.release("192.0.2.1"))
        #expect(backEnds.turnsAway(peer, isTrusted: false) == nil)
    }

    /// Waiting needs no thread, and ends when the client goes away.
    @Test func whoWaitsIsAnsweredOrGone() async {
        let watch = watch { ($0.addressFailures, $0.longestAddressPause) = (0, .milliseconds(20)) }
        let backEnds = backEnds([Saying(name: "a")], guesses: watch)
        for number in 0..<5 {
            let exchange = backEnds.exchange(on: Self.client("\(number)"))
            let outcome = await step(exchange, .begin(.plain, initialResponse: octets("\0u\0\(number)"), listed: []))
            #expect(outcome.result == .wrong && outcome.failures == number + 1)
        }
        let long = self.watch { ($0.addressFailures, $0.longestDelay) = (0, .seconds(3600)) }
        let others = self.backEnds([Saying(name: "a")], guesses: long)
        for number in 0..<2 {
            let exchange = others.exchange(on: Self.client("\(number)"))
            async let outcome = step(exchange, .begin(.plain, initialResponse: octets("\0u\0\(number)"), listed: []))
            if number == 1 { exchange.abandon() }
            let result = await outcome.result
            #expect(result == (number == 0 ? .wrong : .unavailable))
        }
    }
}
