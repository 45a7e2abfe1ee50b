// What addresses and fields are on one way out.

import SlimtaMail
import SlimtaRules
import Testing

struct RouteRewritesTests {
    static func rule(_ origin: String, _ target: String) throws -> AddressRewrite {
        AddressRewrite(
            try AddressRewrite.Origin(origin, allowsNull: true), to: try AddressRewrite.Target(target, allowsNull: true)
        )
    }

    static func mailbox(_ text: String) throws -> Mailbox { try #require(Mailbox(parsing: text)) }

    @Test(arguments: [
        ("a@x.test", "b@y.test", "a@x.test", "b@y.test"), ("a@x.test", "b@y.test", "A@X.TEST", "b@y.test"),
        ("a@x.test", "b@y.test", "c@x.test", "c@x.test"), ("@x.test", "@y.test", "a+b@X.test", "a+b@y.test"),
        ("@x.test", "@y.test", "a@b.x.test", "a@b.x.test"), ("@.x.test", "@y.test", "a@b.x.test", "a@y.test"),
        ("@.x.test", "@y.test", "a@x.test", "a@x.test"), ("@x.test", "@y.test", "\"a b\"@x.test", "\"a b\"@y.test"),
        ("@b\u{FC}cher.test", "@y.test", "a@xn--bcher-kva.test", "a@y.test"),
        ("*", "all@y.test", "a@x.test", "all@y.test"),
        ("<>", "all@y.test", "a@x.test", "a@x.test"),
    ])
    func addresses(_ origin: String, _ target: String, _ address: String, _ expected: String) throws {
        var rewrites = RouteRewrites()
        rewrites.senders = [try Self.rule(origin, target)]
        rewrites.recipients = rewrites.senders
        #expect(rewrites.sender(try Self.mailbox(address))?.text == expected)
        #expect(rewrites.recipient(try Self.mailbox(address)).text == expected)
    }

    /// The null sender stays what it is, unless a rule names it.
    @Test func nullSender() throws {
        var rewrites = RouteRewrites()
        rewrites.senders = [try Self.rule("*", "a@x.test"), try Self.rule("@x.test", "@y.test")]
        #expect(rewrites.sender(nil) == nil)
        rewrites.senders.append(try Self.rule("<>", "bounces@x.test"))
        #expect(rewrites.sender(nil)?.text == "bounces@x.test")
        rewrites.senders = [try Self.rule("@x.test", "<>"), try Self.rule("<>", "@x.test")]
        #expect(rewrites.sender(try Self.mailbox("a@x.test")) == nil)
        #expect(rewrites.sender(nil) == nil)
    }

    /// The first that is for an address counts, and what comes out is not looked up again.
    @Test func once() throws {
        var rewrites = RouteRewrites()
        rewrites.recipients = [
            try Self.rule("a@x.test", "b@x.test"), try Self.rule("@x.test", "@y.test"),
            try Self.rule("@y.test", "@x.test"),
        ]
        let became = try ["a@x.test", "b@x.test", "c@y.test"].map { rewrites.recipient(try Self.mailbox($0)).text }
        #expect(became == ["b@x.test", "b@y.test", "c@x.test"])
    }

    @Test(arguments: ["", "x", "a@", "a b@x.test", "a@x.test\r\nRCPT", "@a@b", "/x/", "*x"])
    func mistakes(_ text: String) {
        #expect(throws: RuleError.self) { try AddressRewrite.Origin(text, allowsNull: true) }
        #expect(throws: RuleError.self) { try AddressRewrite.Target(text, allowsNull: true) }
    }

    @Test func nullIsForSenders() {
        #expect(throws: RuleError.self) { try AddressRewrite.Origin("<>", allowsNull: false) }
        #expect(throws: RuleError.self) { try AddressRewrite.Target("<>", allowsNull: false) }
    }

    // MARK: Fields

    static func envelope(_ sender: String?, name: String = "c.test", login: String? = "l") -> Envelope {
        Envelope(
            id: QueueID(at: .now()), sender: sender.map { Mailbox(localPart: $0, domain: "x.test") }, recipients: [],
            received: .now(),
            client: ClientInfo(address: "192.0.2.1", name: name, protocolWord: "ESMTP", login: login, edge: "in"))
    }

    @Test func fields() throws {
        var rewrites = RouteRewrites()
        rewrites.fields = [
            try FieldTemplate("X-Key: secret"), try FieldTemplate("X-From: {client} {ehlo} {edge} {login} {sender}"),
        ]
        #expect(
            rewrites.fields(of: Self.envelope("a"))
                == "X-Key: secret\r\nX-From: 192.0.2.1 c.test in l a@x.test\r\n")
        #expect(
            rewrites.fields(of: Self.envelope(nil, login: nil))
                == "X-Key: secret\r\nX-From: 192.0.2.1 c.test in nobody <>\r\n")
    }

    /// Whatever a client wrote: it ends no line, and begins no field.
    @Test(arguments: ["a\r\nBcc: x@y.test", "\u{0}\u{7F}\u{FC}", String(repeating: "z", count: 5000), "a\n\nbody"])
    func injection(_ name: String) throws {
        var rewrites = RouteRewrites()
        rewrites.fields = [try FieldTemplate("X-Name: {ehlo}")]
        let text = rewrites.fields(of: Self.envelope("a", name: name))
        #expect(text.hasPrefix("X-Name:") && text.hasSuffix("\r\n"))
        for line in text.dropLast().split(separator: "\r\n").dropFirst() { #expect(line.hasPrefix(" ")) }
        #expect(text.utf8.allSatisfy { (0x20...0x7E).contains($0) || $0 == 0x0D || $0 == 0x0A })
        #expect(text.utf8.count < 1000)
    }

    @Test(arguments: Template.Placeholder.allCases) func placeholders(_ placeholder: Template.Placeholder) throws {
        let field = try FieldTemplate("X-A: {\(placeholder.rawValue)}")
        let isKnown = ["client", "ehlo", "edge", "login", "sender"].contains(placeholder.rawValue)
        #expect((RouteRewrites.problem(of: field) == nil) == isKnown)
    }
}
