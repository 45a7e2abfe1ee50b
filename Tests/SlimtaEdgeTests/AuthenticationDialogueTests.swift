// How back ends are asked: in their order, no longer than they may take, and what follows for the client.

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

    private func backEnds(_ all: [Saying], binding: BackEnds.Binding = .offer) -> BackEnds {
        BackEnds(
            all, mechanisms: SASLMechanism.allCases, binding: binding,
            context: SASLContext(listed: [], inventing: SecretOctets([1]), iterations: 4096, hostname: "mx.example.org")
        )
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
            await plain([down, Saying(name: "b")]) == AuthenticationOutcome(.unavailable, login: "U", reason: "down"))
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
}
