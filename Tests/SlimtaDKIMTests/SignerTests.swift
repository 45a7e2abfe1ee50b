// The field that we make: which fields it signs, how it is folded, its times; which messages get none; and the strict reader.

import NIOCore
import SlimtaCrypto
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaDKIM

@Suite struct SignedNamesTests {
    private func names(_ header: String) -> [String] { SignedNames.of(SampleMessage(header).header.counts) }

    private let always = """
        from from to cc subject date message-id reply-to in-reply-to references mime-version content-type \
        content-transfer-encoding
        """.split(separator: " ").map(String.init)

    /// What a reader sees is closed, whether it is there or not.
    @Test func alwaysClosed() { #expect(names("From: a@b.example\r\n") == always) }

    /// Fields, and what they add to that.
    @Test(
        arguments: [
            // Once more than they are there.
            ("List-Unsubscribe: <x>\r\n", ["list-unsubscribe", "list-unsubscribe"]),
            (
                "List-Unsubscribe-Post: x\r\nAUTOCRYPT: y\r\n",
                [
                    "list-unsubscribe-post", "list-unsubscribe-post", "autocrypt", "autocrypt",
                ]
            ),
            (
                "Feedback-ID: x\r\nAuto-Submitted : no\r\nContent-Disposition: inline\r\n",
                [
                    "feedback-id", "feedback-id", "auto-submitted", "auto-submitted", "content-disposition",
                    "content-disposition",
                ]
            ),
            (
                "TLS-Report-Domain: x\r\nTLS-Report-Submitter: y\r\nTLS-Required: No\r\n",
                ["tls-report-domain", "tls-report-domain", "tls-report-submitter", "tls-report-submitter"]
            ),
            // As often as they are there: lists and forwarders add others.
            ("Sender: x\r\nList-Id: x\r\nList-Id: y\r\n", ["sender", "list-id", "list-id"]),
            (
                "Resent-To: x\r\nResent-From: y\r\nResent-To: z\r\nResent-Bcc: u\r\n",
                ["resent-from", "resent-to", "resent-to"]
            ),
            (
                "List-Help: 1\r\nList-Post: 2\r\nList-Owner: 3\r\nList-Archive: 4\r\nList-Subscribe: 5\r\n",
                [
                    "list-help", "list-post", "list-owner", "list-archive", "list-subscribe",
                ]
            ),
            // Never.
            ("Received: x\r\nReturn-Path: <>\r\nDKIM-Signature: x\r\nARC-Seal: x\r\nAuthentication-Results: x\r\n", []),
            ("Bcc: x\r\nComments: x\r\nKeywords: x\r\nDelivered-To: x\r\nX-Mailer: x\r\nList-Foo: x\r\n", []),
        ] as [(String, [String])])
    func added(_ fields: String, _ expected: [String]) {
        #expect(names(fields + "From: a@b.example\r\n") == always + expected)
    }

    /// Duplicates stand together, and are there once more.
    @Test func twice() {
        #expect(names("To: a\r\nFrom: b@c.example\r\nTo: c\r\n").filter { $0 == "to" }.count == 3)
        #expect(Array(names("To: a\r\nFrom: b@c.example\r\nTo: c\r\n")[2..<5]) == ["to", "to", "to"])
    }

    /// A header of thousands makes no field of thousands.
    @Test func most() {
        let many = String(repeating: "Resent-To: a@b.example\r\n", count: 5000)
        #expect(names(many + "From: a@b.example\r\n").count == always.count + 50)
    }

    private static let all = SignedNames.always + SignedNames.closedWherePresent + SignedNames.wherePresent

    /// What is put above a signed message breaks its signature where the rule says so, and nowhere else.
    @Test(arguments: all + ["received", "return-path", "comments", "x-relay-key", "dkim-signature", "arc-seal"])
    func whatIsAddedLater(_ name: String) throws {
        for isThere in [false, true] {
            let message = SampleMessage(
                "From: a@b.example\r\n" + (isThere && name != "from" ? "\(name): 1\r\n" : "") + "\r\nHi.\r\n")
            let key = try DKIMSigningKey.generate(.ed25519SHA256)
            let signer = DKIMSigner(domain: "b.example", selector: "s", key: key, lifetime: nil)
            let field = try signer.sign(message.header, BodyHash(of: message.body, .relaxed), at: Life.start)
            var header = message.header
            header.prepend(ByteBuffer(string: "\(name): 2\r\n"))
            let verdict = DKIMVerifier(header, message.hashes, at: Life.start).verify(field, with: key.publicKey)
            let isBroken = SignedNames.isClosed(name) && (isThere || !SignedNames.closedWherePresent.contains(name))
            #expect(verdict == (isBroken ? .fail(.signature) : .pass(isTesting: false)), "\(name), \(isThere)")
        }
    }

    /// The first mention takes the lowest field, the next one the one above it (RFC 6376 section 5.4.2).
    @Test func fromBelow() {
        let header = SampleMessage("To: 1\r\nFrom: a\r\nTo: 2\r\nto : 3\r\n\r\nTo: 4\r\n").header
        #expect(
            text(header.canonical(["to", "from", "to", "to", "to", "cc", "from"], .simple))
                == "to : 3\r\nFrom: a\r\nTo: 2\r\nTo: 1\r\n")
        #expect(text(header.canonical(["to", "cc", "to"], .relaxed)) == "to:3\r\nto:2\r\n")
    }

    /// Blanks that have to go from a message before it is signed.
    @Test func blanks() {
        let octets = Array("From : a\r\nX-A : b\r\nSubject\t : c\r\nTo: d\r\n\r\nCc : e".utf8)
        let buffer = ByteBuffer(bytes: octets)
        let found = DKIMHeader.blanksBeforeColons(HeaderBlock(scanning: buffer), in: buffer)
        var changed = octets
        for range in found.reversed() { changed.removeSubrange(range) }
        #expect(text(changed) == "From: a\r\nX-A : b\r\nSubject: c\r\nTo: d\r\n\r\nCc : e")
    }

    /// What was put above a message, such as Date and Message-ID, is signed with it.
    @Test func prepended() {
        var header = SampleMessage("From: a\r\n\r\n").header
        header.prepend(ByteBuffer(string: "Date: 1\r\nMessage-ID: <2>\r\n"))
        header.prepend(ByteBuffer())
        #expect(header.fields.map(\.name) == ["date", "message-id", "from"] && header.isWellFormed)
        #expect(text(header.canonical(["message-id", "date"], .simple)) == "Message-ID: <2>\r\nDate: 1\r\n")
        header.prepend(ByteBuffer(string: "X: 1\r\n\r\n"))
        #expect(!header.isWellFormed)
        header = SampleMessage("From: a\r\n\r\n").header
        header.prepend(ByteBuffer(string: "no field\r\n"))
        #expect(!header.isWellFormed)
    }
}

@Suite struct SignerTests {
    private static let message = SampleMessage(
        "From: a@example.com\r\nTo: b@example.net\r\nList-Unsubscribe: <https://example.com/u>\r\n\r\nHi.\r\n")
    private static let time = Timestamp(milliseconds: 1_795_877_839_999)

    private static func signer(
        domain: String = "example.com", selector: String = "r2026a", _ lifetime: Duration? = .seconds(604_800)
    ) throws -> DKIMSigner {
        DKIMSigner(domain: domain, selector: selector, key: try SampleKeys.ed25519(), lifetime: lifetime)
    }

    private static func field(_ signer: DKIMSigner, at time: Timestamp = time) throws -> String {
        text(try signer.sign(message.header, BodyHash(of: message.body, .relaxed), at: time))
    }

    @Test func field() throws {
        let field = try Self.field(Self.signer())
        let expected = """
            DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.com;
            \ts=r2026a; t=1795877839; x=1796482639; h=from:from:to:to:cc:subject:date:
            \t message-id:reply-to:in-reply-to:references:mime-version:content-type:
            \t content-transfer-encoding:list-unsubscribe:list-unsubscribe;
            \tbh=Sp/6GDRwGeTKN2CRlTzZ5HbGwE8hwRqOiEtnxBMSF0I=;
            \tb=
            """.split(separator: "\n")
        let lines = field.split(separator: "\r\n").map(String.init)
        for (line, wanted) in zip(lines, expected) where !wanted.contains("b") || wanted.contains("h=from") {
            #expect(line == wanted)
        }
        #expect(lines.count == 7 && lines[4].hasPrefix("\tbh=") && lines[5].hasPrefix("\tb="))
        #expect(lines[5].count == 75)
        #expect(!field.contains("l=1") && !field.contains("; i=") && !field.contains("q=") && !field.contains("z="))
        let signature = try DKIMSignature(parsing: Array(field.utf8))
        #expect(signature.time == 1_795_877_839 && signature.expiration == 1_795_877_839 + 604_800)
        #expect(signature.field == Array(field.utf8) && signature.bodyLength == nil && signature.identityDomain == nil)
        #expect(signature.recordName == "r2026a._domainkey.example.com")
    }

    /// Names as long as they can be, and both algorithms: no long line, no blank at a line's end, none that is empty; values of d=
    /// and s= whole.
    @Test(
        arguments: [
            "example.com", "a.example", String(repeating: String(repeating: "d", count: 60) + ".", count: 4) + "com",
        ], ["s", "r2026a", String(repeating: "s", count: 63)])
    func folds(_ domain: String, _ selector: String) throws {
        for key in [try SampleKeys.ed25519(), try DKIMSigningKey.generate(.rsaSHA256)] {
            let signer = DKIMSigner(domain: domain, selector: selector, key: key, lifetime: .seconds(9))
            let hash = BodyHash(of: Self.message.body, .relaxed)
            let octets = try signer.sign(Self.message.header, hash, at: Self.time)
            let lines = text(octets).split(separator: "\r\n", omittingEmptySubsequences: false)
            #expect(lines.last == "")
            for line in lines.dropLast() {
                #expect(line.utf8.count <= max(78, domain.count + 5))
                #expect(line.last != " " && line.last != "\t" && line.contains { $0 != " " && $0 != "\t" })
                #expect(line.hasPrefix("\t") || line.hasPrefix("DKIM-Signature: "))
            }
            #expect(text(octets).contains("d=\(domain);") && text(octets).contains("s=\(selector);"))
            let signature = try DKIMSignature(parsing: octets)
            #expect(signature.domain == domain && signature.selector == selector)
            #expect(
                DKIMVerifier(Self.message.header, [hash], at: Self.time).verify(octets, with: key.publicKey)
                    == .pass(isTesting: false))
        }
    }

    /// d= is in A-labels and lower case.
    @Test func names() throws {
        let field = try Self.field(Self.signer(domain: "M\u{DC}NCHEN.Example", selector: "R1"))
        #expect(field.contains("d=xn--mnchen-3ya.example;") && field.contains("s=r1;"))
    }

    @Test func times() throws {
        #expect(!(try Self.field(Self.signer(nil))).contains("x="))
        // x= is behind t= always, and neither has more digits than verifiers take.
        let short = try DKIMSignature(parsing: Array(Self.field(Self.signer(.zero)).utf8))
        #expect(short.expiration == 1_795_877_840)
        let ends = try [Timestamp(milliseconds: .max), Timestamp(milliseconds: .min)].map {
            try DKIMSignature(parsing: Array(Self.field(Self.signer(), at: $0).utf8))
        }
        #expect(ends.map(\.time) == [999_999_999_998, 0] && ends.map(\.expiration) == [999_999_999_999, 1])
        // The last second counts.
        let field = Array(try Self.field(Self.signer(.seconds(10))).utf8)
        let key = try SampleKeys.ed25519().publicKey
        for (after, verdict) in [(10, DKIMVerdict.pass(isTesting: false)), (11, .fail(.expired))] {
            let verifier = DKIMVerifier(Self.message.header, Self.message.hashes, at: Self.time + .seconds(after))
            #expect(verifier.verify(field, with: key) == verdict)
        }
    }

    @Test func refused() throws {
        let signer = try Self.signer()
        for (header, error) in [
            ("To: a@b.example\r\n\r\n", DKIMSigningError.authors(0)),
            ("From: a@b.example\r\nfrom : c@d.example\r\n\r\n", .authors(2)),
            ("From: a@b.example\r\nno field\r\n\r\n", .malformedHeader),
        ] {
            let message = SampleMessage(header)
            #expect(throws: error) {
                try signer.sign(message.header, BodyHash(of: message.body, .relaxed), at: Self.time)
            }
        }
        #expect(throws: DKIMSigningError.bodyHash(.simple)) {
            try signer.sign(Self.message.header, BodyHash(of: Self.message.body, .simple), at: Self.time)
        }
    }

    /// Any octet that is changed, in what is signed or in the field, is seen; a new fold or blank is not.
    @Test func changes() throws {
        let key = try SampleKeys.ed25519().publicKey
        let field = try Self.field(Self.signer())
        func verdict(_ field: String, _ message: SampleMessage = Self.message) -> DKIMVerdict {
            DKIMVerifier(message.header, message.hashes, at: Self.time).verify(Array(field.utf8), with: key)
        }
        #expect(verdict(field) == .pass(isTesting: false))
        let folded = SampleMessage(
            "FROM:\r\n a@example.com\r\nTo : \t b@example.net \r\nlist-unsubscribe: <https://example.com/u>\r\n\r\n"
                + "Hi. \t\r\n\r\n \r\n")
        #expect(verdict(field, folded) == .pass(isTesting: false))
        for (old, new, expected) in [
            ("t=1795877839", "t=1795877838", DKIMVerdict.fail(.signature)), ("h=from:", "h=to:", .fail(.signature)),
            ("s=r2026a", "s=r2026b", .fail(.signature)), ("d=example", "d=exomple", .fail(.signature)),
            ("relaxed/relaxed", "simple/relaxed", .fail(.signature)),
            ("v=1", "v=2", .fail(.malformed(.value("v")))), ("; s=", "; l=4; s=", .fail(.malformed(.syntax("")))),
            ("ed25519-sha256", "rsa-sha256", .fail(.record(.otherKey))),
            ("ed25519-sha256", "rsa-sha1", .fail(.malformed(.value("a")))),
            ("bh=", "bh=AAAA", .fail(.malformed(.value("bh")))),
        ] where field.contains(old) {
            #expect(verdict(field.replacing(old, with: new)) == expected, "\(old)")
        }
        #expect(verdict(field.replacing("\ts=", with: "\tl=4; s=")) == .fail(.bodyLength))
        let other = SampleMessage("From: a@example.com\r\nTo: b@example.net\r\n\r\nHi!\r\n")
        #expect(verdict(field, other) == .fail(.bodyHash))
    }
}

@Suite struct SignatureReaderTests {
    private static let good = "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=from:to; bh=\(hash); b=AAAA"
    private static let hash = Base64.encode([UInt8](repeating: 7, count: 32))

    private func read(_ field: String) throws(DKIMSignature.Fault) -> DKIMSignature {
        try DKIMSignature(parsing: Array(field.utf8))
    }

    @Test(arguments: [
        "", ";", "; ", ";\r\n ", "; zz=\"1\"", "; q=dns/txt", "; q=x : dns/txt", "; i=@example.com",
        "; i=a.b@Mail.example.com",
        "; t=1", "; t=1; x=2", "; c=relaxed", "; c=simple/relaxed", "; c=relaxed/relaxed", "; l=0", "; z=From:a|To:b",
    ])
    func taken(_ more: String) throws {
        let signature = try read(Self.good + more)
        #expect(signature.names == ["from", "to"] && signature.signature == [0, 0, 0])
        #expect(signature.canonicalizations.body == (more.contains("/relaxed") ? .relaxed : .simple))
    }

    @Test func spaces() throws {
        let folded = """
            dkim-signature :\r\n v = 1 ;\ta=\r\n rsa-sha256;d= Example.COM ;s=S1\r\n\t; h = From\r\n : To ; b=A A\r\n A\t A ;\r\n \
            bh=\(Self.hash.prefix(9)) \(Self.hash.dropFirst(9))\r\n
            """
        #expect(try read(folded) == read(Self.good))
    }

    @Test(arguments: [
        ("v=1; ", "", DKIMSignature.Fault.missing("v")), ("v=1", "v=1 1", .value("v")), ("v=1", "v=01", .value("v")),
        ("v=1", "V=1", .missing("v")), ("v=1", "v=1; v=1", .syntax("two tags v=")),
        ("a=rsa-sha256; ", "", .missing("a")),
        ("rsa-sha256", "rsa-sha1", .value("a")), ("rsa-sha256", "RSA-SHA256", .value("a")),
        ("a=rsa-sha256", "a=", .missing("a")),
        ("d=example.com", "d=com", .value("d")), ("d=example.com", "d=example..com", .value("d")),
        ("d=example.com", "d=example.com.", .value("d")), ("d=example.com", "d=ex ample.com", .value("d")),
        ("s=s1", "s=", .missing("s")), ("s=s1", "s=s_1.", .value("s")), ("s=s1", "s=s*", .value("s")),
        ("h=from:to", "h=to", .value("h")), ("h=from:to", "h=from::to", .value("h")), ("h=from:to", "h=", .value("h")),
        ("h=from:to; ", "", .missing("h")), ("h=from:to", "h=from:t o", .value("h")), ("bh=", "b_h=", .missing("bh")),
        ("; b=AAAA", "", .missing("b")), ("b=AAAA", "b=AAA", .value("b")), ("b=AAAA", "b=A=AA", .value("b")),
        ("b=AAAA", "b=", .missing("b")), ("b=AAAA", "b=AAAA;;", .syntax("a tag without a name")),
        ("b=AAAA", "b=AAAA; x", .syntax("a tag without a name")),
        ("b=AAAA", "b=AAAA; 1x=y", .syntax("a tag without a name")),
        ("b=AAAA", "b=AAAA; a-b=y", .syntax("a tag without a name")),
        ("b=AAAA", "b=AAAA; =", .syntax("a tag without a name")),
        ("b=AAAA", "b=AAAA; t=x", .value("t")), ("b=AAAA", "b=AAAA; t=1234567890123", .value("t")),
        ("b=AAAA", "b=AAAA; t=2; x=2", .value("x")), ("b=AAAA", "b=AAAA; x=", .value("x")),
        ("b=AAAA", "b=AAAA; c=nofws", .value("c")), ("b=AAAA", "b=AAAA; c=relaxed/", .value("c")),
        ("b=AAAA", "b=AAAA; c=relaxed/relaxed/relaxed", .value("c")), ("b=AAAA", "b=AAAA; i=example.com", .value("i")),
        ("b=AAAA", "b=AAAA; i=@other.example", .value("i")), ("b=AAAA", "b=AAAA; i=@badexample.com", .value("i")),
        ("b=AAAA", "b=AAAA; q=http", .value("q")), ("b=AAAA", "b=AAAA; l=x", .value("l")),
        ("b=AAAA", "b=AAAA; n=\u{E4}", .syntax("a character that may not be in n=")),
        ("b=AAAA", "b=AAAA; n=a\u{1}", .syntax("a character that may not be in n=")),
        ("b=AAAA", "b=AAAA; n=a\r\nb", .syntax("a character that may not be in n=")),
        ("b=AAAA", "b=AAAA; n=a\nb", .syntax("a character that may not be in n=")),
        ("b=AAAA", "b=AAAA;\u{B}", .syntax("a tag without a name")), ("DKIM-Signature:", "", .syntax("no field")),
    ])
    func refused(_ old: String, _ new: String, _ fault: DKIMSignature.Fault) throws {
        let field = Self.good.replacing(old, with: new)
        // What is behind the first colon is h= of a field without a name.
        if old == "DKIM-Signature:" {
            #expect(throws: DKIMSignature.Fault.self) { try read(field) }
            return
        }
        #expect(throws: fault) { try read(field) }
    }

    /// What is signed of the field is the field but for what b= has.
    @Test func withoutSignature() throws {
        let field = Array("DKIM-Signature: b = A\r\n B ; v=1; bh=b=; c=b".utf8)
        #expect(text(try DKIMSignature.tags(of: field).octets(without: "b")) == " b =; v=1; bh=b=; c=b")
    }
}
