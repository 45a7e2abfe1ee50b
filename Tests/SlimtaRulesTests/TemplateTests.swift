// Texts with placeholders: what may be written, and that nothing which a stranger writes gets out of its place.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct TemplateTests {
    @Test(arguments: [
        ("550 5.7.1 no mail from {client}", "550 5.7.1 no mail from {client}"), ("450 later", "450 4.7.1 later"),
        ("554  5.1.1  gone", "554 5.1.1 gone"), ("421 4.7.0 {rule}", "421 4.7.0 {rule}"),
    ])
    func replies(_ text: String, _ expected: String) throws {
        #expect(try ReplyTemplate(text).description == expected)
    }

    @Test(arguments: [
        ("250 fine", "code 250", "a code from 400 to 599"),
        ("600 5.7.1 no", "code 600", "a code from 400 to 599"),
        ("550", "\"550\"", "a code from 400 to 599 and a text, such as \"550 5.7.1 no mail from {client}\""),
        ("no", "\"no\"", "a code from 400 to 599 and a text, such as \"550 5.7.1 no mail from {client}\""),
        ("550 4.7.1 no", "4.7.1 behind 550", "an enhanced code that begins with 5"),
        ("550 5.7.1", "no text", "1 to 400 octets of text"),
        (
            "550 {foo} x", "\"{foo}\"",
            "no braces but those of {client} {ptr} {ehlo} {edge} {unique_id} {login} {sender} {recipient} {reason} {rule}"
        ),
        (
            "550 a } b", "\"}\"",
            "no braces but those of {client} {ptr} {ehlo} {edge} {unique_id} {login} {sender} {recipient} {reason} {rule}"
        ),
        ("550 a\r\n250 b", "\"a\\x0d\\x0a250 b\"", "printable ASCII"),
    ])
    func replyMistakes(_ text: String, _ found: String, _ allowed: String) {
        #expect(throws: RuleError(found, allowed)) { try ReplyTemplate(text) }
    }

    @Test(arguments: [
        ("no colon", "\"no colon\""), ("X A: b", "the name \"X A\""), (": b", "the name \"\""),
        ("X-A:", "a value of 0 octets"),
        ("Subject: x", "the field Subject, of which a message has its own and no second one"),
        ("X-A: b\r\nBcc: x", "\"b\\x0d\\x0aBcc: x\""),
    ])
    func fieldMistakes(_ text: String, _ found: String) {
        do {
            _ = try FieldTemplate(text)
            Issue.record("\(text) is a field")
        } catch { #expect(error.found == found) }
    }

    /// Whatever stands in for a placeholder is printable ASCII, and is not read for placeholders again.
    @Test func valuesStayInTheirPlace() throws {
        let template = try Template("<{ehlo}>")
        for (value, expected) in [
            ("a\r\nb", "<a\\u{000d}\\u{000a}b>"), ("{login}", "<{login}>"), ("\u{202E}\u{FC}", "<\\u{202e}\\u{00fc}>"),
            ("", "<>"), (String(repeating: "x", count: 500), "<\(String(repeating: "x", count: 200))>"),
        ] { #expect(template.filled { _ in value } == expected) }
    }

    @Test func repliesAreFolded() throws {
        let template = try Template("{ehlo} {ehlo} {ehlo}")
        let word = String(repeating: "y", count: 200)
        #expect(template.lines { _ in word } == ["\(word) \(word)", word])
        let long = try Template(String(repeating: "{ehlo}", count: 60))
        let lines = long.lines { _ in word }
        #expect(lines.allSatisfy { $0.utf8.count <= 480 } && lines.joined().utf8.count == 2000)
    }

    @Test(arguments: [
        ("X-A: b", "X-A: b\r\n"), ("X-A: {ehlo}", "X-A:\r\n"),
        ("X-Empty:   two  words ", "X-Empty: two words\r\n"),
        (
            "X-Long: \(String(repeating: "word ", count: 18))",
            "X-Long: \(Array(repeating: "word", count: 14).joined(separator: " "))\r\n word word word word\r\n"
        ),
        (
            "X-Word: \(String(repeating: "w", count: 80)) b",
            "X-Word:\r\n \(String(repeating: "w", count: 80))\r\n b\r\n"
        ),
    ])
    func fields(_ text: String, _ expected: String) throws {
        #expect(try FieldTemplate(text).field { _ in "" } == expected)
    }

    @Test func fieldsHaveNoLongLine() throws {
        let field = try FieldTemplate("X: " + String(repeating: "{ehlo}", count: 80)).field { _ in
            String(repeating: "z", count: 200)
        }
        let lines = field.split(separator: "\r\n")
        #expect(lines.allSatisfy { $0.utf8.count <= 998 } && lines.dropFirst().allSatisfy { $0.hasPrefix(" ") })
    }

    @Test(arguments: [("{recipient}", Stage.mail, "rcpt"), ("{sender}", .auth, "mail"), ("{ehlo}", .connect, "ehlo")])
    func placeholdersHaveAFirstStage(_ text: String, _ stage: Stage, _ first: String) throws {
        let action = Action.reply(try ReplyTemplate("550 \(text)"))
        let error = action.problem(at: stage)
        #expect(error == RuleError("\(text) at \(stage.rawValue), where it is not known", "it from \(first) on"))
        if text != "{recipient}" {
            #expect(Action.addField(try FieldTemplate("X: \(text)")).problem(at: stage) == error)
        }
        #expect(action.problem(at: .data) == nil)
    }

    /// A message is one for all of its recipients.
    @Test(arguments: [Stage.mail, .rcpt, .data, .message]) func fieldsShowNoRecipient(_ stage: Stage) throws {
        let action = Action.addField(try FieldTemplate("X-To: for {recipient}"))
        #expect(
            action.problem(at: stage)
                == RuleError("{recipient} in a field, which shows recipients to each other", "it in replies"))
    }
}
