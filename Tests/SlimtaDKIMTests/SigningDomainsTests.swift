// Whose signature a message gets: tables of domains, authors, headers.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaDKIM

@Suite struct SigningDomainsTests {
    private static let domains: [(domain: String, allowsSubdomains: Bool)] = [
        ("example.com", true), ("own.example.com", true), ("strict.example.net", false), ("example.net", true),
        ("M\u{FC}nchen.example", true),
    ]

    private func table(_ otherwise: SigningDomains.Otherwise = .unsigned) -> SigningDomains {
        SigningDomains(Self.domains, otherwise: otherwise)
    }

    @Test(
        arguments: [
            ("example.com", "example.com"), ("EXAMPLE.com", "example.com"), ("news.example.com", "example.com"),
            ("a.b.news.example.com", "example.com"), ("own.example.com", "own.example.com"),
            ("x.own.example.com", "own.example.com"), ("strict.example.net", "strict.example.net"),
            // The nearest decides.
            ("a.strict.example.net", nil), ("other.example.net", "example.net"),
            ("badexample.com", nil), ("com", nil), ("", nil), ("[192.0.2.1]", nil), ("example.com.", nil),
            (".example.com", "example.com"),
            ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
            ("post.m\u{FC}nchen.EXAMPLE", "xn--mnchen-3ya.example"),
        ] as [(String, String?)])
    func entries(_ author: String, _ entry: String?) { #expect(table().entry(for: author) == entry) }

    @Test func otherwise() throws {
        let ours = [Mailbox(localPart: "a", domain: "News.Example.com")]
        let alien = [Mailbox(localPart: "a", domain: "Other.Example")]
        #expect(table().decision(authors: ours) == .sign(entry: "example.com", isAligned: true))
        // The first counts.
        #expect(table().decision(authors: ours + alien) == .sign(entry: "example.com", isAligned: true))
        #expect(table().decision(authors: alien + ours) == .unsigned(author: "other.example"))
        #expect(table().decision(authors: []) == .unsigned(author: nil))
        for authors in [alien, []] {
            let refused = table(.refuse).decision(authors: authors)
            guard case .refuse(let reply) = refused else {
                Issue.record("\(refused)")
                continue
            }
            #expect(reply.code == 550 && reply.status == EnhancedStatus(5, 7, 1))
            #expect(
                table(.domain("Example.NET")).decision(authors: authors)
                    == .sign(entry: "example.net", isAligned: false))
        }
        #expect(table(.refuse).decision(authors: ours) == .sign(entry: "example.com", isAligned: true))
    }

    @Test(
        arguments: [
            ("From: a@example.com\r\n", "example.com"), ("from : A <a@x.example.com>\r\n", "example.com"),
            ("From: a@example.com, b@other.example\r\n", "example.com"),
            ("From: \"a@other.example\" <b@example.com>\r\n", "example.com"),
            ("From: b@other.example, a@example.com\r\n", nil), ("From: nobody:;\r\n", nil), ("From:\r\n", nil),
            ("From: a@\r\n", nil), ("From: <@other.example:a@example.com>\r\n", "example.com"),
            ("From: g: a@example.com;\r\nSender: c@other.example\r\n", "example.com"),
        ] as [(String, String?)])
    func headers(_ fields: String, _ entry: String?) {
        let buffer = ByteBuffer(string: fields + "\r\nFrom: body")
        let decision = table().decision(HeaderBlock(scanning: buffer), in: buffer)
        if let entry {
            #expect(decision == .sign(entry: entry, isAligned: true))
        } else {
            if case .unsigned = decision {} else { Issue.record("\(decision)") }
        }
    }

    /// What cannot be read, and may name one of ours.
    @Test(
        arguments: [
            ("A <a@example.com", true), ("A <a@example.com> b", true), ("\"A <a@example.com>", true),
            ("a@example.com.", true), ("<a@ news.Example.com.", true), ("<b@other.example> <a@EXAMPLE.net", true),
            ("<a@m\u{FC}nchen.example", true), ("(x <a@own.example.com>", true), ("<a@\r\n example.com", true),
            ("<a@@example.com>", true), ("<b@other.example", false), ("<a@badexample.com", false),
            ("<a@strict.example.net.other.example", false), ("<b@x.strict.example.net", false), ("<a@", false),
            ("<a@...", false), ("<example.com", false), ("<a@example.comx", false),
            ("<a@" + String(repeating: "x.", count: 400) + "example.com", true),
        ] as [(String, Bool)])
    func unreadable(_ value: String, _ isOurs: Bool) throws {
        #expect(throws: AddressList.Fault.self) { try AddressList(parsing: value) }
        let buffer = ByteBuffer(string: "From: \(value)\r\nTo: a@example.com\r\n\r\n")
        for otherwise in [SigningDomains.Otherwise.unsigned, .domain("example.net")] {
            let decision = table(otherwise).decision(HeaderBlock(scanning: buffer), in: buffer)
            if isOurs {
                #expect(decision == .refuse(Reply(550, .init(5, 6, 0), "The From field cannot be read")))
            } else {
                #expect(decision == table(otherwise).decision(authors: []))
            }
        }
    }

    /// Never the first of two.
    @Test(arguments: [
        "To: a@example.com\r\n", "From: a@example.com\r\nFrom: b@example.com\r\n", "From: a@example.com\r\nfrom :\r\n",
    ])
    func notOneFrom(_ fields: String) {
        let buffer = ByteBuffer(string: fields + "\r\n")
        let decision = table(.domain("example.net")).decision(HeaderBlock(scanning: buffer), in: buffer)
        guard case .refuse(let reply) = decision else {
            Issue.record("\(decision)")
            return
        }
        #expect(reply.code == 550 && reply.status == EnhancedStatus(5, 6, 0))
    }
}
