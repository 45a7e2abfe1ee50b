// DNS lists as values: what is asked, and what answers mean.

import SlimtaDNS
import SlimtaMail
import SlimtaRules
import Testing

@testable import SlimtaEdge

@Suite struct BlockListTests {
    private static func list(_ of: ListSubject, answers: [ClosedRange<UInt32>]? = nil) -> BlockList {
        BlockList(name: "l", zone: "Zone.Example.", of: of, answers: answers)
    }

    private static func addresses(_ texts: [String]) throws -> [IPAddress] {
        try texts.map { try #require(IPAddress($0)) }
    }

    // MARK: Questions

    @Test(arguments: [
        ("192.0.2.99", "99.2.0.192.zone.example"), ("::ffff:192.0.2.99", "99.2.0.192.zone.example"),
        (
            "2001:db8:1:2:3:4:567:89ab",
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.zone.example"
        ),
        ("127.0.0.1", nil), ("127.255.0.9", nil), ("::1", nil), ("0.0.0.0", nil), ("10.1.2.3", nil),
        ("172.16.0.1", nil), ("172.31.255.255", nil), ("192.168.1.1", nil), ("169.254.1.1", nil), ("100.64.0.1", nil),
        ("fe80::1", nil), ("fd00::1", nil), ("::ffff:10.0.0.1", nil), ("224.0.0.1", nil), ("ff02::1", nil),
        ("172.32.0.1", "1.0.32.172.zone.example"), ("100.128.0.1", "1.0.128.100.zone.example"),
    ])
    func addressIsAsked(address: String, name: String?) throws {
        let address = try #require(IPAddress(address))
        #expect(Self.list(.client).question(about: address) == name.flatMap { QueryName($0) })
    }

    @Test(arguments: [
        ("example.com", "example.com.zone.example"), ("Mail.Example.COM.", "mail.example.com.zone.example"),
        ("m\u{FC}nchen.example", "xn--mnchen-3ya.example.zone.example"), ("a_b.example", "a_b.example.zone.example"),
        // Not its organisation's.
        ("a.b.c.example.com", "a.b.c.example.com.zone.example"),
        ("[192.0.2.1]", nil), ("[IPv6:2001:db8::1]", nil), ("192.0.2.1", nil), ("192.0.2.1.", nil),
        ("2001:db8::1", nil),
        ("laptop", nil), ("TEST", nil), ("", nil), (".", nil), ("a b.example", nil), ("a/b.example", nil),
        ("a..example", nil), (String(repeating: "a.", count: 125) + "example", nil),
    ])
    func nameIsAsked(name: String, question: String?) {
        #expect(Self.list(.ehlo).question(about: name) == question.flatMap { QueryName($0) })
    }

    @Test func testEntries() {
        let addresses = Self.list(.client).tests
        let digits = "0.0.0.0.f.f.f.f" + String(repeating: ".0", count: 20) + ".zone.example"
        #expect(
            addresses.listed
                == ["2.0.0.127.zone.example", "2.0.0.0.0.0.f.7." + digits.dropFirst(8)].map { QueryName($0) })
        #expect(addresses.unlisted.first == QueryName("1.0.0.127.zone.example"))
        #expect(addresses.unlisted.count == 2)
        #expect(Self.list(.sender).tests.listed.first == QueryName("test.zone.example"))
        #expect(Self.list(.ehlo).tests.unlisted == [QueryName("invalid.zone.example")])
    }

    // MARK: Answers

    enum Expected: Sendable {
        case notListed, listed, refused, foreign
    }

    /// What lists that exist answer with, and lists that do not any more.
    @Test(arguments: [
        (ListSubject.client, [], Expected.notListed),
        (.client, ["127.0.0.2"], .listed), (.client, ["127.0.0.254"], .listed),
        (.client, ["127.0.0.4", "127.0.0.10"], .listed),
        // One that matches counts, whatever the others say.
        (.client, ["127.0.9.9", "127.0.0.3"], .listed), (.client, ["127.0.9.9"], .notListed),
        (.client, ["127.0.1.2"], .notListed), (.sender, ["127.0.1.2"], .listed), (.ehlo, ["127.0.1.254"], .listed),
        (.sender, ["127.0.0.2"], .listed),
        // Spamhaus: mistyped, public resolver, too many questions.
        (.client, ["127.255.255.252"], .refused), (.client, ["127.255.255.254"], .refused),
        (.client, ["127.255.255.255"], .refused), (.sender, ["127.255.255.254"], .refused),
        (.client, ["127.0.0.2", "127.255.255.254"], .refused),
        // URIBL, SURBL; DBL about an address.
        (.client, ["127.0.0.1"], .refused), (.sender, ["127.0.0.1"], .refused), (.sender, ["127.0.1.255"], .refused),
        // A domain that was parked.
        (.client, ["198.51.100.7"], .foreign), (.client, ["0.0.0.0"], .foreign), (.client, ["128.0.0.2"], .foreign),
        (.client, ["127.0.0.2", "198.51.100.7"], .foreign),
    ])
    func usualAnswers(of subject: ListSubject, answer: [String], expected: Expected) throws {
        try Self.expect(Self.list(subject), answer, expected)
    }

    @Test(arguments: [
        (["127.0.0.10"], Expected.listed), (["127.0.0.2"], .notListed), (["127.0.0.1"], .listed),
        (["127.255.255.254"], .refused), (["198.51.100.1"], .foreign),
    ])
    func ownAnswers(answer: [String], expected: Expected) throws {
        // Whoever says so means the last two too, and is not believed.
        let answers: [ClosedRange<UInt32>] = [
            0x7F00_000A...0x7F00_000B, 0x7F00_0001...0x7F00_0001, 0x7FFF_FF00...0x7FFF_FFFF, 0xC633_6401...0xC633_6401,
        ]
        try Self.expect(Self.list(.client, answers: answers), answer, expected)
    }

    private static func expect(_ list: BlockList, _ answer: [String], _ expected: Expected) throws {
        switch (list.judge(try addresses(answer)), expected) {
        case (.notListed, .notListed), (.refused, .refused), (.foreign, .foreign): break
        case (.listed(let addresses), .listed): #expect(addresses.map(\.description) == answer.sorted())
        case (let judgement, _): Issue.record("\(answer): \(judgement)")
        }
    }

    /// A list is in order though its test entry is none of the answers that somebody wants of it.
    @Test func testEntryNeedNotCount() throws {
        let list = Self.list(.client, answers: [0x7F00_000A...0x7F00_000B])
        for answer in ["127.0.0.2", "127.0.0.99", "127.0.2.1"] {
            guard case .listed = list.judgeTest(try Self.addresses([answer])) else {
                Issue.record("\(answer) is a test entry")
                continue
            }
        }
        for answer in ["127.0.0.1", "127.0.1.255", "127.255.255.254"] {
            #expect(list.judgeTest(try Self.addresses([answer])) == .refused(try #require(IPAddress(answer))))
        }
    }

    // MARK: Text

    @Test func text() {
        let list = Self.list(.client)
        func text(_ texts: String...) -> String? { list.text(texts.map { Array($0.utf8) }) }
        #expect(text("Listed, see https://l.example/?ip=192.0.2.1") == "Listed, see https://l.example/?ip=192.0.2.1")
        #expect(text() == nil)
        #expect(text("", "\r\n") == nil)
        #expect(text("250 ok\r\n354 x%s\u{1B}[31m\u{FC}\u{202E}") == "250 ok354 xs[31m")
        #expect(text("b", "a") == "a")
        #expect(text(String(repeating: "x", count: 300))?.utf8.count == 200)
    }

    @Test func secretZone() {
        let list = BlockList(
            name: "paid", zone: "0123456789abcdef.zen.dq.example.net", of: .client, wantsText: true, isZoneSecret: true)
        let text = list.text([Array("See 2.0.0.127.0123456789ABCDEF.Zen.dq.example.net, key 0123456789abcdef".utf8)])
        #expect(text == "See 2.0.0.127.paid, key paid")
        // The text is cut after that: not in the middle of a key.
        let long = String(repeating: "x", count: 190) + "0123456789abcdef"
        #expect(list.text([Array(long.utf8)]) == String(repeating: "x", count: 190) + "paid")
    }
}
