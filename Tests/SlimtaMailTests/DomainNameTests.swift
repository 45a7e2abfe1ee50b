// International domain names in A-labels: our own cases, and Unicode's where they are there.

import Foundation
import TestKit
import Testing

@testable import SlimtaMail

@Suite struct DomainNameTests {
    private struct Cases: Decodable, Sendable {
        let toAscii: [[String]]
        let invalid: [String]

        enum CodingKeys: String, CodingKey {
            case toAscii = "to_ascii"
            case invalid
        }
    }

    @Test func ours() throws {
        let cases = try Fixtures.json(Cases.self, "idna.json")
        for pair in cases.toAscii { #expect(DomainName.ascii(pair[0]) == pair[1], "\(pair[0])") }
        for name in cases.invalid { #expect(DomainName.ascii(name) == nil, "\(name)") }
    }

    /// Unicode's own: no name becomes another one. libidn2 may know an older Unicode, and then refuses what came since;
    /// its capital sharp s is of Unicode 15.
    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository"))
    func unicode() throws {
        let cases = try Self.unicodeCases()
        var known = 0
        for pair in cases.toAscii {
            let found = DomainName.ascii(pair[0])
            if found == pair[1] { known += 1 }
            #expect(found == nil || found == pair[1] || pair[0].unicodeScalars.contains("\u{1E9E}"), "\(pair)")
        }
        #expect(cases.toAscii.count > 350 && cases.invalid.count > 5000)
        #expect(known * 10 >= cases.toAscii.count * 9)
        // What is left are signs such as \u{2260}, which have A-labels and do no harm, and dots at the end.
        let international = cases.invalid.filter { !$0.utf8.allSatisfy { $0 < 0x80 } }
        #expect(international.count { DomainName.ascii($0) != nil } * 50 < international.count)
    }

    /// One string a line. Some have unpaired surrogates, which no String can hold: they are left out.
    private static func unicodeCases() throws -> Cases {
        var (toAscii, invalid): ([[String]], [String]) = ([], [])
        var pair: [String?] = []
        var isInvalid = false
        for line in String(decoding: try SharedFiles.vector("idna/uts46.json"), as: UTF8.self).split(separator: "\n") {
            if line.hasPrefix("\"invalid\"") { isInvalid = true }
            guard line.hasPrefix("\""), !line.hasSuffix("[") else { continue }
            let text = line.hasSuffix(",") ? line.dropLast() : line
            let string = try? JSONDecoder().decode([String].self, from: Data("[\(text)]".utf8)).first
            if isInvalid {
                if let string { invalid.append(string) }
                continue
            }
            pair.append(string)
            if pair.count == 2 {
                if let name = pair[0], let ascii = pair[1] { toAscii.append([name, ascii]) }
                pair = []
            }
        }
        return Cases(toAscii: toAscii, invalid: invalid)
    }

    @Test(arguments: [
        ("bob@m\u{FC}nchen.test", "bob@xn--mnchen-3ya.test"),
        ("b\u{F6}b@m\u{FC}nchen.test", "b\u{F6}b@m\u{FC}nchen.test"),
        ("bob@Example.test", "bob@Example.test"), ("bob@m\u{200D}.test", "bob@m\u{200D}.test"),
    ])
    func forNextHop(_ text: String, _ expected: String) throws {
        let parts = text.split(separator: "@").map(String.init)
        #expect(Mailbox(localPart: parts[0], domain: parts[1]).forNextHop.text == expected)
    }

    @Test func folded() {
        #expect(Mailbox(localPart: "a", domain: "M\u{DC}NCHEN.test").foldedDomain == "xn--mnchen-3ya.test")
        #expect(Mailbox(localPart: "a", domain: "[IPv6:2001:DB8::1]").foldedDomain == "[ipv6:2001:db8::1]")
        #expect("Bob@M\u{FC}nchen.test".foldedAsAddress() == "bob@xn--mnchen-3ya.test")
        #expect("\"a@b\"@M\u{FC}nchen.test".foldedAsAddress() == "\"a@b\"@xn--mnchen-3ya.test")
        #expect("\u{DC}@MA\u{DF}.test".foldedAsAddress() == "\u{FC}@xn--ma-hia.test")
        #expect("@M\u{FC}nchen.test".foldedAsAddress() == "@xn--mnchen-3ya.test")
    }
}
