// Lists of addresses (RFC 5322 section 3.4) against tables, two sets of other people's vectors and random octets.

import Foundation
import TestKit
import Testing

@testable import SlimtaMail

@Suite struct AddressListTests {
    /// "name <address>" for each entry, "<address>" without a name.
    private func shown(_ list: AddressList) -> [String] {
        list.entries.map { ($0.displayName.map { "\($0) " } ?? "") + "<\($0.mailbox)>" }
    }

    static let good: [(String, [String])] = [
        ("", []), (" ", []), (",", []), (" , ,\t", []), ("(nobody)", []), ("(nobody), ", []),
        ("a@b", ["<a@b>"]), (" a@b\t", ["<a@b>"]), ("<a@b>", ["<a@b>"]), ("a@b,c@d", ["<a@b>", "<c@d>"]),
        ("a@b,,c@d,", ["<a@b>", "<c@d>"]), ("A@B", ["<A@B>"]),
        // names
        ("Some One <a@b>", ["Some One <a@b>"]), ("One<a@b>", ["One <a@b>"]), ("Some\t\t One <a@b>", ["Some One <a@b>"]),
        ("\"One, Some\" <a@b>", ["One, Some <a@b>"]), ("\"a \\\" \\\\\" <a@b>", ["a \" \\ <a@b>"]),
        ("Joe Q. Public <a@b>", ["Joe Q. Public <a@b>"]), ("\"\" <a@b>", ["<a@b>"]), (" <a@b>", ["<a@b>"]),
        ("\"a\"\"b\" <a@b>", ["ab <a@b>"]), ("=?utf-8?q?J=C3=B6rg?= <a@b>", ["=?utf-8?q?J=C3=B6rg?= <a@b>"]),
        ("J\u{F6}rg M\u{FC}ller <a@b>", ["J\u{F6}rg M\u{FC}ller <a@b>"]),
        ("a@b <a@b>", ["a@b <a@b>"]), ("[x-list] one <a@b>", ["[x-list] one <a@b>"]),
        ("[x\r\n list] one <a@b>", ["[x list] one <a@b>"]), ("One [x\n\ty\\\n z] <a@b>", ["One [x\ty\\ z] <a@b>"]),
        // comments
        ("a@b (One)", ["One <a@b>"]), ("root@h (Cron Daemon)", ["Cron Daemon <root@h>"]),
        ("(x)a(y)@(z)b(One)", ["One <a@b>"]), ("One (x) <a@b> (y)", ["One <a@b>"]), ("<a@b> (One)", ["One <a@b>"]),
        ("a@b (One (and \\) more))", ["One (and ) more) <a@b>"]), ("a@b (one), c@d", ["one <a@b>", "<c@d>"]),
        ("a@b (, <c@d>)", [", <c@d> <a@b>"]),
        // groups
        ("undisclosed-recipients:;", []), ("undisclosed recipients: ;", []), ("x:;,a@b", ["<a@b>"]),
        ("Team: a@b, One <c@d>; , e@f", ["<a@b>", "One <c@d>", "<e@f>"]), ("\"T: 1\":a@b;", ["<a@b>"]),
        ("A:a@b;B:c@d;", ["<a@b>", "<c@d>"]), ("A:a@b", ["<a@b>"]), ("A: ,, a@b,;", ["<a@b>"]),
        ("a@b; c@d", ["<a@b>", "<c@d>"]), ("a@b;", ["<a@b>"]),
        // routes
        ("<@x:a@b>", ["<a@b>"]), ("One <@x,@y.z:a@b>", ["One <a@b>"]), ("<@x, , @y:a@b>", ["<a@b>"]),
        ("<,@x:a@b>", ["<a@b>"]),
        // folding, and blanks where RFC 5322 section 4.4 has them
        (" a@b,\r\n c@d", ["<a@b>", "<c@d>"]), ("a@b,\n\tc@d", ["<a@b>", "<c@d>"]), ("a @ b", ["<a@b>"]),
        ("a . b @ c . d", ["<a.b@c.d>"]), ("a.\r\n b@c", ["<a.b@c>"]), ("< a@b >", ["<a@b>"]),
        ("\"x\r\n y\" <a@b>", ["x y <a@b>"]), ("a@b (x\r\n y)", ["x y <a@b>"]), ("a@[1.2.3.4]", ["<a@[1.2.3.4]>"]),
        ("a@[ 1.2.3.4\r\n ]", ["<a@[1.2.3.4]>"]), ("a@[IPv6:::1]", ["<a@[IPv6:::1]>"]),
        // local parts
        ("\"a b\"@c", ["<\"a b\"@c>"]), ("\"a\"@b", ["<\"a\"@b>"]), ("\"a\".b@c", ["<a.b@c>"]),
        ("a.\"b c\"@d", ["<\"a.b c\"@d>"]), ("\"a\\\"\".b@c", ["<\"a\\\".b\"@c>"]), ("\"a\r\n b\"@c", ["<\"a b\"@c>"]),
        ("\"\"@b", ["<\"\"@b>"]), ("\"a@b\"@c", ["<\"a@b\"@c>"]), ("\"a,b\"@c,d@e", ["<\"a,b\"@c>", "<d@e>"]),
        ("\"\\\u{FC}\"@b", ["<\"\u{FC}\"@b>"]), ("\u{FC}@b\u{FC}cher.example", ["<\u{FC}@b\u{FC}cher.example>"]),
        ("a!b%c@d", ["<a!b%c@d>"]), ("#!/bin/sh@b", ["<#!/bin/sh@b>"]), ("-x@b", ["<-x@b>"]),
    ]

    @Test(arguments: good) func isRead(_ text: String, _ expected: [String]) throws {
        let list = try AddressList(parsing: text)
        #expect(shown(list) == expected)
        #expect(list.entries.allSatisfy { $0.endOfBareName == nil })
    }

    static let bad: [(String, AddressList.Fault.Reason, Int)] = [
        ("a", .noDomain, 0), ("x, root", .noDomain, 0), ("a@b, root", .noDomain, 5), ("<root>", .noDomain, 1),
        ("a b", .noAddress, 0), ("a b@c", .noAddress, 0), ("a@b c", .noAddress, 0), ("a@", .noAddress, 0),
        ("@b", .noAddress, 0), ("a@b@c", .noAddress, 0), (".a@b", .noAddress, 0), ("a.@b", .noAddress, 0),
        ("a..b@c", .noAddress, 0), ("a@b..c", .noAddress, 0), ("a@.b", .noAddress, 0), ("a@b.", .noAddress, 0),
        ("<>", .noAddress, 0), ("One <>", .noAddress, 4), ("<@x>", .noAddress, 0), ("<@x:>", .noAddress, 0),
        ("<,>", .noAddress, 0), ("a@\"b\"", .noAddress, 0), ("[a]@b", .noAddress, 0), ("a@[x]", .noAddress, 0),
        ("a@[1.2.3.4]b", .noAddress, 0), ("a@-b", .noAddress, 0), ("\"a\"b@c", .noAddress, 0), ("a@b+c", .noAddress, 0),
        ("\"a\tb\"@c", .noAddress, 0),
        ("a@b <c@d", .openBracket, 4), ("<a@b, c@d>", .openBracket, 0), ("<a@b <c@d>>", .openBracket, 0),
        ("<a@b:c>", .openBracket, 0),
        ("a@b>", .strayCharacter, 3), ("a@b)", .strayCharacter, 3), ("a\\b@c", .strayCharacter, 1),
        ("a]@b", .strayCharacter, 1), ("<a@b>>", .strayCharacter, 5), ("A:B:c@d;", .group, 3), (":a@b", .group, 0),
        ("a@b:c@d", .group, 3), ("<a@b> x", .behindBracket, 0), ("<a@b> <c@d>", .strayCharacter, 6),
        ("(a@b", .openComment, 0), ("a@b (x (y)", .openComment, 4), ("(\\)", .openComment, 0),
        ("\"a@b", .openQuote, 0), ("\"a\\\"@b", .openQuote, 0), ("\"a\\", .openQuote, 0),
        ("a@[1.2.3.4", .openLiteral, 2),
        // nothing that ends a line is passed on
        ("a@b\r\nc@d", .control, 3), ("a@b\nc@d", .control, 3), ("a@b\rc@d", .control, 3), ("a@b\r", .control, 3),
        ("a@b\n", .control, 3), ("\"a\r\nb\" <a@b>", .control, 2), ("\"a\\\r\nb\" <a@b>", .control, 3),
        ("a@b (\rx)", .control, 5), ("a@b (\\\0)", .control, 6), ("\0", .control, 0), ("a\u{7F}@b", .control, 1),
        ("\"\u{1B}[2J\" <a@b>", .control, 1),
    ]

    @Test(arguments: bad) func isRefused(_ text: String, _ reason: AddressList.Fault.Reason, _ offset: Int) {
        #expect(throws: AddressList.Fault(offset: offset, reason: reason), "\(text)") {
            try AddressList(parsing: text)
        }
    }

    static let bare: [(String, String, Int)] = [
        ("root", "root@h.example", 4), (" root (Cron Daemon)", "root@h.example", 5), ("x <root>", "root@h.example", 7),
        ("\"two words\"", "\"two words\"@h.example", 11), ("a . b", "a.b@h.example", 5),
        ("< root >", "root@h.example", 6),
    ]

    /// cron writes "root (Cron Daemon)": where the domain goes is known, so that the field can have it and keep its comment.
    @Test(arguments: bare) func isQualified(_ text: String, _ address: String, _ end: Int) throws {
        let entry = try #require(try AddressList(parsing: text, qualifiedWith: "h.example").entries.first)
        #expect(entry.mailbox.text == address)
        #expect(entry.endOfBareName == end)
        var octets = Array(text.utf8)
        octets.insert(contentsOf: "@h.example".utf8, at: end)
        let again = try #require(try AddressList(parsing: octets).entries.first)
        #expect(again.mailbox == entry.mailbox)
        #expect(again.displayName == entry.displayName)
    }

    @Test func eachOnce() throws {
        let list = try AddressList(
            parsing: "a@B.example, a@b.EXAMPLE, A@b.example, a@b\u{FC}.de, a@xn--b-eha.de, c@d, a@B.example")
        #expect(
            list.entries.map(\.mailbox).eachOnce.map(\.text) == ["a@B.example", "A@b.example", "a@b\u{FC}.de", "c@d"])
    }

    /// As deep as somebody likes, and as many: time is linear, nothing is recursive.
    @Test func depthAndLength() throws {
        let deep = String(repeating: "(", count: 100_000) + String(repeating: ")", count: 100_000)
        #expect(try AddressList(parsing: "a@b \(deep)").entries.count == 1)
        #expect(throws: AddressList.Fault(offset: 0, reason: .openComment)) {
            try AddressList(parsing: String(repeating: "(", count: 100_000))
        }
        #expect(try AddressList(parsing: String(repeating: "a@b,", count: 50_000)).entries.count == 50_000)
    }

    // MARK: Other people's vectors

    private struct Vector: Decodable {
        struct Address: Decodable { let name, address: String? }
        struct Group: Decodable { let addresses: [Address] }
        struct Expected: Decodable {
            let list: [Address]?
            let group: [Group]?
            enum CodingKeys: String, CodingKey { case list = "List", group = "Group" }
        }
        let header: String
        let expected: Expected
        var addresses: [Address] { (expected.list ?? []) + (expected.group ?? []).flatMap(\.addresses) }
    }

    /// mail-parser's cases. It keeps routes and blanks in addresses, takes URLs for some, decodes encoded words and puts
    /// comments into names: only what is an address for both is compared.
    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func mailParser() throws {
        let vectors = try JSONDecoder().decode(
            [Vector].self, from: Data(SharedFiles.vector("header-fields/address.json")))
        #expect(vectors.count == 60)
        var compared = 0
        for vector in vectors {
            let value = vector.header.hasSuffix("\n") ? String(vector.header.dropLast()) : vector.header
            let isOther =
                value.contains("://") || value.contains("mailto:") || value.hasPrefix("NO ")
                || value.contains("\ninvalid")
                || value.contains("\n\nbody") || value.contains("> =?")
                || value.contains("\\\n")
            guard !isOther else {
                #expect(throws: AddressList.Fault.self, "\(value)") { try AddressList(parsing: value) }
                continue
            }
            let entries = try AddressList(parsing: value).entries
            let expected = vector.addresses.compactMap { address in
                address.address.map { $0.replacing(" ", with: "").replacing("@node.test:", with: "") }
            }
            #expect(entries.map(\.mailbox.text) == expected, "\(value)")
            if !value.contains("=?"), !value.contains("(") {
                #expect(
                    entries.map { $0.displayName?.trimmingCharacters(in: .whitespaces) }
                        == vector.addresses.map { $0.name?.trimmingCharacters(in: .whitespaces) }, "\(value)")
            }
            compared += 1
        }
        #expect(compared == 45)
    }

    /// Dominic Sayers' vectors: what is good in SMTP is good here and means the same; so are comments, blanks and folding
    /// ("CFWS") and old forms ("deprecated") where what is left without them is an address of SMTP.
    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func isemail() throws {
        var counts: [String: [Int]] = [:]
        for vector in try IsemailVector.all() {
            // They are older than RFC 6532.
            if !vector.address.isASCII { continue }
            let list = try? AddressList(parsing: vector.address)
            let isOne = list?.entries.count == 1
            counts[vector.category, default: [0, 0]][isOne ? 0 : 1] += 1
            if let mailbox = Mailbox(parsing: vector.address) {
                #expect(list?.entries.map(\.mailbox) == [mailbox], "\(vector.address)")
            } else if vector.category == "ISEMAIL_ERR" {
                #expect(!isOne, "\(vector.address): \(list?.entries.map(\.mailbox.text) ?? [])")
            }
        }
        // Refused of the old forms: controls, at eight places.
        #expect(counts["ISEMAIL_CFWS"] == [10, 0])
        #expect(counts["ISEMAIL_DEPREC"] == [12, 8])
    }

    // MARK: Random octets

    /// Whatever comes: no trap, and what is read is an address, with nothing in it that ends a line.
    @Test func randomOctets() {
        var generator = SeededGenerator(seed: 5322)
        let alphabet = Array("aab@@@,,;:<<>>()\"\".\\[] \t\r\n\0".utf8) + [0xC3, 0xBC, 0xFF]
        var accepted = 0
        for _ in 0..<100_000 {
            let octets = generator.octets(Int.random(in: 0...14, using: &generator), from: alphabet)
            for domain in [nil, "h.example"] {
                guard let list = try? AddressList(parsing: octets, qualifiedWith: domain) else { continue }
                for entry in list.entries {
                    accepted += 1
                    #expect(Mailbox(parsing: entry.mailbox.text) == entry.mailbox)
                    #expect(entry.displayName?.utf8.allSatisfy { $0 == 9 || !$0.isASCIIControl } ?? true)
                    #expect(entry.endOfBareName == nil || domain != nil && entry.mailbox.domain == "h.example")
                }
            }
        }
        #expect(accepted > 1000)
    }
}
