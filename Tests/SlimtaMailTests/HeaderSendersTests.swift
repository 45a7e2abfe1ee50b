// From and Sender of what a login sends: each way in which they can be written, under each setting.

import NIOCore
import Testing

@testable import SlimtaMail

@Suite struct HeaderSendersTests {
    private static let matching = SenderMatching()

    /// alice@x.test may send as herself and as anybody of own.test.
    private static func verdict(
        _ header: String, rights: [String]? = ["@own.test", "alice@x.test"], login: String = "alice",
        mailFrom: String? = "env@own.test", utf8: Bool = false, _ change: (inout SenderRules) -> Void
    ) throws -> String {
        var rules = SenderRules()
        rules.checksFrom = true
        change(&rules)
        var octets = ByteBuffer(string: header.replacing("|", with: "\r\n") + "\r\n\r\nbody\r\n")
        let senders = try #require(rules.header(of: login, rights.map { SenderRights($0) }))
        let edits: [HeaderSenders.Edit]
        do throws(HeaderSenders.Refusal) {
            edits = try senders.edits(
                of: HeaderBlock(scanning: octets), in: octets, mailFrom: mailFrom.flatMap { Mailbox(parsing: $0) },
                allowsUTF8: utf8)
        } catch {
            #expect(error.reply.code == 550)
            return "\(error.reply.effectiveStatus) \(error.reply.text)"
        }
        // As SlimtaPolicy makes them.
        var text = ""
        var offset = 0
        for edit in edits {
            #expect(edit.octets.lowerBound >= offset)
            text += octets.readString(length: edit.octets.lowerBound - offset)! + edit.text
            octets.moveReaderIndex(forwardBy: edit.octets.count)
            offset = edit.octets.upperBound
        }
        text += String(buffer: octets)
        guard text.hasSuffix("\r\n\r\nbody\r\n") else { return text }
        return text.replacing("\r\n\r\nbody\r\n", with: "").replacing("\r\n", with: "|")
    }

    private static let other = "<bob@x.test> in From is not a sender that login alice may use"
    private static let otherSender = "<bob@x.test> in Sender is not a sender that login alice may use"
    private static let routed = "The From field has a route before an address"
    private static let rival = "The From field has a name with an @ that needs quotes"
    private static let several = "The From field has several addresses, and no Sender says which one sends"
    private static let nobody = "The From field has no address, and no Sender says who sends"

    /// What comes; and what is said to it, or nothing if it stays as it is. Where a Sender may be added: what becomes of it.
    static let headers: [(header: String, refusal: String, added: String)] = [
        ("From: alice@x.test", "", ""), ("fRoM : Alice <ALICE@X.test>", "", ""),
        ("From: \"alice\"@x.test", "", ""), ("From: (c) any(one)@own.test (d)", "", ""),
        ("From:|\t=?utf-8?q?bob=40x=2Etest?=|  <alice@x.test>", "", ""),
        ("From: \"bob@x.test\" <alice@x.test>", "", ""),
        ("From: bob@x.test", "5.7.1 \(other)", ""), ("From: alice <bob@x.test>", "5.7.1 \(other)", ""),
        // What some programs show, or answer to, in place of the address.
        ("From: <@x.test,@own.test:bob@x.test>", "5.6.0 \(routed)", ""),
        ("From: <@ceo@corp.test,@x:alice@x.test>", "5.6.0 \(routed)", ""),
        ("From: <,@x:alice@x.test>", "5.6.0 \(routed)", ""),
        ("From: ceo@corp.test <alice@x.test>", "5.6.0 \(rival)", ""),
        ("From: ceo @ corp.test (c) <alice@x.test>", "5.6.0 \(rival)", ""),
        ("From: \"ceo\"@corp.test <alice@x.test>", "5.6.0 \(rival)", ""),
        ("From: The ceo@corp.test <alice@x.test>", "5.6.0 \(rival)", ""),
        ("From: \"The\" any@own.test <alice@x.test>", "5.6.0 \(rival)", ""),
        ("From: [ceo@corp.test] <alice@x.test>", "5.6.0 \(rival)", ""),
        ("From: alice@x.test, g: ceo@corp.test <any@own.test>;|Sender: alice@x.test", "5.6.0 \(rival)", ""),
        ("From: any@own.test <alice@x.test>", "", ""), ("From: ALICE@X.test <alice@x.test>", "", ""),
        ("From: (ceo@corp.test) <alice@x.test>", "", ""), ("From: alice@x.test (ceo@corp.test)", "", ""),
        (
            "From: alice@x.test|Sender: ceo@corp.test <alice@x.test>",
            "5.6.0 The Sender field has a name with an @ that needs quotes", ""
        ),
        ("From: bob@x.test <bob@X.test>, alice@x.test|Sender: alice@x.test", "", ""),
        (
            "From: alice@own.test.evil.example",
            "5.7.1 <alice@own.test.evil.example> in From is not a sender that login alice may use", ""
        ),
        // Sender is the login's, or it is refused; it does not make a single From anybody's.
        ("From: alice@x.test|Sender: any@own.test", "", ""),
        ("From: alice@x.test|Sender: bob@x.test", "5.7.1 \(otherSender)", ""),
        ("From: bob@x.test|Sender: alice@x.test", "5.7.1 \(other)", ""),
        ("Sender: bob@x.test", "5.7.1 \(otherSender)", ""),
        ("From: alice@x.test|Sender: alice@x.test, any@own.test", "5.6.0 The Sender field needs one address", ""),
        ("From: alice@x.test|Sender:", "5.6.0 The Sender field needs one address", ""),
        ("From: alice@x.test|Sender: g:;", "5.6.0 The Sender field needs one address", ""),
        (
            "From: alice@x.test" + String(repeating: " ", count: 1 << 16),
            "5.6.0 The From field has more than 65536 octets", ""
        ),
        // Two fields.
        ("From: alice@x.test|From: alice@x.test", "5.6.0 The header has two From fields", ""),
        ("From: alice@x.test|Subject: x|FROM : bob@x.test", "5.6.0 The header has two From fields", ""),
        ("From: alice@x.test|Sender: alice@x.test|sender: alice@x.test", "5.6.0 The header has two Sender fields", ""),
        // Several addresses.
        ("From: alice@x.test, any@own.test", "5.6.0 \(several)", "Sender: alice@x.test|"),
        ("From: alice@x.test, bob@x.test", "5.7.1 \(other)", ""),
        ("From: bob@x.test, alice@x.test|Sender: any@own.test", "", ""),
        ("From: alice@x.test, any@own.test|Sender: any@own.test", "", ""),
        ("From: bob@x.test, bob@y.test|Sender: alice@x.test", "5.7.1 \(other)", ""),
        ("From: g: alice@x.test, bob@x.test;|Sender: alice@x.test", "", ""),
        ("From: g: bob@x.test;", "5.7.1 \(other)", ""), ("From: g: alice@x.test;", "", ""),
        // None.
        ("From: undisclosed-recipients:;", "5.6.0 \(nobody)", ""), ("From:", "5.6.0 \(nobody)", ""),
        ("From: |  ", "5.6.0 \(nobody)", ""), ("From: (nobody)", "5.6.0 \(nobody)", ""),
        ("From: ,", "5.6.0 \(nobody)", ""),
        ("From: undisclosed:;|Sender: alice@x.test", "", ""),
        ("From: undisclosed:;|Sender: bob@x.test", "5.7.1 \(otherSender)", ""),
        // What cannot be read could be shown as anything.
        ("From: alice", "5.6.0 The From field cannot be read: found an address without a domain at offset 1", ""),
        ("From: alice@x.test bob", "5.6.0 The From field cannot be read: found what is no address at offset 1", ""),
        (
            "From: \"alice@x.test",
            "5.6.0 The From field cannot be read: found a quoted text without its second quote at offset 1", ""
        ),
        (
            "From: alice@x.test|Sender: bob",
            "5.6.0 The Sender field cannot be read: found an address without a domain at offset 1", ""
        ),
        // Who sends it on does not count unless that is allowed.
        ("Resent-From: alice@x.test|From: bob@x.test", "5.7.1 \(other)", ""),
        ("Resent-From: bob@x.test|From: alice@x.test", "", ""),
    ]

    @Test(arguments: headers)
    func checked(header: String, refusal: String, added: String) throws {
        #expect(try Self.verdict(header) { _ in } == (refusal.isEmpty ? header : refusal))
        let withSender = !added.isEmpty ? added + header : refusal.isEmpty ? header : refusal
        #expect(try Self.verdict(header) { $0.addsSender = true } == withSender)
        // Who may use all is asked for nothing but the form.
        let anybody = try Self.verdict(header, rights: ["*"]) { _ in }
        if refusal.hasPrefix("5.7.1"), header.contains("From"), !header.contains(", ") { #expect(anybody == header) }
        #expect(!anybody.hasPrefix("5.7.1"))
        #expect(try Self.verdict(header, rights: nil) { _ in } == anybody)
        // Who may use nothing gets through with nothing.
        #expect(try Self.verdict(header, rights: []) { _ in }.hasPrefix("5."))
    }

    /// Where From is not checked, Sender says whose the message is: as it should be, and once.
    @Test(arguments: [
        ("From: alice@x.test", "From: alice@x.test"), ("From: bob@x.test", "Sender: alice@x.test|From: bob@x.test"),
        ("From: bob@x.test|Sender: any@own.test", "From: bob@x.test|Sender: any@own.test"),
        ("From: bob@x.test|Sender: carol@x.test|X: 1", "Sender: alice@x.test|From: bob@x.test|X: 1"),
        ("From: alice@x.test|Sender: carol@x.test|X: 1", "From: alice@x.test|X: 1"),
        (
            "Sender: carol@x.test|From: bob@x.test|Sender: dave@x.test|X: 1",
            "Sender: alice@x.test|From: bob@x.test|X: 1"
        ),
        (
            "Sender: carol@x.test|From: bob@x.test|Sender: any@own.test|Sender: alice@x.test|X: 1",
            "From: bob@x.test|Sender: any@own.test|X: 1"
        ),
        ("From: alice@x.test, any@own.test", "Sender: alice@x.test|From: alice@x.test, any@own.test"),
        ("From: c@d <alice@x.test>", "Sender: alice@x.test|From: c@d <alice@x.test>"),
        ("From: bob", "Sender: alice@x.test|From: bob"), ("Subject: x", "Sender: alice@x.test|Subject: x"),
        ("From: bob@x.test|From: alice@x.test", "Sender: alice@x.test|From: bob@x.test|From: alice@x.test"),
    ])
    func repaired(header: String, expected: String) throws {
        #expect(
            try Self.verdict(header) {
                $0.checksFrom = false
                $0.addsSender = true
            } == expected)
    }

    /// The field of an older block does not take the place of one that goes.
    @Test func repairedResent() throws {
        let older = "Resent-From: alice@x.test|Resent-Sender: bob@x.test|From: c@d"
        let repaired = try Self.verdict("Resent-Sender: carol@x.test|" + older) {
            ($0.checksFrom, $0.addsSender, $0.allowsResent) = (false, true, true)
        }
        #expect(repaired == "Resent-Sender: alice@x.test|" + older)
    }

    /// Which address a message without From gets: the first that is said, the login's name, what the envelope has.
    @Test(
        arguments: [
            (["@own.test", "alice@x.test", "b@x.test"], "alice", "env@own.test", "alice@x.test"),
            (["@own.test"], "alice", "env@own.test", "env@own.test"),
            (["@own.test"], "l@own.test", "env@own.test", "l@own.test"),
            (["@own.test"], "l@x.test", "env@x.test", nil), (["@own.test"], "alice", nil, nil),
            (["*"], "alice", "e@y.test", "e@y.test"),
            (nil, "alice@x.test", "e@y.test", "alice@x.test"), (nil, "alice", nil, nil),
            ([], "alice@x.test", "e@y.test", nil),
            (["\u{E9}@x.test", "b@x.test"], "alice", nil, "b@x.test"),
            (["a@b\u{FC}cher.example"], "a", nil, "a@xn--bcher-kva.example"),
        ] as [([String]?, String, String?, String?)])
    func missingFrom(rights: [String]?, login: String, mailFrom: String?, expected: String?) throws {
        let verdict = try Self.verdict("Subject: x", rights: rights, login: login, mailFrom: mailFrom) { _ in }
        #expect(verdict == (expected.map { "From: \($0)|Subject: x" } ?? "5.6.0 The header has no From field"))
        let refused = try Self.verdict("Subject: x", rights: rights, login: login, mailFrom: mailFrom) {
            $0.missingFrom = .refuse
        }
        #expect(refused == "5.6.0 The header has no From field")
    }

    @Test func anInternationalAddressIsAdded() throws {
        #expect(try Self.verdict("X: 1", rights: ["\u{E9}@x.test"], utf8: true) { _ in } == "From: \u{E9}@x.test|X: 1")
    }

    /// Of what is sent on the newest block counts, and From may be anybody's.
    @Test(arguments: [
        ("Resent-From: alice@x.test|From: bob@x.test", ""), ("Resent-From: alice@x.test|From: b", ""),
        ("Received: x|Resent-From: alice@x.test|Resent-To: c@d|From: bob@x.test|Sender: bob@x.test", ""),
        (
            "Resent-From: bob@x.test|From: alice@x.test",
            "5.7.1 <bob@x.test> in Resent-From is not a sender that login alice may use"
        ),
        // The second is an older block.
        ("Resent-From: alice@x.test|Resent-From: bob@x.test|From: bob@x.test", ""),
        (
            "Resent-From: bob@x.test|Resent-From: alice@x.test|From: bob@x.test",
            "5.7.1 <bob@x.test> in Resent-From is not a sender that login alice may use"
        ),
        (
            "Resent-To: c@d|Resent-From: alice@x.test|Resent-Sender: bob@x.test|From: bob@x.test",
            "5.7.1 <bob@x.test> in Resent-Sender is not a sender that login alice may use"
        ),
        ("Resent-From: alice@x.test, bob@x.test|Resent-Sender: alice@x.test|From: c@d", ""),
        (
            "X: 1|Resent-From: alice@x.test, any@own.test|From: c@d",
            "X: 1|Resent-Sender: alice@x.test|Resent-From: alice@x.test, any@own.test|From: c@d"
        ),
        // Nobody says that it was them: From counts.
        ("Resent-To: c@d|From: bob@x.test", "5.7.1 \(other)"),
        ("Resent-Sender: alice@x.test|From: bob@x.test", "5.7.1 \(other)"),
        ("Resent-From: alice@x.test|From: a@b|From: c@d", "5.6.0 The header has two From fields"),
    ])
    func resent(header: String, expected: String) throws {
        let verdict = try Self.verdict(header) {
            $0.allowsResent = true
            $0.addsSender = true
        }
        #expect(verdict == (expected.isEmpty ? header : expected))
    }
}
