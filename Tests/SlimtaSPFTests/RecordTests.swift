// Records, macros, explanations and Received-SPF by themselves.

import SlimtaMail
import Testing

@testable import SlimtaSPF

@Suite struct SPFRecordTests {
    @Test(arguments: [
        ("v=spf1", true), ("V=SpF1 -all", true), ("v=spf1 ", true), ("v=spf10", false), ("v=spf1\t-all", false),
        (" v=spf1 -all", false), ("v=spf", false), ("", false), ("spf2.0/pra -all", false),
    ])
    func policies(_ text: String, _ isOne: Bool) { #expect(SPFRecord.isPolicy(Array(text.utf8)) == isOne) }

    @Test(
        arguments: [
            "", " all", " +all -all", " a", " a/0", " a//0", " a/24//64", " a:foo/bar.example/24", " A:x.example//128",
            " mx:%{d}/24//48",
            " ip4:0.0.0.0/0", " ip4:192.0.2.1/32", " ip6:::/0", " ip6:2001:db8::/32", " ip6:::ffff:192.0.2.1/96",
            " ptr", " ptr:x.example",
            " exists:%{ir}.%{l1r-}._spf.%{d2}", " include:_spf.x.example.", " redirect=x.example", " exp=x.example",
            " x-y_z.1=",
            " moo=%{c}%{r}%{t}", " exists:%%%_%-", "   -all   ", " exists:%{l128r.-+,/_=}", " a:x.y-1", " a:x.1-",
        ].filter { $0 != " a:x.1-" })
    func wellFormed(_ terms: String) {
        #expect(throws: Never.self) { try SPFRecord(parsing: Array("v=spf1\(terms)".utf8)) }
    }

    @Test(arguments: [
        "all:x", "all/8", "all.", "al", "a:", "a/33", "a//129", "a/024", "a/-1", "a/", "a//", "a/24/64", "a//64/24",
        "a:x", "a:x.", "a:x.1",
        "a:x.-y", "a:x.y-", "a:x.y:25", "a:x..", "ip4", "ip4:", "ip4:1.2.3", "ip4:1.2.3.4/032", "ip4:1.2.3.4//32",
        "ip4:01.2.3.4",
        "ip4:1.2.3.4/33", "ip4:::1", "ip4/24", "ip6:1.2.3.4", "ip6:::1/129", "ip6:::1//64", "ip6:fe80::1%eth0",
        "ptr/24", "ptr:",
        "include", "include:", "include:x.example/24", "exists", "exists:", "redirect:x.example", "redirect=",
        "redirect=x", "exp=",
        "redirect=x.example redirect=x.example", "exp=x.example EXP=y.example", "=x", "1x=y", "a:%{z}", "a:%{d",
        "a:%{d0}", "a:%{dr2}",
        "a:%{d;}", "a:%", "a:%d", "a:%{}", "a:%{c}", "a:%{r}", "a:%{t}", "x=%", "-", "--all", "+-all", "\u{FC}",
        "a:x\u{FC}.example", "a\tall",
        "a:x\0.example", "a:%%x", "a:%-x",
    ])
    func malformed(_ term: String) {
        // Wherever it is: a record is read whole.
        #expect(throws: SPFSyntaxError.self) { try SPFRecord(parsing: Array("v=spf1 ip4:192.0.2.1 \(term)".utf8)) }
        let zone = Zone("example.com TXT v=spf1 ip4:192.0.2.1 all \(term)")
        let outcome = zone.check("192.0.2.1", Mailbox(localPart: "a", domain: "example.com")).outcome
        #expect(outcome.result == .permerror)
        #expect(
            outcome.reason.hasPrefix("SPF Permanent Error: ")
                && outcome.reason.utf8.allSatisfy { (32...126).contains($0) })
    }

    @Test func networks() throws {
        let network = SPFNetwork(octets: [192, 0, 2, 77], bits: 25)
        #expect(network.contains(try #require(IPAddress("192.0.2.127"))))
        #expect(!network.contains(try #require(IPAddress("192.0.2.128"))))
        #expect(!network.contains(try #require(IPAddress("2001:db8::1"))))
        #expect(SPFNetwork(octets: [1, 2, 3, 4], bits: 0).contains(try #require(IPAddress("203.0.113.9"))))
    }

    @Test(arguments: [
        ("192.0.2.130", "192.0.2.255", 25, 128, true), ("192.0.2.130", "192.0.2.127", 25, 128, false),
        ("192.0.2.130", "203.0.113.1", 0, 128, true), ("192.0.2.130", "192.0.2.130", 32, 0, true),
        ("192.0.2.130", "2001:db8::1", 0, 0, false), ("2001:db8::1", "192.0.2.130", 0, 0, false),
        ("2001:db8::1", "2001:db8::ffff", 32, 112, true), ("2001:db8::1", "2001:db8::1:0", 32, 112, false),
        ("2001:db8::1", "fe80::1", 32, 0, true), ("::ffff:192.0.2.130", "192.0.2.131", 31, 128, true),
    ])
    func prefixes(_ client: String, _ address: String, _ ip4: Int, _ ip6: Int, _ isIn: Bool) throws {
        let client = try #require(IPAddress(client))
        let network = try #require(SPFPrefixes(ip4: ip4, ip6: ip6).network(of: client))
        #expect(network.contains(try #require(IPAddress(address))) == isIn)
    }

    /// The examples of RFC 7208 section 7.4.
    @Test(arguments: [
        ("%{s}", "strong-bad@email.example.com"), ("%{o}", "email.example.com"), ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"), ("%{d3}", "email.example.com"), ("%{d2}", "example.com"), ("%{d1}", "com"),
        ("%{dr}", "com.example.email"), ("%{d2r}", "example.email"), ("%{l}", "strong-bad"), ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"), ("%{lr-}", "bad.strong"), ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        // And what it has no example of.
        ("%{S}", "strong-bad%40email.example.com"), ("%{d999999999999999999999}", "email.example.com"),
        ("a%%b%_c%-d", "a%b c%20d"),
        ("%{LR-}", "bad.strong"), ("%{h}|%{c}|%{r}|%{t}", "he lo|192.0.2.3|mx.example.net|7"), ("%{p}", "unknown"),
    ])
    func macros(_ text: String, _ expanded: String) throws {
        let subject = SPFSubject(
            client: try #require(IPAddress("192.0.2.3")), helo: "he lo",
            sender: Mailbox(localPart: "strong-bad", domain: "email.example.com"), receiver: "mx.example.net", time: 7)
        let values = SPFMacroValues(subject: subject, domain: subject.domain, validatedName: Array("unknown".utf8))
        let macro = try #require(SPFMacroString(Array(text.utf8), in: .explanation))
        #expect(String(decoding: macro.text(values, limit: 1000), as: UTF8.self) == expanded)
    }

    @Test func addressOfIPv6InMacros() throws {
        let client = try #require(IPAddress("2001:db8::cb01"))
        let dotted = "2.0.0.1.0.D.B.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.C.B.0.1"
        #expect(String(decoding: SPFName.dotted(client), as: UTF8.self) == dotted)
        #expect(
            String(decoding: SPFName.reverse(client), as: UTF8.self)
                == dotted.split(separator: ".").reversed().joined(separator: ".") + ".ip6.arpa")
    }
}

@Suite struct SPFWordsTests {
    private func explanation(_ texts: String..., local: String = "alice") -> SPFOutcome {
        var zone = Zone("example.com TXT v=spf1 -all exp=why.example.com")
        zone["why.example.com"].texts = texts.map { Array($0.utf8) }
        return zone.check("192.0.2.1", Mailbox(localPart: local, domain: "example.com")).outcome
    }

    /// Whatever is wrong with an explanation, the result stays, and our own words are said.
    @Test func badExplanations() {
        for outcome in [
            explanation(), explanation("one", "two"), explanation("b\u{F6}se"), explanation("%"), explanation("%{z}"),
            explanation("%{l"),
            explanation("a\r\nb"), explanation("a\0b"), explanation("\u{1B}[31m"), explanation(""),
        ] {
            #expect(
                outcome.result == .fail && outcome.explanation == nil && outcome.reason == "SPF fail - not authorized")
        }
    }

    /// The words are the domain's, and said to be; nothing of them can end a line, steer a terminal or be a format.
    @Test func goodExplanations() {
        let outcome = explanation("See http://x.example/%{L}?%{i} {client} %%s")
        #expect(outcome.explanation == "See http://x.example/alice?192.0.2.1 {client} %s")
        #expect(outcome.reason == "example.com explains: See http://x.example/alice?192.0.2.1 {client} _s")
        let hostile = explanation("by %{l}", local: "\"a\r\nb\u{1B}[0m\u{202E}\"").reason
        #expect(hostile.utf8.allSatisfy { (32...126).contains($0) })
        #expect(explanation(String(repeating: "long ", count: 500)).explanation?.utf8.count == 200)
    }

    @Test func notFetchedForNobody() {
        let zone = Zone("example.com TXT v=spf1 -all exp=why.example.com", "why.example.com TXT Because.")
        let (outcome, asked) = zone.check("192.0.2.1", Mailbox(localPart: "a", domain: "example.com"), explains: false)
        #expect(
            outcome.result == .fail && outcome.reason == "SPF fail - not authorized" && asked == ["txt example.com"])
    }

    /// The words that operators know.
    @Test(arguments: [
        ("v=spf1 all", "sender SPF authorized"), ("v=spf1 -all", "SPF fail - not authorized"), ("nothing", ""),
        ("v=spf1 ~all", "domain owner discourages use of this host"), ("v=spf1", "access neither permitted nor denied"),
        ("v=spf1 moo", "SPF Permanent Error: Unknown mechanism: moo (in the record of example.com)"),
        ("v=spf1 include:example.com", "SPF Permanent Error: Too many DNS lookups"),
        ("v=spf1 a:error.x.example", "SPF Temporary Error: Lookup of error.x.example: SERVFAIL"),
    ])
    func reasons(_ record: String, _ reason: String) {
        let zone = Zone("example.com TXT \(record)")
        #expect(zone.check("192.0.2.1", Mailbox(localPart: "a", domain: "example.com")).outcome.reason == reason)
    }

    @Test func receivedSPF() throws {
        let zone = Zone("example.com TXT v=spf1 ip4:192.0.2.0/24 -all")
        func field(_ sender: Mailbox?, _ client: String = "192.0.2.1", helo: String = "mail.example.com") throws
            -> String
        {
            let subject = SPFSubject(
                client: try #require(IPAddress(client)), helo: helo, sender: sender, receiver: "mx.example.net", time: 0
            )
            var lookups: [SPFLookup] = []
            return zone.run(SPFCheck(of: subject, wantsExplanation: true), lookups: &lookups).receivedSPF(of: subject)
        }
        #expect(
            try field(Mailbox(localPart: "alice", domain: "example.com")) == """
                Received-SPF: pass (mx.example.net: domain example.com designates 192.0.2.1 as permitted sender)\r
                 receiver=mx.example.net;\r
                 client-ip=192.0.2.1;\r
                 envelope-from="alice@example.com";\r
                 helo=mail.example.com;\r
                 identity=mailfrom;\r
                 mechanism="ip4:192.0.2.0/24"\r

                """)
        #expect(try field(nil, "2001:db8::1").contains("client-ip=\"2001:db8::1\";\r\n envelope-from=\"\";\r\n"))
        #expect(
            try field(nil, helo: "x").contains("none (mx.example.net: domain x does not")
                && field(nil).contains("mechanism=default"))
        // Nothing of a stranger's ends a quoted string, a comment or the field.
        let hostile = try field(
            Mailbox(localPart: "\"a\\\"\r\n\r\nb\"", domain: "example.com"), helo: "x) y\r\nX-A: =?utf-8?q?b?=(\"\\")
        #expect(hostile.hasSuffix("\r\n") && !hostile.contains("\r\n\r\n") && !hostile.contains("\r\nX"))
        #expect(hostile.contains("envelope-from=\"\\\"a\\\\\\\"????b\\\"@example.com\";"))
        #expect(hostile.contains("helo=x+29+20y+0D+0AX-A+3A+20+3D+3Futf-8+3Fq+3Fb+3F+3D+28+22+5C;"))
        // Nor is a line longer than one may be.
        let long = try field(
            Mailbox(localPart: "a", domain: String(repeating: "\u{FFFD}", count: 80)),
            helo: String(repeating: "\u{FFFD}", count: 255))
        #expect(long.split(separator: "\r\n").allSatisfy { $0.utf8.count <= 998 }, "\(long)")
        // A local part beyond ASCII stays; a domain beyond it is in A-labels where it can be.
        #expect(try field(Mailbox(localPart: "j\u{FC}", domain: "example.com")).contains("\"j\u{FC}@example.com\""))
        #expect(try field(Mailbox(localPart: "j", domain: "m\u{FC}.example")).utf8.allSatisfy { $0 < 0x80 })
    }
}
