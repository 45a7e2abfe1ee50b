// Commands with placeholders: what is put where, and what is never taken for an option.

import Testing

@testable import SlimtaMail

@Suite struct CommandTemplateTests {
    private func values(_ recipient: String, from sender: String? = "s@x.test") -> CommandValues {
        CommandValues(
            sender: sender.map { Mailbox(parsing: $0)! }, recipient: Mailbox(parsing: recipient)!,
            queueID: QueueID(high: 1, low: 2))
    }

    private func filled(_ words: [String], _ values: CommandValues) throws -> [String] {
        try CommandTemplate(words).filled(values)
    }

    @Test func oneWordIsOneArgument() throws {
        let words = [
            "/bin/x", "{sender}", "<{recipient}>", "{user}/{extension}", "{domain}", "id={queue_id}",
            "$(rm) *",
        ]
        #expect(
            try filled(words, values("\"two words+a b\"@b.test"))
                == [
                    "/bin/x", "s@x.test", "<\"two words+a b\"@b.test>", "two words/a b", "b.test",
                    "id=\(QueueID(high: 1, low: 2))", "$(rm) *",
                ])
        #expect(try filled(["{sender}", "{extension}"], values("a@b.test", from: nil)) == ["", ""])
        #expect(try filled(["{user}", "{extension}"], values("a+b+c@b.test")) == ["a", "b+c"])
    }

    @Test func noAddressIsAnOption() throws {
        let recipient = values("-rf@b.test", from: "-s@x.test")
        for word in ["{recipient}", "{user}", "{recipient}x", "{sender}"] {
            #expect(throws: CommandTemplate.LooksLikeOption.self) { try filled(["/x", word], recipient) }
            _ = try filled(["/x", "--", word], recipient)
            _ = try filled(["/x", "--to=\(word)"], recipient)
        }
        #expect(try filled(["/x", "-r{recipient}", "<{user}>"], recipient) == ["/x", "-r-rf@b.test", "<-rf>"])
        #expect(throws: CommandTemplate.LooksLikeOption(placeholder: .extension)) {
            try filled(["/x", "{extension}"], values("a+-b@b.test"))
        }
    }

    /// `-f{sender}` with the null sender would take the next word for its value.
    @Test(arguments: [
        ("-f{sender}", false), ("-e{extension}", false), ("--from{sender}{extension}", false),
        ("--from={sender}", true),
        ("{sender}", true), ("-r{recipient}", true), ("-f{sender}{user}", true), ("from{sender}", true), ("-x", true),
        ("{", false), ("}", false), ("{user", false), ("{User}", false), ("{}", false), ("a\0b", false),
        ("", true),
    ])
    func words(_ word: String, isOne: Bool) {
        #expect(((try? CommandTemplate(["/x", word])) != nil) == isOne, "\(word)")
    }

    @Test func mistakesSayWhich() {
        #expect(throws: CommandTemplate.Mistake.self) { try CommandTemplate(["/x", "{user}", "{uesr}"]) }
        do throws(CommandTemplate.Mistake) { _ = try CommandTemplate(["/x", "{uesr}"]) } catch {
            #expect(error.index == 1)
            #expect(error.found == "\"{uesr}\"")
            #expect(error.allowed.contains("{queue_id}"))
        }
    }

    @Test func valuesGoToAnotherProcess() {
        let values = values("a+b@c.test")
        #expect(CommandValues(values.all) == values)
        #expect(CommandValues(["a"]) == nil)
    }
}
