// What goes wrong in other implementations, a test each; what the suite does not ask. Zones are in short form.

import SlimtaMail
import Testing

@testable import SlimtaSPF

private let sender = Mailbox(localPart: "alice", domain: "example.com")

@Suite struct SPFCheckTests {
    // MARK: Limits (RFC 7208 section 4.6.4)

    /// Terms count, not queries: ten of them pass, however many hosts an mx has; exp and the first TXT do not count.
    @Test func tenTerms() {
        let nine = (1...9).map { "include:i\($0).example.com" }.joined(separator: " ")
        var zone = Zone(
            "example.com TXT v=spf1 mx \(nine) -all exp=why.example.com", "why.example.com TXT Because.",
            "eleven.example.com TXT v=spf1 mx \(nine) exists:x.example.com -all")
        for domain in ["example.com", "eleven.example.com"] {
            for host in 1...10 { zone[domain].exchangers.append("h\(host).example.com") }
        }
        for host in 1...10 { zone["h\(host).example.com"].addresses = [.a: [IPAddress("192.0.2.\(host)")!]] }
        for number in 1...9 { zone["i\(number).example.com"].texts = [Array("v=spf1 ?all".utf8)] }
        let (outcome, asked) = zone.check("198.51.100.1", sender)
        #expect(outcome.result == .fail && outcome.explanation == "Because.")
        #expect(asked.count == 1 + 1 + 10 + 9 + 1)
        let eleven = zone.check("198.51.100.1", Mailbox(localPart: "a", domain: "eleven.example.com")).outcome
        #expect(eleven.result == .permerror && eleven.reason == "SPF Permanent Error: Too many DNS lookups")
    }

    /// The count goes on inside of an include, and behind it.
    @Test func anIncludeDoesNotResetTheCount() {
        let zone = Zone(
            "example.com TXT v=spf1 include:i.example.com include:i.example.com -all",
            "i.example.com TXT v=spf1 a a a a a", "i.example.com A 192.0.2.1")
        #expect(zone.check("198.51.100.1", sender).outcome.result == .permerror)
    }

    @Test func tenHostsOfAnMX() {
        var zone = Zone("example.com TXT v=spf1 mx -all")
        for host in 1...11 {
            zone["h\(host).example.com"].addresses = [.a: [IPAddress("192.0.2.\(host)")!]]
            zone["example.com"].exchangers.append("h\(host).example.com")
        }
        // Not even if the first host is the client.
        #expect(zone.check("192.0.2.1", sender).outcome.problem == "Too many MX records")
        zone["example.com"].exchangers.removeLast()
        #expect(zone.check("192.0.2.10", sender).outcome.result == .pass)
    }

    /// Of a client's names the first ten are looked at, and more are no error.
    @Test func tenNamesOfAClient() {
        var zone = Zone("example.com TXT v=spf1 ptr -all")
        for host in 1...11 {
            zone["h\(host).example.com"].addresses = [.a: [IPAddress(host < 11 ? "192.0.2.99" : "192.0.2.1")!]]
            zone["1.2.0.192.in-addr.arpa"].names.append("h\(host).example.com")
        }
        let (outcome, asked) = zone.check("192.0.2.1", sender)
        #expect(outcome.result == .fail && asked.count == 12)
        zone["h10.example.com"].addresses = [.a: [IPAddress("192.0.2.1")!]]
        #expect(zone.check("192.0.2.1", sender).outcome.result == .pass)
    }

    @Test func nullMX() {
        let zone = Zone("example.com TXT v=spf1 mx mx mx mx -all", "example.com MX ")
        let (outcome, asked) = zone.check("192.0.2.1", sender)
        #expect(outcome.result == .fail, "no host, and no lookup without a record")
        #expect(asked.allSatisfy { $0 == "txt example.com" || $0 == "mx example.com" })
    }

    /// Two lookups without a record are allowed, the third ends the check at once: as last term, in an include, by NXDOMAIN
    /// or without data.
    @Test(arguments: [
        ("a:no1.example.com exists:no2.example.com", SPFResult.fail),
        ("a:no1.example.com exists:no2.example.com mx:no3.example.com", .permerror),
        ("a:no1.example.com include:i.example.com", .permerror),
        ("a:empty.example.com mx:empty.example.com a:no.example.com", .permerror),
        ("mx:voids.example.com", .permerror),
        // Not: the first TXT, names of the client.
        ("ptr a:no1.example.com exists:no2.example.com exists:%{p}.here.example.com", .fail),
    ])
    func voidLookups(_ terms: String, _ result: SPFResult) {
        let zone = Zone(
            "example.com TXT v=spf1 \(terms) -all", "i.example.com TXT v=spf1 a:no2.example.com a:no3.example.com",
            "empty.example.com TXT x", "voids.example.com MX no1.example.com", "voids.example.com MX no2.example.com",
            "voids.example.com MX no3.example.com", "unknown.here.example.com A 127.0.0.2")
        let terms = terms.contains("%{p}") ? SPFResult.pass : result
        #expect(zone.check("192.0.2.1", sender).outcome.result == terms)
    }

    /// Of an IPv6 client only AAAA is asked: a host with IPv4 alone is a lookup without a record.
    @Test func onlyTheClientsKindOfAddress() {
        let zone = Zone("example.com TXT v=spf1 a a a -all", "example.com A 192.0.2.1")
        let (outcome, asked) = zone.check("2001:db8::1", sender)
        #expect(outcome.result == .permerror && Set(asked) == ["txt example.com", "aaaa example.com"])
    }

    // MARK: include, redirect

    @Test(arguments: [
        ("v=spf1 -all exp=why.i.example.com", SPFResult.neutral), ("v=spf1 ~all", .neutral), ("v=spf1 ?all", .neutral),
        ("v=spf1 all", .softfail), ("no policy", .permerror), ("v=spf1 rubbish", .permerror),
        ("v=spf1 a:error.example.com", .temperror),
    ])
    func include(_ included: String, _ result: SPFResult) {
        let zone = Zone(
            "example.com TXT v=spf1 ~include:i.example.com ?all", "i.example.com TXT \(included)",
            "why.i.example.com TXT Not this.")
        let outcome = zone.check("192.0.2.1", sender).outcome
        #expect(outcome.result == result && outcome.explanation == nil)
        if result == .softfail { #expect(outcome.mechanism == "~include:i.example.com") }
    }

    @Test func redirect() {
        let zone = Zone(
            "example.com TXT v=spf1 redirect=r.example.com ip4:203.0.113.1 exp=mine.example.com",
            "r.example.com TXT v=spf1 -all exp=why.%{d}", "why.r.example.com TXT Ask %{o} of %{d}, %{r} said %{h}.",
            "all.example.com TXT v=spf1 redirect=none.example.com ?all",
            "loop.example.com TXT v=spf1 redirect=loop.example.com",
            "none.example.com TXT v=spf1 redirect=nothing.example.com")
        #expect(zone.check("203.0.113.1", sender).outcome.result == .pass, "it counts only if nothing matches")
        let outcome = zone.check("192.0.2.1", sender).outcome
        #expect(outcome.explanation == "Ask example.com of r.example.com, mx.example.net said mail.example.com.")
        func result(_ domain: String) -> SPFResult {
            zone.check("192.0.2.1", Mailbox(localPart: "a", domain: domain)).outcome.result
        }
        #expect(result("all.example.com") == .neutral)
        #expect(result("none.example.com") == .permerror)
        #expect(result("loop.example.com") == .permerror)
    }

    // MARK: Who is asked about

    /// What can have no policy is not asked about.
    @Test(arguments: [
        "[192.0.2.1]", "[IPv6:2001:db8::1]", "localhost", "", "192.0.2.1", "a..example.com", ".example.com",
        "two words.example",
        "a\0.example.com", "host_\u{202E}.example", String(repeating: "a", count: 64) + ".example",
        String(repeating: "abcdefg.", count: 40) + "example",
    ])
    func noDomain(_ name: String) {
        #expect(Zone().check("192.0.2.1", nil, helo: name) == (SPFOutcome.none(.helo), []))
        #expect(Zone().check("192.0.2.1", Mailbox(localPart: "a", domain: name)) == (SPFOutcome.none(.mailFrom), []))
    }

    @Test func nullSender() {
        let zone = Zone(
            "mail.example.com TXT v=spf1 exists:%{l}.%{o}.%{d} -all",
            "postmaster.mail.example.com.mail.example.com A 127.0.0.2"
        )
        let outcome = zone.check("192.0.2.1", nil).outcome
        #expect(outcome.result == .pass && outcome.identity == .helo && outcome.reason == "sender SPF authorized")
    }

    @Test func internationalDomain() {
        let zone = Zone(
            "xn--mnchen-3ya.example TXT v=spf1 exists:%{o}.x.example -all",
            "xn--mnchen-3ya.example.x.example A 127.0.0.2")
        #expect(
            zone.check("192.0.2.1", Mailbox(localPart: "a", domain: "m\u{FC}nchen.example")).outcome.result == .pass)
    }

    @Test(arguments: ["192.0.2.1", "::ffff:192.0.2.1"]) func mappedAddresses(_ client: String) {
        let zone = Zone(
            "example.com TXT v=spf1 -ip6:::ffff:192.0.2.1 -ip6:::/0 exists:%{ir}.%{v}.%{c}x -all",
            "other.example.com TXT v=spf1 ip4:192.0.2.0/24 -all",
            "macro.example.com TXT v=spf1 exists:%{i}.%{v}.x.example -all",
            "192.0.2.1.in-addr.x.example A 127.0.0.2")
        #expect(zone.check(client, sender).outcome.result == .permerror, "c is not allowed there")
        for domain in ["other.example.com", "macro.example.com"] {
            #expect(zone.check(client, Mailbox(localPart: "a", domain: domain)).outcome.result == .pass)
        }
        #expect(zone.check("2001:db8::1", Mailbox(localPart: "a", domain: "other.example.com")).outcome.result == .fail)
    }

    /// Any octet can be in a local part, and comes into names as it is: without quotes, which mean nothing.
    @Test(arguments: [
        ("\"two words\"", "two words"), ("\"a\\\"b\"", "a\"b"), ("j\u{FC}rgen", "j\u{FC}rgen"), ("\"alice\"", "alice"),
        ("a.b", "a.b"), ("a/b=c", "a/b=c"), ("\"\"", "postmaster"),
    ])
    func localParts(_ local: String, _ label: String) {
        var zone = Zone("example.com TXT v=spf1 exists:%{l}.x.example -all")
        zone["\(label).x.example"].addresses = [.a: [IPAddress("127.0.0.2")!]]
        let (outcome, asked) = zone.check("192.0.2.1", Mailbox(localPart: local, domain: "example.com"))
        #expect(outcome.result == .pass && asked.last == "a \(label).x.example")
    }

    /// A local part from which no name can be made finds nothing, and is no error.
    @Test(arguments: ["\"a..b\"", "\".a\"", String(repeating: "a", count: 64)]) func impossibleNames(_ local: String) {
        let zone = Zone(
            "example.com TXT v=spf1 exists:%{l}.x.example a:%{l}.x.example mx:%{l}.x.example ptr:%{l}.x.example -all")
        let (outcome, asked) = zone.check("192.0.2.1", Mailbox(localPart: local, domain: "example.com"))
        #expect(outcome.result == .fail && asked == ["txt example.com"])
    }

    @Test func everyLookupIsForANameThatDNSCanCarry() {
        let zone = Zone("example.com TXT v=spf1 exists:%{l}.%{l}.%{l}.%{l}.%{l}.x.example -all")
        let local = (1...30).map { "a\($0)" }.joined(separator: ".")
        let (_, asked) = zone.check("192.0.2.1", Mailbox(localPart: local, domain: "example.com"))
        let name = asked[1].dropFirst(2)
        #expect(name.utf8.count <= 253 && name.utf8.count > 240 && name.hasSuffix(".a30.x.example"))
    }

    // MARK: %{p}

    /// The domain itself, else a name below it, else any; a name that does not lead back is none.
    @Test(arguments: [
        (["x.other.example", "h.example.com", "example.com"], "example.com"),
        (["x.other.example", "h.example.com"], "h.example.com"),
        (["notexample.com", "x.other.example"], "x.other.example"), (["liar.example.com"], "unknown"), ([], "unknown"),
    ])
    func validatedName(_ names: [String], _ expanded: String) {
        var zone = Zone(
            "example.com TXT v=spf1 -all exp=why.example.org", "why.example.org TXT %{p}", "example.com A 192.0.2.1",
            "h.example.com A 192.0.2.1", "x.other.example A 192.0.2.1", "liar.example.com A 192.0.2.7")
        zone["1.2.0.192.in-addr.arpa"].names = names
        #expect(zone.check("192.0.2.1", sender).outcome.explanation == expanded)
    }

    /// An error under a client's names is not the domain's: no temperror.
    @Test func errorsOfTheClientsNames() {
        let zone = Zone(
            "example.com TXT v=spf1 ptr exists:%{p}.x.example -all", "1.2.0.192.in-addr.arpa PTR error.example.com",
            "1.2.0.192.in-addr.arpa PTR h.example.com", "h.example.com A 192.0.2.1",
            "h.example.com.x.example A 127.0.0.2")
        #expect(zone.check("192.0.2.1", sender).outcome.mechanism == "ptr")
        let dead = Zone("example.com TXT v=spf1 ptr -all", "1.2.0.192.in-addr.arpa TIMEOUT")
        #expect(dead.check("192.0.2.1", sender).outcome.result == .fail)
    }

    /// Who drives a check can tell what the sender of mail answers from what the domain does.
    @Test func whoAnswers() {
        let zone = Zone(
            "example.com TXT v=spf1 a ptr -all exp=why.example.com", "1.2.0.192.in-addr.arpa PTR h.example.com")
        var check = SPFCheck(
            client: IPAddress("192.0.2.1")!, helo: "h", sender: sender, receiver: "r", time: 0, wantsExplanation: true)
        var asked: [Bool] = []
        while case .lookup(let lookup) = check.step {
            asked.append(check.asksOfClient)
            check.answered(zone.answer(lookup))
        }
        #expect(asked == [false, false, true, true, false], "TXT, A, PTR, A of the name, the explanation")
    }

    // MARK: Time

    @Test func noMoreTime() {
        var check = SPFCheck(
            client: IPAddress("192.0.2.1")!, helo: "h", sender: sender, receiver: "r", time: 0, wantsExplanation: true)
        #expect(check.timedOut().result == .temperror && check.timedOut().reason == "Timed out")
        check.answered(.texts([Array("v=spf1 -all exp=why.example.com".utf8)]))
        // The result stands, only the words are missing.
        #expect(check.timedOut().result == .fail && check.timedOut().reason == "SPF fail - not authorized")
        check.answered(.failed("SERVFAIL"))
        #expect(check.step == .done(check.timedOut()))
        let done = check.step
        #expect(check.answered(.noSuchName) == done, "nothing more is wanted")
    }

    @Test func temporaryErrors() {
        for terms in ["a:error.x.example", "mx:error.x.example", "exists:error.x.example", "mx"] {
            let zone = Zone("example.com TXT v=spf1 \(terms) -all", "example.com MX error.h.example")
            let outcome = zone.check("192.0.2.1", sender).outcome
            #expect(outcome.result == .temperror && outcome.reason.hasPrefix("SPF Temporary Error: Lookup of error."))
        }
    }
}

extension SPFOutcome {
    fileprivate static func none(_ identity: SPFIdentity) -> SPFOutcome {
        SPFOutcome(result: .none, mechanism: nil, identity: identity, explanation: nil, problem: nil, reason: "")
    }
}
