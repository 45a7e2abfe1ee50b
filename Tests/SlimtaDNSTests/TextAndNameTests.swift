// TXT, PTR and names of any octets, of a real name server on loopback.

import Glibc
import TestKit
import Testing

@testable import SlimtaDNS

@Suite struct TextAndNameTests {
    private static let long = String(repeating: "x", count: 250)
    /// One for all that only ask it.
    private static let server = try! NameServer(
        records: [
            #"one.example. 300 IN TXT "v=spf1 -all""#,
            #"joined.example. 300 IN TXT "v=spf1 " "ip4:192.0.2." "1 -all""#,
            #"two.example. 300 IN TXT "a""#, #"two.example. 300 IN TXT "b" "c""#,
            #"octets.example. 300 IN TXT "\000\252 \195\188""#, #"empty.example. 300 IN TXT """#,
            #"large.example. 300 IN TXT "\#(long)" "\#(long)" "\#(long)" "\#(long)" "\#(long)" "\#(long)" "\#(long)""#,
            "alias.example. 300 IN CNAME other/name.example.", #"other/name.example. 300 IN TXT "found""#,
            "_25._tcp.host.example. 300 IN TLSA 3 1 1 ABCD",
            "_25._tcp.alias.example. 300 IN CNAME _25._tcp.host.example.",
            "dangling.example. 300 IN CNAME nowhere.example.", "host.example. 300 IN A 192.0.2.1",
            "zone.example. 900 IN SOA ns.zone.example. postmaster.zone.example. 1 2 3 4 77",
            // RFC 7208 section 7: what macros make of a local part.
            #"a\032b\034\255.example. 300 IN A 127.0.0.2"#, #"a\092b.example. 300 IN TXT "backslash""#,
            "x=y+z._spf.example. 300 IN AAAA 2001:db8::1", "m/x.example. 300 IN MX 10 mx.example.",
            // RFC 2317 section 4: a network of 32 addresses, whose names are kept elsewhere.
            "1.2.0.192.in-addr.arpa. 300 IN CNAME 1.0/27.2.0.192.in-addr.arpa.",
            "1.0/27.2.0.192.in-addr.arpa. 300 IN PTR Mail.Example.",
            "2.2.0.192.in-addr.arpa. 300 IN PTR a/b.example.", "2.2.0.192.in-addr.arpa. 300 IN PTR second.example.",
            #"3.2.0.192.in-addr.arpa. 300 IN PTR a\.b.example."#,
            #"3.2.0.192.in-addr.arpa. 300 IN PTR a\013\010b.example."#,
            "3.2.0.192.in-addr.arpa. 300 IN PTR .",
            "4.3.2.10.in-addr.arpa. 300 IN PTR printer.lan.",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 300 IN PTR six.example.",
        ],
        refusing: ["broken.example."], silent: ["silent.example."])

    private static func resolver() throws -> Resolver {
        try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .off)
    }

    private static func name(_ text: String) throws -> QueryName { try #require(QueryName(text)) }

    // MARK: TXT

    /// The strings of a record are one text, without anything between them; records are not.
    @Test(arguments: [
        ("one.example", ["v=spf1 -all"]), ("JOINED.example.", ["v=spf1 ip4:192.0.2.1 -all"]),
        ("two.example", ["a", "bc"]), ("empty.example", [""]), ("alias.example", ["found"]),
        ("large.example", [String(repeating: "x", count: 1750)]), ("host.example", []), ("a\\b.example", ["backslash"]),
    ])
    func texts(name: String, texts: [String]) async throws {
        let answer = try await Self.resolver().txt(Self.name(name))
        #expect(Set(answer.records) == Set(texts.map { Array($0.utf8) }))
        #expect(answer.records.count == texts.count)
    }

    /// As DNS has them, also where the name is an alias; and what an alias is one of itself.
    @Test func recordsOfTLS() async throws {
        let resolver = try Self.resolver()
        for name in ["_25._tcp.host.example", "_25._TCP.alias.example."] {
            #expect(try await resolver.tlsa(name).records == [[3, 1, 1, 0xAB, 0xCD]])
        }
        #expect(try await resolver.tlsa("host.example").records.isEmpty)
        await #expect(throws: DNSError.noSuchName) { try await resolver.tlsa("_26._tcp.host.example") }
        await #expect(throws: DNSError.invalidName) { try await resolver.tlsa("a b.example") }
        #expect(try await resolver.cname("dangling.example").records == ["nowhere.example"])
        #expect(try await resolver.cname("host.example").records.isEmpty)
    }

    /// How long a zone lets others remember that something is not there; a name that is none has nothing to say of it.
    @Test func zones() async throws {
        let resolver = try Self.resolver()
        let answer = try await resolver.soa(Self.name("zone.example"))
        #expect(answer.records == [SOARecord(minimum: 77)] && answer.ttl == 900)
        #expect(try await resolver.soa(Self.name("host.example")).records.isEmpty)
    }

    @Test func textsAreOctets() async throws {
        let answer = try await Self.resolver().txt(Self.name("octets.example"))
        #expect(answer.records == [[0, 252, 0x20, 0xC3, 0xBC]])
    }

    /// A name that is not there, one that is there without the type, and nobody who knows are three things.
    @Test func noText() async throws {
        let resolver = try Self.resolver()
        for name in ["nowhere.example", "dangling.example"] {
            await #expect(throws: DNSError.noSuchName) { try await resolver.txt(Self.name(name)) }
        }
        #expect(try await resolver.txt(Self.name("host.example")).records.isEmpty)
        await #expect(throws: DNSError.temporary("SERVFAIL")) { try await resolver.txt(Self.name("broken.example")) }
        let silent = try Self.name("x.silent.example")
        let waiting = Task { () async -> DNSError? in
            do throws(DNSError) {
                _ = try await resolver.txt(silent)
                return nil
            } catch {
                return error
            }
        }
        await Task.yield()
        waiting.cancel()
        #expect(await waiting.value == .temporary("cancelled"))
    }

    // MARK: PTR

    @Test(arguments: [
        ("1.2.0.192.in-addr.arpa", ["mail.example"]), ("2.2.0.192.in-addr.arpa", ["a/b.example", "second.example"]),
        ("4.3.2.10.in-addr.arpa", ["printer.lan"]),
        ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", ["six.example"]),
        // A dot in a label, a line's end, and the root.
        ("3.2.0.192.in-addr.arpa", []),
    ])
    func namesOfAddresses(name: String, names: [String]) async throws {
        #expect(try await Set(Self.resolver().ptr(Self.name(name)).records) == Set(names))
    }

    @Test func addressWithoutName() async throws {
        let resolver = try Self.resolver()
        await #expect(throws: DNSError.noSuchName) { try await resolver.ptr(Self.name("9.2.0.192.in-addr.arpa")) }
        // Known without asking.
        #expect(try await resolver.ptr(Self.name("1.0.0.127.in-addr.arpa")).records == ["localhost"])
    }

    // MARK: Names of any octets

    @Test func anyOctets() async throws {
        let resolver = try Self.resolver()
        let odd = try #require(QueryName(octets: Array("A b\"".utf8) + [255] + Array(".example".utf8)))
        #expect(try await resolver.a(odd).records.map(\.text) == ["127.0.0.2"])
        #expect(try await resolver.aaaa(Self.name("x=Y+z._spf.example")).records.map(\.text) == ["2001:db8::1"])
        #expect(try await resolver.mx(Self.name("m/x.example")).records.map(\.exchanger) == ["mx.example"])
        // An octet more or less is another name.
        await #expect(throws: DNSError.noSuchName) { try await resolver.a(Self.name("a b\".example")) }
    }

    private static let label63 = String(repeating: "\u{1}", count: 63)

    @Test(arguments: [
        ("Example.COM", "example.com"), ("a b.c.", "a\\032b.c"), ("a\\.b", "a\\092.b"), ("a\0b", "a\\000b"),
        ("\u{FC}", "\\195\\188"), ("*.x", "\\042.x"),
        ("\(label63).x", String(repeating: "\\001", count: 63) + ".x"),
    ])
    func presentation(text: String, presentation: String) throws {
        #expect(try Self.name(text).presentation == presentation)
    }

    @Test(arguments: [
        "", ".", "..", ".a", "a..b", "a..", "\(label63)a.b",
        "\(label63).\(label63).\(label63).\(label63.dropLast(1))",
    ])
    func noName(text: String) {
        #expect(QueryName(text) == nil)
    }

    @Test func longest() async throws {
        let name = try Self.name("\(Self.label63).\(Self.label63).\(Self.label63).\(Self.label63.dropLast(2))")
        // As long as one can be, and longer than that as it is written: libunbound takes it.
        let resolver = try Self.resolver()
        await #expect(throws: DNSError.noSuchName) { try await resolver.txt(name) }
    }
}
