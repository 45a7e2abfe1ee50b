// 8-bit messages for hosts that take 7 bits: what each part becomes, and which messages cannot go. Whether the result says
// the same is judged by Python in Tests/Interop/test_mime.py, and by the fuzzer.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaMIME

private let fields = "From: a@example.com\nMIME-Version: 1.0\n"
private let type = "Content-Type: text/plain; charset=utf-8\n"
private func label(_ encoding: String) -> String { "Content-Transfer-Encoding: \(encoding)\n" }
private let part = "--b\n\(type)\(label("8bit"))\ngr\u{FC}n\n\n"
private let madePart = "--b\n\(type)\(label("quoted-printable"))\ngr=C3=BCn\n\n"
private func multipart(_ body: String, _ subtype: String = "mixed") -> String {
    "\(fields)Content-Type: multipart/\(subtype); boundary=b\n\n\(body)"
}

private func answer(_ message: ByteBuffer) throws -> ConversionAnswer {
    try ChunkVerifier.verify(Array(message.readableBytesView)) { chunks in
        var planner = ConversionPlanner()
        for chunk in chunks { planner.read(chunk) }
        return planner.finish()
    }
}

/// What a message becomes, with LF for its line ends; cut in many ways, and once more, which changes nothing.
private func converted(_ message: ByteBuffer) throws -> String {
    switch try answer(message) {
    case .unchanged: return String(buffer: message).replacing("\r\n", with: "\n")
    case .impossible(let obstacle): return "impossible: \(obstacle)"
    case .convert(let plan):
        let result = try ChunkVerifier.verify(Array(message.readableBytesView)) { chunks in
            var converter = SevenBitConverter(plan)
            var result = ByteBuffer()
            for chunk in chunks { result.writeImmutableBuffer(converter.read(chunk)) }
            result.writeImmutableBuffer(converter.finish())
            #expect(converter.size == result.readableBytes)
            return result
        }
        let octets = result.readableBytesView
        #expect(octets.allSatisfy { $0 < 0x80 })
        let lines = octets.split(separator: 0x0A, omittingEmptySubsequences: false)
        #expect(lines.allSatisfy { $0.count <= 999 } && lines.dropLast().allSatisfy { $0.last == 0x0D })
        #expect(try answer(result) == .unchanged, "\(String(buffer: result))")
        return String(buffer: result).replacing("\r\n", with: "\n")
    }
}

private func converted(_ text: String) throws -> String { try converted(text.message) }

@Suite struct ConversionTests {
    // MARK: Content

    @Test(arguments: ["8bit", "binary", "7bit", "x-odd", "8BIT (really)", ""]) func labelsOfText(_ encoding: String)
        throws
    {
        #expect(
            try converted("\(fields)\(type)\(label(encoding))\ngr\u{FC}n = \n.\n.x\nFrom me\n\tx\u{C}\n")
                == "\(fields)\(type)\(label("quoted-printable"))\ngr=C3=BCn =3D=20\n=2E\n=2Ex\n=46rom me\n\tx=0C\n")
    }

    /// RFC 1428: what is not known of a charset is said.
    @Test func whatHasNoLabels() throws {
        #expect(
            try converted("From: a\n\ngr\u{FC}n\n")
                == "From: a\nMIME-Version: 1.0\n\(type)\(label("quoted-printable"))\ngr=C3=BCn\n")
        #expect(
            try converted("\(fields)\(type)\ngr\u{FC}n\n")
                == "\(fields)\(type)\(label("quoted-printable"))\ngr=C3=BCn\n")
        let latin = ByteBuffer(bytes: Array("\(fields)\ngr".utf8).withCRLF + [0xFC, 0x6E, 0x0D, 0x0A])
        #expect(
            try converted(latin)
                == "\(fields)Content-Type: text/plain; charset=unknown-8bit\n\(label("quoted-printable"))\ngr=FCn\n")
    }

    /// The line end that it gets on its way is none of its own.
    @Test func theEndOfTheMessage() throws {
        #expect(try converted("\(fields)\(type)\n\u{FC}").hasSuffix("\n\n=C3=BC=\n"))
        #expect(try converted("\(fields)\(type)\n\u{FC} ").hasSuffix("\n\n=C3=BC=20=\n"))
        #expect(try converted(multipart("--b\n\(type)\n\u{FC}")).hasSuffix("\n\n=C3=BC=\n"))
        #expect(try converted(multipart("--b\n\(type)\n\u{FC} \n--b--")).hasSuffix("\n\n=C3=BC=20\n--b--"))
    }

    @Test func whatIsNoText() throws {
        let binary = "\(fields)Content-Type: a/b\n\(label("binary"))\n"
        #expect(
            try converted("\(binary)\u{FC}\u{FC}\n")
                == "\(fields)Content-Type: a/b\n\(label("base64"))\nw7zDvA0K\n")
        #expect(try converted("\(binary)nearly all of it is text, but for \u{FC}\n").hasSuffix("=C3=BC\n"))
        #expect(try converted("\(binary)" + String(repeating: "\u{FC}", count: 60)).hasSuffix("vMO8\nw7zDvMO8\n"))
        let bare = ByteBuffer(bytes: Array(binary.utf8).withCRLF + "a\nb\r\u{0}c".utf8)
        #expect(try converted(bare) == "\(fields)Content-Type: a/b\n\(label("base64"))\nYQpiDQBj\n")
    }

    @Test func longLines() throws {
        let long = String(repeating: "x", count: 999)
        let lines = try converted("\(fields)\(type)\n\(long)\n").split(separator: "\n")
        #expect(lines.dropFirst(4).allSatisfy { $0.count <= 76 } && lines.count == 18)
        #expect(try converted("\(fields)\(type)\n\(long.dropLast())\n") == "\(fields)\(type)\n\(long.dropLast())\n")
        #expect(
            try converted("From: a\n\n\(long)\n").hasPrefix(
                "From: a\nMIME-Version: 1.0\n\(label("quoted-printable"))\nxx"))
    }

    @Test func whatIsSevenBitIsOnlyCalledSo() throws {
        for encoding in ["8bit", "binary"] {
            #expect(
                try converted("\(fields)\(type)\(label(encoding))\ngruen = \n")
                    == "\(fields)\(type)\(label("7bit"))\ngruen = \n")
        }
        for encoding in ["7bit", "base64", "quoted-printable", "x-odd", "x-uuencode"] {
            let text = "\(fields)\(type)\(label(encoding))\ngruen = \n"
            #expect(try converted(text) == text)
        }
    }

    // MARK: Labels that are not true

    @Test func quotedPrintableThatIsNone() throws {
        let head = "\(fields)\(type)\(label("quoted-printable"))\n"
        #expect(
            try converted("\(head)gr\u{FC}n =3D=\n = \n =XY\n\tx  \n=c3=bc=")
                == "\(head)gr=C3=BCn =3D=\n =\n =3DXY\n\tx  \n=c3=bc=\n")
        let long = String(repeating: "=C3=BC", count: 200)
        let lines = try converted("\(head)\(long)\n").split(separator: "\n").dropFirst(4)
        #expect(lines.allSatisfy { $0.count <= 76 } && lines.joined().replacing("==", with: "=") == long)
        #expect(try converted("\(head)\u{FC}\(String(repeating: " ", count: 901))\n").hasPrefix("impossible"))
    }

    @Test func base64ThatIsNone() throws {
        let head = "\(fields)\(type)\(label("base64"))\n"
        #expect(
            try converted("\(head)gr\u{FC}n\n").hasPrefix("impossible: the message (text/plain) is not in the encoding")
        )
        #expect(try converted("\(head)AAEC\u{FC}\nAA==\n") == "\(head)AAECAA==\n")
        #expect(try converted("\(head)AA==\u{FC}\nAA==\n").hasPrefix("impossible"))
        let long = String(repeating: "AAEC", count: 300)
        let lines = try converted("\(head)\(long)\n").split(separator: "\n").dropFirst(4)
        #expect(lines.allSatisfy { $0.count <= 76 } && lines.joined() == long)
        #expect(try converted("\(fields)\(type)\(label("x-uuencode"))\n\u{FC}").hasPrefix("impossible"))
    }

    // MARK: Parts

    /// Where a line is broken none of what follows may be a delimiter.
    @Test func brokenLinesAreNoDelimiters() throws {
        let line = "\u{FC}" + String(repeating: "x", count: 69) + "--b"
        let made = "=C3=BC" + String(repeating: "x", count: 69) + "=\n=2D-b"
        for encoding in ["8bit", "quoted-printable"] {
            let text = try converted(multipart("--b\n\(label(encoding))\n\(line)\n--bX\n\n--b--\n"))
            #expect(text.contains("\(made)\n=2D-bX\n\n--b--\n"))
        }
    }

    @Test func partsOfAMultipart() throws {
        let picture = "--b\nContent-Type: image/png\n\(label("base64"))\nAAEC\n\n"
        let seven = "--b\nContent-Type: text/plain\n\nonly ascii = kept \n\n"
        #expect(
            try converted(multipart("\(part)\(picture)\(seven)--b--\nepilogue\n"))
                == multipart("\(madePart)\(picture)\(seven)--b--\nepilogue\n"))
        #expect(try converted(multipart(part)).hasPrefix(multipart(madePart.replacing("\n\n\n", with: ""))))
        #expect(
            try converted(multipart("--b\n\ngr\u{FC}n\n--b--\n"))
                == multipart("--b\n\(type)\(label("quoted-printable"))\ngr=C3=BCn\n--b--\n"))
        #expect(
            try converted(multipart("--b\ngr\u{FC}n\n--b--\n"))
                == multipart("--b\n\(type)\(label("quoted-printable"))\ngr=C3=BCn\n--b--\n"))
    }

    /// RFC 2045 section 6.4: a multipart is not encoded, and what says so is wrong.
    @Test(arguments: ["8bit", "binary", "quoted-printable", "base64", "x-odd"]) func labelsOfMultiparts(
        _ encoding: String
    ) throws {
        func message(_ encoding: String, _ part: String) -> String {
            "\(fields)Content-Type: multipart/mixed; boundary=b\n\(label(encoding))\n\(part)--b--\n"
        }
        #expect(try converted(message(encoding, part)) == message("7bit", madePart))
        let ascii = "--b\n\nx\n"
        let isKnown = encoding == "8bit" || encoding == "binary"
        #expect(try converted(message(encoding, ascii)) == message(isKnown ? "7bit" : encoding, ascii))
    }

    /// Nobody sees what stands around parts (RFC 2046 section 5.1.1).
    @Test func whatStandsAroundParts() throws {
        let ascii = "--b\n\nx\n"
        #expect(
            try converted(multipart("pr\u{E4}\n\n\(ascii)--b--\nschl\u{FC}ss\n\n")) == multipart("\n\(ascii)--b--\n"))
        #expect(try converted(multipart("\(ascii)--b--\n\u{FC}")) == multipart("\(ascii)--b--\n"))
        #expect(try converted(multipart("gr\u{FC}n\n--b--\n")).hasSuffix("boundary=b\n\n\n--b--\n"))
        #expect(
            try converted(multipart("gr\u{FC}n\n")).hasPrefix(
                "impossible: the message (multipart/mixed) has 8-bit octets"))
    }

    @Test func multipartsWithoutBoundary() throws {
        for boundary in ["", "; boundary=\(String(repeating: "b", count: 71))", "; boundary=\"b\u{FC}\""] {
            let text = try converted("\(fields)Content-Type: multipart/mixed\(boundary)\n\n--b\n\n\u{FC}\n--b--\n")
            #expect(text.hasPrefix("impossible: the message (multipart/mixed) has 8-bit octets"))
        }
    }

    @Test func messagesWithinMessages() throws {
        func message(_ header: String, _ body: String) -> String {
            multipart("--b\nContent-Type: message/rfc822\n\(header)\n--b--\n").replacing("BODY", with: body)
        }
        let inner = "\(label("8bit"))\nSubject: gr\u{FC}n\nMIME-Version: 1.0\n\(type)\(label("8bit"))\nBODY"
        let made =
            "\(label("7bit"))\nSubject: =?utf-8?b?Z3LDvG4=?=\nMIME-Version: 1.0\n\(type)\(label("quoted-printable"))\nBODY"
        #expect(try converted(message(inner, "gr\u{FC}n")) == message(made, "gr=C3=BCn"))
        // A MIME-Version is missing in the message that a label comes into.
        #expect(
            try converted(message("\nSubject: x\n\(type)\nBODY", "\u{FC}"))
                == message("\nSubject: x\n\(type)MIME-Version: 1.0\n\(label("quoted-printable"))\nBODY", "=C3=BC"))
        #expect(
            try converted(message("\nTo: \u{FC}@example.com\n\nBODY", "x"))
                == "impossible: the address \u{FC}@example.com in the field To needs SMTPUTF8, in part 2 (text/plain)")
        // RFC 6532 section 3.7
        let global = message("\nTo: \u{FC}@example.com\n\nBODY", "x").replacing("rfc822", with: "global")
        #expect(
            try converted(global)
                == multipart(
                    "--b\nContent-Type: message/global\n\(label("quoted-printable"))\nTo: =C3=BC@example.com\n\nx\n--b--\n"
                ))
    }

    /// A delimiter that ends a header has no line end of its own: it must not stand behind base64 on one line.
    @Test func messagesWithoutContent() throws {
        let subject = "Subject: " + String(repeating: "\u{FC}", count: 20)
        for header in ["\(subject)\n", "\(subject)\n\n"] {
            let text = try converted(multipart("--b\nContent-Type: message/global\n\n\(header)--b\n\nx\n--b--\n"))
            #expect(text.contains(label("base64")) && text.hasSuffix("\n--b\n\nx\n--b--\n"))
        }
    }

    @Test(arguments: ["message/delivery-status", "message/partial; id=x", "message/external-body", "message/x-any"])
    func messagesThatMayNotBeEncoded(_ type: String) throws {
        let text = try converted(multipart("--b\nContent-Type: \(type)\n\nX: \u{FC}\n\n--b--\n"))
        #expect(text.hasPrefix("impossible: part 1 (\(type.prefix { $0 != ";" })) has 8-bit octets"))
        #expect(try converted("\(fields)Content-Type: \(type)\n\(label("8bit"))\nx\n").contains(label("7bit")))
    }

    /// RFC 1847, RFC 8551: not an octet of it is changed, and what is beside it is converted.
    @Test func signedParts() throws {
        let signed =
            "Content-Type: multipart/signed; boundary=s\n\n--s\n\(type)\(label("8bit"))\nx = \n--s\n\ny\n--s--\n"
        #expect(
            try converted(multipart("\(part)--b\n\(signed)--b--\n")) == multipart("\(madePart)--b\n\(signed)--b--\n"))
        #expect(
            try converted(multipart("--b\n\(signed.replacing("x =", with: "\u{FC}"))--b--\n"))
                == "impossible: part 1 (multipart/signed) is signed or encrypted and has 8-bit octets or long lines")
        #expect(try converted("\(fields)Content-Type: application/pkcs7-mime\n\n\u{FC}\n").hasPrefix("impossible"))
        // Its header is not signed.
        #expect(
            try converted("Subject: \u{FC}\n\(fields)\(signed)").hasPrefix(
                "Subject: =?utf-8?b?w7w=?=\n\(fields)Content-Type: multi"))
    }

    /// What says several things of itself, with parts for one client and without for another: whichever is right, for the other
    /// a conversion would break it. It may be anywhere, and goes as it is where nothing has to change.
    @Test(arguments: [
        "Content-Type: message/rfc822 x/y", "Content-Type: multipart/mixed x/y; boundary=c",
        "Content-Type: multipart/digest x; boundary=c", "Content-Type: multipart/mixed; boundary=c; boundary=d",
        "Content-Type: multipart/mixed; boundary=d; boundary*=us-ascii''c",
        "Content-Type: multipart/mixed; boundary=\"\"; boundary=c",
        "Content-Type: text/plain\nContent-Type: multipart/mixed; boundary=c",
        "Content-Type: multipart/mixed; boundary=c\nContent-Type: text/plain",
        "Content-Type: multipart/mixed; boundary=c\nContent-Type: message/rfc822",
        "Content-Type: multipart/mixed; boundary=c\nContent-Type: multipart/signed; boundary=c",
        "Content-Type: application/pkcs7-mime x/y", "Content-Type: message/partial x/y",
        "Content-Type: message/global x/y", "Content-Type: text/plain\nContent-Type: message/external-body",
    ]) func whatClientsDoNotAgreeOn(_ header: String) throws {
        func messages(_ text: String) -> [String] {
            let part = "\(header)\n\n--c\n\(type)\n\(text)\n--c--\n"
            let message = "--b\nContent-Type: message/rfc822\n\n\(fields)\(part)--b--\n"
            return ["\(fields)\(part)", multipart("--b\n\(part)--b--\n"), multipart(message)]
        }
        for (number, message) in messages("gr\u{FC}n").enumerated() {
            let answer = try converted(message)
            let name = number == 0 ? "the message" : "part \(number)"
            #expect(answer.hasPrefix("impossible: mail programs do not agree on what \(name) ("))
        }
        for message in messages("gruen") { #expect(try converted(message) == message) }
        // Whether what follows is in it depends on the client too.
        let beside = multipart("--b\n\(header)\n\(label("8bit"))\nx\n\(part)--b--\n")
        #expect(try converted(beside).hasPrefix("impossible: mail programs"))
        let global = multipart("--b\nContent-Type: message/global\n\n\(beside)--b--\n")
        #expect(try converted(global).hasPrefix("impossible: mail programs"))
    }

    /// Of two labels one is read, and not the same by all; what is beside such a part is converted.
    @Test(arguments: [("8bit", "base64"), ("base64", "8bit"), ("quoted-printable", "base64"), ("7bit", "x-odd")])
    func labelsThatClientsDoNotAgreeOn(_ first: String, _ second: String) throws {
        let head = "--b\n\(type)\(label(first))\(label(second))\n"
        #expect(
            try converted(multipart("\(head)gr\u{FC}n\n--b--\n"))
                == "impossible: mail programs do not agree on what part 1 (text/plain) is")
        #expect(
            try converted(multipart("\(part)\(head)AAEC\n--b--\n")) == multipart("\(madePart)\(head)AAEC\n--b--\n"))
    }

    /// What makes no difference, however it is read.
    @Test(arguments: [
        "Content-Type: text/plain\nContent-Type: text/html", "Content-Type: a/b x/y", "Content-Type: a/b x",
        "Content-Type: multipart/mixed x; boundary=c", "Content-Type: multipart/mixed; boundary=c; boundary=\"c\"",
        "Content-Type: multipart/mixed; boundary=c\nContent-Type: multipart/related; boundary*=us-ascii''c",
        "Content-Type: text/plain\nContent-Transfer-Encoding: 8bit\nContent-Transfer-Encoding: 7bit",
    ]) func whatClientsAgreeOnAllTheSame(_ header: String) throws {
        let message = try converted(multipart("--b\n\(header)\n\n--c\n\(type)\ngr\u{FC}n\n--c--\n--b--\n"))
        #expect(message.contains("\ngr=C3=BCn\n") && message.contains(label("quoted-printable")))
    }

    @Test func headersOfParts() throws {
        let raw = "--b\nContent-Type: a/b; name=\"\u{FC}.txt\"\nContent-Description: gr\u{FC}n\n\nx\n--b--\n"
        let made =
            "--b\nContent-Type: a/b; name*=utf-8''%C3%BC.txt\nContent-Description: =?utf-8?b?Z3LDvG4=?=\n\nx\n--b--\n"
        #expect(try converted(multipart(raw)) == multipart(made))
    }

    /// A header that a line cuts off which is no field, but would be one when it is encoded.
    @Test func headersWithoutEnd() throws {
        #expect(
            try converted("\(fields)\(label("quoted-printable"))gr\u{FC}n: x\n")
                == "\(fields)\(label("quoted-printable"))\ngr=C3=BCn: x\n")
        #expect(
            try converted("\(fields)Content-Type: message/rfc822\ngr\u{FC}n: x\n")
                == "\(fields)Content-Type: message/rfc822\n\nMIME-Version: 1.0\n\(type)\(label("quoted-printable"))"
                + "\ngr=C3=BCn: x\n")
    }

    // MARK: Limits

    /// More parts than are looked at matter only if something would have to change.
    @Test func tooManyParts() throws {
        let many = String(repeating: "--b\n\n\n", count: 1001)
        var planner = ConversionPlanner()
        planner.read(multipart(many).message)
        #expect(planner.finish() == .unchanged)
        planner = ConversionPlanner()
        planner.read(multipart("\(many)\u{FC}").message)
        #expect(planner.finish() == .impossible(.init(part: 0, type: "message/rfc822", reason: .limits)))
    }
}
