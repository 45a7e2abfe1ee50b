// `[spf]`: every result at every stage, for who has logged in and who has not.

import SlimtaMail
import SlimtaRules
import Testing

@Suite struct SPFEnforcementTests {
    private static func facts(_ spf: SPFFact?, login: String?) -> Facts {
        var facts = Facts(client: .unix, edge: "e", now: LocalTime(.mon, minute: 0))
        (facts.spf, facts.login, facts.sender) = (spf, login, .null)
        return facts
    }

    @Test(arguments: SPFResult.allCases, Stage.allCases) func table(result: SPFResult, stage: Stage) throws {
        let replies: [SPFResult: ReplyTemplate] = [
            .fail: try ReplyTemplate(550, "5.7.23 {reason}"), .softfail: try ReplyTemplate(451, "4.7.24 {ptr}"),
        ]
        let fact = SPFFact(result, reason: "why", receivedSPF: result == .none ? nil : "Received-SPF: x\r\n")
        for includesAuthenticated in [false, true] {
            for addsField in [false, true] {
                for login in [nil, "alice"] {
                    let spf = SPFEnforcement(
                        replies: replies, includesAuthenticated: includesAuthenticated, addsField: addsField)
                    let isAsked = login == nil || includesAuthenticated
                    let unknown = spf.evaluate(stage, Self.facts(nil, login: login))
                    let known = spf.evaluate(stage, Self.facts(fact, login: login))
                    switch stage {
                    case .mail where isAsked:
                        #expect(unknown == .needs([.spf]))
                        switch result {
                        case .fail: #expect(known == .refuse(Reply(550, .init(5, 7, 23), "why"), .fail))
                        // What only the reply needs is looked up only for it.
                        case .softfail: #expect(known == .needs([.ptr]))
                        case .none, .neutral, .pass, .temperror, .permerror: #expect(known == .goOn)
                        }
                    case .message where isAsked && addsField:
                        #expect(unknown == .needs([.spf]))
                        #expect(known == (result == .none ? .goOn : .addField("Received-SPF: x\r\n")))
                    case .connect, .ehlo, .starttls, .auth, .mail, .rcpt, .data, .message:
                        #expect(unknown == .goOn && known == .goOn)
                    }
                }
            }
        }
    }

    /// Without replies nothing waits at MAIL.
    @Test func stages() {
        let spf = SPFEnforcement(replies: [:], includesAuthenticated: true, addsField: true)
        #expect(spf.stages == [.message] && spf.evaluate(.mail, Self.facts(nil, login: nil)) == .goOn)
    }
}
