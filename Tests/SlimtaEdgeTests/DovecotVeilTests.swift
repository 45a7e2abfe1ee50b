// SCRAM with a Dovecot that takes longer for names that it does not know: no time may show it, and nobody whom it knows is
// told that the password is wrong.

import SlimtaSASL
import Testing

@testable import SlimtaEdge

/// Says one thing, after a time.
private struct Slow: BackEndExchange {
    let time: Duration
    let step: BackEndStep

    func received(_ response: SecretOctets?) async -> BackEndStep {
        try? await Task.sleep(for: time)
        return step
    }

    func cancel() {}
}

@Suite struct DovecotVeilTests {
    private static let challenge = BackEndStep.challenge([1])

    private func first(
        _ slow: Slow, _ pace: DovecotPace, failing: Slow = Slow(time: .zero, step: .verdict(.wrong))
    ) async -> (VeiledDovecotExchange, BackEndStep, Duration) {
        let exchange = VeiledDovecotExchange(slow, failing: failing, pace)
        let began = ContinuousClock.now
        let step = await exchange.received(SecretOctets([]))
        return (exchange, step, ContinuousClock.now - began)
    }

    @Test func theFirstAnswerTakesItsTimeWhateverItIs() async {
        for step in [Self.challenge, .verdict(.wrong)] {
            let (_, said, time) = await first(Slow(time: .zero, step: step), DovecotPace())
            // On a machine that stands still, what comes late is as if it had not come.
            #expect((said == step || said == .verdict(.wrong)) && time >= .milliseconds(100))
        }
    }

    /// As late as for a wrong proof of somebody whom Dovecot knows: another exchange begins with the proof.
    @Test(arguments: [BackEndStep.verdict(.wrong), Self.challenge, .verdict(.unavailable("down"))])
    func aStrangerIsRefusedWhenDovecotDoes(_ step: BackEndStep) async {
        let no = Slow(time: .zero, step: .verdict(.wrong))
        let (exchange, said, _) = await first(no, DovecotPace(), failing: Slow(time: .milliseconds(400), step: step))
        #expect(said == .verdict(.wrong))
        let proof = ContinuousClock.now
        #expect(await exchange.refusal() == .wrong)
        #expect(ContinuousClock.now - proof >= .milliseconds(400))
    }

    @Test func aUserWhomDovecotFindsLateIsToComeAgain() async {
        let pace = DovecotPace()
        let (exchange, said, _) = await first(Slow(time: .milliseconds(400), step: Self.challenge), pace)
        guard said == .verdict(.wrong) else { return }
        let verdict = await exchange.refusal()
        #expect(verdict == .unavailable("Dovecot has not said in time who it is"))
        #expect(pace.now >= .milliseconds(800))
        let (_, again, _) = await first(Slow(time: .milliseconds(1), step: Self.challenge), pace)
        #expect(again == Self.challenge)
    }

    @Test func whatDovecotCannotSayIsSaid() async {
        let down = BackEndStep.verdict(.unavailable("down"))
        let (_, said, _) = await first(Slow(time: .zero, step: down), DovecotPace())
        #expect(said == down || said == .verdict(.wrong))
        let (exchange, late, _) = await first(Slow(time: .milliseconds(400), step: down), DovecotPace())
        guard late == .verdict(.wrong) else { return }
        #expect(await exchange.refusal() == .unavailable("down"))
    }
}
