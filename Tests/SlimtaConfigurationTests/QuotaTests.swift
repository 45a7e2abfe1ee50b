// [quota]: what it says where it says nothing, each key, mistakes, and what does nothing.

import SlimtaMail
import SlimtaRules
import Testing

@testable import SlimtaConfiguration

@Suite struct QuotaTests {
    private let edge = """
        [[edge]]
        name = "s"
        type = "smtp"
        listen = ["127.0.0.1:2525"]
        tls = "none"
        auth = "required"
        plaintext_auth = true

        """

    private func parsed(_ text: String) throws -> Configuration {
        try Configuration.parse(edge + text, file: "slimta.conf")
    }

    private func mistakes(_ text: String) -> [String] {
        Configuration.Understood(edge + text, file: "slimta.conf").mistakes.errors.map {
            "\($0.keyPath): \($0.found); \($0.allowed)"
        }
    }

    @Test func nothingIsCountedWithoutIt() throws {
        #expect(try parsed("").quota == nil)
        #expect(try parsed("[quota]\n").quota == QuotaRules())
        #expect(try parsed("[quota.hard]\n").quota == QuotaRules())
        #expect(try parsed("[quota]\n").warnings.isEmpty)
    }

    @Test func everyKey() throws {
        let quota = try #require(
            try parsed(
                """
                [quota]
                action = "refuse"
                notify = "postmaster@example.com"
                held_messages = 10
                held_size = "1MiB"
                learning = "0s"
                learning_recipients = 0
                [quota.soft]
                messages = { per_hour = 10 }
                recipients = "none"
                new_recipients = { per_day = "none" }
                refused = { per_hour = 5, per_day = 50 }
                networks = { per_day = 20 }
                [quota.hard]
                messages = "none"
                [quota.breaker]
                refused_share = "none"
                new_recipients = { per_hour = 7 }
                [[quota.except]]
                logins = "app-*"
                [[quota.except]]
                logins = ["a", "b"]
                networks = ["192.0.2.0/24"]
                hard = { messages = { per_hour = 9 } }
                breaker = { refused_share = 30 }
                """
            ).quota)
        #expect(quota.action == .refuse && quota.heldMessages == 10 && quota.heldSize == 1 << 20)
        #expect(quota.notify?.text == "postmaster@example.com")
        #expect(quota.learning == .zero && quota.learningRecipients == 0)
        #expect(
            Set(quota.limits.soft) == [
                .init(.messages, .hour, 10), .init(.messages, .day, 1500), .init(.newRecipients, .hour, 60),
                .init(.refused, .hour, 5), .init(.refused, .day, 50), .init(.networks, .hour, 10),
                .init(.networks, .day, 20),
            ])
        #expect(Set(quota.limits.hard) == [.init(.recipients, .hour, 1000), .init(.recipients, .day, 5000)])
        #expect(Set(quota.limits.breaker) == [.init(.newRecipients, .hour, 7), .init(.newRecipients, .day, 300)])
        #expect(quota.limits.refusedShare == nil)
        #expect(quota.exceptions.count == 2 && quota.exceptions[0].limits.isEmpty)
        #expect(quota.exceptions[1].limits == QuotaLimits(hard: [.init(.messages, .hour, 9)], refusedShare: 30))
        #expect(quota.limits(of: .login("app-1")).isEmpty && quota.limits(of: .login("c")) == quota.limits)
    }

    @Test func mistakesAreTold() {
        #expect(mistakes("[quota]\naction = \"drop\"").first?.hasPrefix("quota.action: found \"drop\"") == true)
        #expect(
            mistakes("[quota.hard]\nmessages = 300").first?.contains("allowed is { per_hour = 100, per_day = 500 }")
                == true)
        // More than are told apart.
        #expect(mistakes("[quota.soft]\nnetworks = { per_hour = 256 }").first?.contains("1 to 255") == true)
        #expect(mistakes("[quota.hard]\nmessages = { per_hour = 0 }").first?.contains("a number from 1 to") == true)
        #expect(
            mistakes("[quota.hard]\nmessages = { per_minute = 1 }").first?.contains(
                "allowed in quota.hard.messages are per_day, per_hour") == true)
        #expect(
            mistakes("[quota.hard]\nmesages = 1").count == 1 && mistakes("[quota.hard]\nrefused_share = 1").count == 1)
        #expect(mistakes("[quota]\nnotify = \"postmaster\"").first?.contains("allowed is an address such as") == true)
        #expect(mistakes("[[quota.except]]\nhard = {}").first?.contains("required is logins or networks") == true)
        #expect(mistakes("[[quota.except]]\nnetworks = \"192.0.2.1/24\"").count == 1)
        #expect(mistakes("[quota]\nlearning = \"soon\"").count == 1 && mistakes("[quota]\nhard = 3").count == 1)
    }

    @Test func whatDoesNothing() throws {
        func warned(_ text: String) throws -> [String] { try parsed(text).warnings.map { "\($0.keyPath): \($0.text)" } }
        #expect(
            try warned("[quota.soft]\nmessages = { per_hour = 300 }") == [
                "quota.soft.messages: 300 per_hour is never exceeded: hard refuses more than 300"
            ])
        #expect(try warned("[quota.breaker]\nmessages = { per_hour = 300 }").count == 1)
        #expect(
            try warned("[quota.hard]\nrefused = { per_hour = 9, per_day = 9 }") == [
                "quota.hard.refused: per_hour = 9 does nothing: per_day = 9 is not more"
            ])
        #expect(
            try warned("[quota]\naction = \"refuse\"\nheld_messages = 9").first?.hasPrefix(
                "quota.action: held_messages") == true)
        let open = edge.replacing("auth = \"required\"\nplaintext_auth = true", with: "auth = \"none\"")
        let configuration = try Configuration.parse(open + "[[quota.except]]\nlogins = \"a\"", file: "slimta.conf")
        #expect(configuration.warnings.map(\.keyPath) == ["quota.except[0]"])
        let notify = "[quota]\nnotify = \"a@example.com\"\n"
        let unheard = try Configuration.parse(open + notify, file: "slimta.conf")
        #expect(unheard.warnings.map(\.keyPath) == ["quota.notify"])
        let none = "[quota.breaker]\nnew_recipients = \"none\"\nrefused_share = \"none\"\n"
        #expect(try warned(notify + none).first?.hasPrefix("quota.notify: nobody is told") == true)
        let one = "[[quota.except]]\nlogins = \"a\"\nbreaker = { refused_share = 30 }"
        #expect(try warned(notify + none + one).isEmpty && warned(notify).isEmpty)
        // Who has no login is never held.
        for line in [
            "action = \"refuse\"", "held_messages = 9", "held_size = \"1MB\"", "learning = \"1d\"",
            "learning_recipients = 9",
        ] {
            let found = try Configuration.parse(open + "[quota]\n\(line)", file: "f").warnings
            #expect(found.map(\.keyPath) == ["quota." + line.prefix { $0 != " " }])
            #expect(try parsed("[quota]\n\(line)").warnings.isEmpty)
        }
        #expect(try Configuration.parse(open + "[quota.hard]\nmessages = \"none\"", file: "f").warnings.isEmpty)
        #expect(
            try warned("[[quota.except]]\nnetworks = \"192.0.2.0/24\"\nsoft = { networks = { per_hour = 2 } }") == [
                "quota.except[0].soft.networks: it does nothing without logins: who has none is one address"
            ])
    }
}
