// Which parts a message has: RFC 2046, and what mail clients make of what is none. Every message is cut at every octet.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaMIME

private func multipart(_ body: String, _ type: String = "mixed; boundary=b") -> String {
    "Subject: t\nContent-Type: multipart/\(type)\n\n" + body
}

private func content(_ walk: Outline, _ index: Int) -> String {
    String(decoding: walk.parts[index].content, as: UTF8.self)
}

@Suite struct MIMEWalkerTests {
    @Test func aMessageWithoutParts() throws {
        let walk = try Outline.walked("Subject: t\n\nhello\n--b\n")
        #expect(walk.tree == "text/plain" && content(walk, 0) == "hello\r\n--b\r\n")
        #expect(walk.parts[0].header == "Subject: t\r\n\r\n")
        #expect(try Outline.walked("").tree == "text/plain")
        #expect(try Outline.walked("Subject: t").parts[0].header == "Subject: t")
        #expect(try Outline.walked("hello").parts[0].content == Array("hello".utf8))
        #expect(try Outline.walked("\n").parts[0].header == "\r\n")
    }

    /// The line end before a delimiter is not part of the content (RFC 2046 section 5.1.1).
    @Test func partsOfAMultipart() throws {
        let walk = try Outline.walked(
            multipart("pre\n--b\n\none\n\n--b  \t\nContent-Type: text/html\n\ntwo\n--b--\nepi\n"))
        #expect(walk.tree == "multipart/mixed(text/plain text/html)")
        #expect(content(walk, 1) == "one\r\n" && content(walk, 2) == "two")
        #expect(walk.preambles == Array("pre".utf8) && walk.epilogues == Array("\r\nepi\r\n".utf8))
        #expect(walk.parts[2].header == "Content-Type: text/html\r\n\r\n")
    }

    @Test(arguments: [
        "--bX", "--", "---", "-b", " --b", "--b x", "--b-", "--b---", "--b --", "--B",
    ]) func whatIsNoDelimiter(_ line: String) throws {
        let walk = try Outline.walked(multipart("--b\n\none\n\(line)\ntwo\n--b--\n"))
        #expect(walk.tree == "multipart/mixed(text/plain)" && content(walk, 1) == "one\r\n\(line)\r\ntwo")
    }

    /// A delimiter ends a header too, and a message may end anywhere.
    @Test func delimitersWithoutContent() throws {
        #expect(
            try Outline.walked(multipart("--b\nContent-Type: text/html\n--b\n\nx\n--b--")).tree
                == "multipart/mixed(text/html text/plain)")
        #expect(try Outline.walked(multipart("--b\n--b\n\nx\n--b--")).tree == "multipart/mixed(text/plain)")
        #expect(try Outline.walked(multipart("--b--\n\n--b\n\nx\n")).tree == "multipart/mixed")
        #expect(try Outline.walked(multipart("--b")).tree == "multipart/mixed")
        let open = try Outline.walked(multipart("--b\n\none\n--b\n\ntwo\n"))
        #expect(open.tree == "multipart/mixed(text/plain text/plain)" && content(open, 2) == "two\r\n")
        let header = try Outline.walked(multipart("--b\n\n--b\nhello\n--b--\n"))
        #expect(header.tree == "multipart/mixed(text/plain text/plain)" && content(header, 2) == "hello")
    }

    @Test func outerDelimitersEndInnerParts() throws {
        let inner = "Content-Type: multipart/alternative; boundary=b2\n\n--b2\n\none\n"
        let walk = try Outline.walked(multipart("--b\n\(inner)--b\n\ntwo\n--b2\n--b--\n"))
        #expect(walk.tree == "multipart/mixed(multipart/alternative(text/plain) text/plain)")
        #expect(content(walk, 2) == "one" && content(walk, 3) == "two\r\n--b2")
        // The line end between two delimiters belongs to the second one.
        let both = try Outline.walked(multipart("--b\n\(inner)--b2--\n--b\n\ntwo\n--b--\n"))
        #expect(both.tree == "multipart/mixed(multipart/alternative(text/plain) text/plain)")
        // The same boundary twice: the inner one's it is.
        let same = try Outline.walked(
            multipart("--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n--b--\n"))
        #expect(same.tree == "multipart/mixed(multipart/mixed(text/plain))")
    }

    @Test func messagesWithinMessages() throws {
        let inner = "Content-Type: message/rfc822\n\nSubject: in\nContent-Type: text/html\n\nhello\n"
        let walk = try Outline.walked(multipart("--b\n\(inner)--b--\n"))
        #expect(walk.tree == "multipart/mixed(message/rfc822(text/html))" && content(walk, 2) == "hello")
        #expect(walk.parts[2].header == "Subject: in\r\nContent-Type: text/html\r\n\r\n")
        #expect(try Outline.walked("Content-Type: message/rfc822\n\n").tree == "message/rfc822(text/plain)")
        // RFC 2046 section 5.1.5
        let digest = try Outline.walked(multipart("--b\n\nSubject: in\n\nx\n--b--\n", "digest; boundary=b"))
        #expect(digest.tree == "multipart/digest(message/rfc822(text/plain))")
    }

    /// Of messages that were taken out of a mailbox file; a part has none.
    @Test func mailboxLines() throws {
        let from = "From a@b Sat Nov 28 12:00:00 2026\n>From c@d\n"
        let inner = "\(from)Content-Type: text/html\n\nhello\n"
        #expect(try Outline.walked(inner).tree == "text/html")
        #expect(try Outline.walked("Content-Type: message/rfc822\n\n\(inner)").tree == "message/rfc822(text/html)")
        #expect(try Outline.walked(multipart("--b\n\(inner)--b--\n")).tree == "multipart/mixed(text/plain)")
        #expect(try Outline.walked("Content-Type: text/html\n\(from)").tree == "text/html")
    }

    @Test(arguments: [
        ("multipart/mixed; boundary=\"a b\"", "a b"), ("multipart/mixed; boundary=\"b \"", "b"),
        ("Multipart/Mixed; BOUNDARY=b", "b"), ("multipart/mixed (x); boundary=(y)b (z)", "b"),
        ("multipart/mixed;\n boundary=b;\n x=y", "b"), ("multipart/mixed; boundary=\"b", "b"),
        ("multipart/mixed; boundary*=us-ascii''b%3D", "b="), ("multipart/mixed; boundary*0=b; boundary*1=c", "bc"),
        ("multipart/mixed; x=\"; boundary=no\"; boundary=b", "b"), ("multipart/mixed boundary=b", "b"),
        ("multipart / mixed; boundary=b", "b"), ("multipart/mixed; boundary=\"\\\"\"", "\""),
        ("multipart/mixed; boundary=----=_Part(1)", "----=_Part(1)"),
        ("multipart/mixed; boundary=\(String(repeating: "b", count: 80))", String(repeating: "b", count: 80)),
    ]) func boundaries(_ type: String, _ boundary: String) throws {
        let walk = try Outline.walked("Content-Type: \(type)\n\n--\(boundary)\n\nx\n--\(boundary)--\n")
        #expect(walk.tree == "multipart/mixed(text/plain)" && content(walk, 1) == "x")
    }

    @Test(arguments: [
        "multipart/mixed", "multipart/mixed; boundary=", "multipart/mixed; boundary=\"\"", "multipart; boundary=b",
        "multipart/mixed; (boundary=b)",
    ]) func noBoundary(_ type: String) throws {
        #expect(try Outline.walked("Content-Type: \(type)\n\n--b\n\nx\n--b--\n").parts.count == 1)
    }

    @Test func endsOfLinesThatAreLF() throws {
        let octets = Array("Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n".utf8)
        let walk = try ChunkVerifier.verify(octets) { Outline.walked($0) }
        #expect(walk.outline.tree == "multipart/mixed(text/plain)" && content(walk.outline, 1) == "one")
        #expect(walk.outline.octets == octets)
    }

    @Test func longLines() throws {
        let long = String(repeating: "x", count: 5000)
        let walk = try Outline.walked(multipart("--b\nX: \(long)\n\n--\(long)\n\(long)\n--b\(long)\n--b--\n"))
        #expect(walk.tree == "multipart/mixed(text/plain)" && walk.parts[1].content.count == 15_000 + 9)
        let padded = "--b" + String(repeating: " ", count: 2000)
        #expect(try Outline.walked(multipart("--b\n\n\(padded)\n--b--\n")).parts.count == 2)
    }

    // MARK: Limits

    @Test func limits() throws {
        var limits = MIMELimits()
        (limits.depth, limits.parts, limits.header) = (2, 5, 100)
        func exceeded(_ text: String) throws -> MIMELimits.Exceeded {
            let octets = Array(text.utf8).withCRLF
            let walk = try ChunkVerifier.verify(octets) { Outline.walked($0, limits: limits) }
            #expect(walk.outline.octets == octets)
            return walk.exceeded
        }
        let message = "Content-Type: message/rfc822\n\n"
        #expect(try exceeded(message + message) == [])
        #expect(try exceeded(message + message + message) == .depth)
        let part = "--b\n\nx\n"
        #expect(try exceeded(multipart(String(repeating: part, count: 5) + "--b--\n")) == [])
        #expect(try exceeded(multipart(String(repeating: part, count: 6) + "--b--\n")) == .parts)
        #expect(try exceeded(multipart(String(repeating: part, count: 4) + "--b\n" + message + "--b--\n")) == .parts)
        #expect(try exceeded("X: \(String(repeating: "x", count: 93))\n\n") == [])
        #expect(try exceeded("X: \(String(repeating: "x", count: 94))\n\n") == .header)
        #expect(try exceeded("X: \(String(repeating: "x", count: 500))\n\n") == .header)
        #expect(try exceeded("X: \(String(repeating: "x", count: 500))") == .header)
    }

    /// What strangers can make a header cost.
    @Test func noHeaderIsSlow() {
        for unit in ["(", "\"", ";a=(", ";a*0*=%", "=?a?q?", "\\(", ";name=\"x\"", "(;", "<", "\"a\"", "=? "] {
            let header = "Content-Type: " + String(repeating: unit, count: 60_000 / unit.utf8.count) + "\u{FC}\n\n"
            var walker = MIMEWalker(Outline())
            walker.read(header.message)
            walker.finish()
            var reader = ContentFactsReader()
            reader.read(header.message)
            #expect(reader.finish().parts == 0)
            for name in ["Content-Type", "Subject", "To"] {
                let message = (name + header.dropFirst(12)).message
                let containment = HeaderContainment(of: HeaderBlock(scanning: message), in: message)
                #expect(containment.edits.count + containment.faults.count == 1)
            }
        }
    }
}
