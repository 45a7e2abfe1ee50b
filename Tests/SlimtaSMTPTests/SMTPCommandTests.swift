// The grammar of commands: tables of good and bad lines with what exactly becomes of them.

import SlimtaMail
import SlimtaSASL
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPCommandTests {
    private static func mail(
        _ sender: String?, size: Int? = nil, body: BodyType = .sevenBit, smtpUTF8: Bool = false,
        submitter: String? = nil,
        of extensions: Set<ServiceExtension> = []
    ) -> SMTPCommand {
        .mail(
            MailCommand(
                sender: sender.flatMap { Mailbox(parsing: $0) }, size: size, body: body, smtpUTF8: smtpUTF8,
                submitter: submitter, extensions: extensions))
    }

    private static func rcpt(_ text: String) -> SMTPCommand { .rcpt(.mailbox(Mailbox(parsing: text)!)) }

    private static func auth(_ mechanism: String, _ response: String? = nil) -> SMTPCommand {
        .auth(mechanism: mechanism, initialResponse: response.map { InitialResponse(base64: Array($0.utf8)) })
    }

    static let good: [(String, SMTPCommand)] = [
        // verbs in any case, blanks around
        ("EHLO a", .ehlo("a")), ("ehlo a", .ehlo("a")), ("eHlO   a  ", .ehlo("a")), ("EHLO a\t", .ehlo("a")),
        ("HELO mail.example.com", .helo("mail.example.com")), ("EHLO [127.0.0.1]", .ehlo("[127.0.0.1]")),
        ("EHLO [IPv6:::1]", .ehlo("[IPv6:::1]")), ("EHLO my_desk", .ehlo("my_desk")), ("EHLO -", .ehlo("-")),
        // what desktops are called
        ("EHLO Anna's PC", .ehlo("Anna's PC")), ("EHLO DOMAIN\\host", .ehlo("DOMAIN\\host")),
        ("EHLO m\u{FC}ller", .ehlo("m\u{FC}ller")), ("HELO \u{7528}\u{6237}", .helo("\u{7528}\u{6237}")),
        ("EHLO a(b)<c>@d,;\"", .ehlo("a(b)<c>@d,;\"")), ("EHLO \u{E9}", .ehlo("\u{E9}")),

        ("DATA", .data), ("data  ", .data), ("RSET", .rset), ("QUIT", .quit), ("quit\t \t", .quit),
        ("STARTTLS", .startTLS),
        ("StartTLS ", .startTLS), ("NOOP", .noop), ("NOOP x y z", .noop), ("NOOP \u{E9}", .noop), ("HELP", .help),
        ("HELP MAIL", .help), ("VRFY x", .vrfy), ("VRFY <a@b>", .vrfy), ("EXPN", .expn), ("EXPN x", .expn),
        // AUTH
        ("AUTH PLAIN", auth("PLAIN")), ("auth plain", auth("PLAIN")),
        ("AUTH plain AGEAYg==", auth("PLAIN", "AGEAYg==")),
        ("AUTH PLAIN =", auth("PLAIN", "=")), ("AUTH PLAIN ", auth("PLAIN")), ("AUTH X-1_Y *", auth("X-1_Y", "*")),
        ("AUTH SCRAM-SHA-256-PLUS", auth("SCRAM-SHA-256-PLUS")),
        (
            "AUTH \(String(repeating: "a", count: 20))",
            auth(String(repeating: "A", count: 20))
        ),
        // MAIL
        ("MAIL FROM:<>", mail(nil)), ("mail from:<>", mail(nil)), ("MAIL FROM: <>", mail(nil)),
        ("MAIL FROM:<a@b>", mail("a@b")), ("MAIL  FROM:  <a@b>  ", mail("a@b")),
        ("MAIL FROM:<\"a>b\"@c>", mail("\"a>b\"@c")),
        ("MAIL FROM:<\"a\\\">@ b\"@c>", mail("\"a\\\">@ b\"@c")), ("MAIL FROM:<@x,@y:a@b>", mail("a@b")),
        ("BDAT 0", .bdat(.init(size: 0, isLast: false))), ("bdat  12  last", .bdat(.init(size: 12, isLast: true))),
        ("BDAT 00000000000000000000000000000000005 LAST ", .bdat(.init(size: 5, isLast: true))),
        ("BDAT 9223372036854775807", .bdat(.init(size: .max, isLast: false))),
        ("MAIL FROM:<a@b> SIZE=0", mail("a@b", size: 0, of: [.size])),
        ("MAIL FROM:<a@b> size=1000", mail("a@b", size: 1000, of: [.size])),
        ("MAIL FROM:<a@b> SIZE=00000000000000000007", mail("a@b", size: 7, of: [.size])),
        ("MAIL FROM:<a@b> SIZE=9223372036854775807", mail("a@b", size: .max, of: [.size])),
        ("MAIL FROM:<a@b> SIZE=9223372036854775808", mail("a@b", size: .max, of: [.size])),
        ("MAIL FROM:<a@b> SIZE=99999999999999999999", mail("a@b", size: .max, of: [.size])),
        ("MAIL FROM:<a@b> BODY=7BIT", mail("a@b", of: [.eightBitMIME])),
        ("MAIL FROM:<a@b> body=8bitmime", mail("a@b", body: .eightBitMIME, of: [.eightBitMIME])),
        ("MAIL FROM:<a@b> SMTPUTF8", mail("a@b", smtpUTF8: true, of: [.smtpUTF8])),
        ("MAIL FROM:<\u{E9}@b> SMTPUTF8", mail("\u{E9}@b", smtpUTF8: true, of: [.smtpUTF8])),
        ("MAIL FROM:<a@b> AUTH=<>", mail("a@b", submitter: "", of: [.authentication])),
        ("MAIL FROM:<> AUTH=a+3Db@c", mail(nil, submitter: "a=b@c", of: [.authentication])),
        ("MAIL FROM:<> AUTH=<a@c>", mail(nil, submitter: "a@c", of: [.authentication])),
        ("MAIL FROM:<> AUTH=+3C+3e", mail(nil, submitter: "", of: [.authentication])),
        ("MAIL FROM:<> AUTH=+22a+20b+22@c", mail(nil, submitter: "\"a b\"@c", of: [.authentication])),
        ("MAIL FROM:<> AUTH=j+C3+B6@c", mail(nil, submitter: "j\u{F6}@c", of: [.authentication])),
        (
            "MAIL FROM:<a@b>  SIZE=5   BODY=8BITMIME  SMTPUTF8 AUTH=<>  ",
            mail(
                "a@b", size: 5, body: .eightBitMIME, smtpUTF8: true, submitter: "",
                of: [.size, .eightBitMIME, .smtpUTF8, .authentication])
        ),
        // RCPT
        ("RCPT TO:<a@b>", rcpt("a@b")), ("rcpt to: <a@b> ", rcpt("a@b")), ("RCPT TO:<@x:a@b>", rcpt("a@b")),
        ("RCPT TO:<a@[127.0.0.1]>", rcpt("a@[127.0.0.1]")), ("RCPT TO:<\"<>\"@b>", rcpt("\"<>\"@b")),
        ("RCPT TO:<\u{E9}@b>", rcpt("\u{E9}@b")), ("RCPT TO:<Postmaster>", .rcpt(.postmaster("Postmaster"))),
        ("RCPT TO:<postMASTER>", .rcpt(.postmaster("postMASTER"))), ("RCPT TO:<postmaster@b>", rcpt("postmaster@b")),
    ]

    @Test(arguments: good) func isRead(_ line: String, _ command: SMTPCommand) throws {
        #expect(try SMTPCommand(parsing: Array(line.utf8).span) == command)
    }

    static let bad: [(String, SMTPSyntaxError)] = [
        // no verb of ours
        ("", .unrecognized), (" ", .unrecognized), ("\t", .unrecognized), (" NOOP", .unrecognized),
        ("FOO", .unrecognized),
        ("NOO", .unrecognized), ("NOOPS", .unrecognized), ("NOOP\tx", .unrecognized), ("NOOP\0", .unrecognized),
        ("BDAT 10 LAST", .unrecognized), ("ETRN x", .unrecognized), ("TURN", .unrecognized),
        ("SEND FROM:<a@b>", .unrecognized),
        ("BANNER_", .unrecognized), ("STARTTLSX", .unrecognized), ("EHLO:", .unrecognized),
        ("MAILFROM:<a@b>", .unrecognized),
        ("GET / HTTP/1.1", .unrecognized), ("DATA\u{B}", .unrecognized), ("\u{44}\u{41}\u{54}\u{01}", .unrecognized),
        ("\u{E9}HLO x", .unrecognized), ("Q\u{55}\u{49}\u{14}", .unrecognized), ("354 x", .unrecognized),
        // arguments that are missing, or are where none may be
        ("EHLO", .badArgument), ("EHLO ", .badArgument), ("HELO", .badArgument), ("DATA x", .badArgument),
        ("RSET x", .badArgument), ("QUIT now", .badArgument), ("STARTTLS x", .badArgument), ("VRFY", .badArgument),
        ("EHLO a\tb", .badArgument), ("EHLO a\u{7F}", .badArgument), ("EHLO a\u{85}b", .badArgument),
        ("EHLO a\u{2028}b", .badArgument),
        ("EHLO \u{1B}[2J", .badArgument),
        ("EHLO a\rb", .badArgument), ("EHLO a\nb", .badArgument), ("EHLO a\0b", .badArgument),
        // AUTH
        ("AUTH", .badArgument), ("AUTH ", .badArgument), ("AUTH PL@IN", .badArgument), ("AUTH =", .badArgument),
        ("AUTH \(String(repeating: "a", count: 21))", .badArgument), ("AUTH PLAIN  x", .badArgument),
        ("AUTH PLAIN x y", .badArgument), ("AUTH \u{E9}", .badArgument), ("AUTH PLAIN\tx", .badArgument),
        // MAIL's path
        ("MAIL", .badArgument), ("MAIL ", .badArgument), ("MAIL FROM", .badArgument), ("MAIL FROM <a@b>", .badArgument),
        ("MAIL FROM :<a@b>", .badArgument), ("MAIL TO:<a@b>", .badArgument),
        ("MAIL FR\u{4F}\u{4D};<a@b>", .badArgument),
        ("MAIL FROM:", .badSender), ("MAIL FROM:a@b", .badSender), ("MAIL FROM:<a@b", .badSender),
        ("MAIL FROM:a@b>", .badSender),
        ("MAIL FROM:<a>", .badSender), ("MAIL FROM:< >", .badSender), ("MAIL FROM:< a@b>", .badSender),
        ("MAIL FROM:<a@b >", .badSender), ("MAIL FROM:<<a@b>>", .badSender), ("MAIL FROM:<a@b@c>", .badSender),
        ("MAIL FROM:<a b@c>", .badSender), ("MAIL FROM:\"A\" <a@b>", .badSender),
        ("MAIL FROM:<postmaster>", .badSender),
        ("MAIL FROM:<@x:>", .badSender), ("MAIL FROM:<@x>", .badSender), ("MAIL FROM:<@x,@y>", .badSender),
        ("MAIL FROM:<\"a@b>", .badSender), ("MAIL FROM:<.a@b>", .badSender), ("MAIL FROM:\t<a@b>", .badSender),
        ("MAIL FROM:<a\0@b>", .badSender), ("MAIL FROM:<\"a\nb\"@c>", .badSender),
        ("MAIL FROM:<\"a\rb\"@c>", .badSender),
        // MAIL's parameters
        ("MAIL FROM:<a@b>SIZE=1", .badArgument), ("MAIL FROM:<a@b>x", .badArgument), ("MAIL FROM:<a@b>>", .badArgument),
        ("MAIL FROM:<a@b>\tSIZE=1", .badArgument), ("MAIL FROM:<a@b> FOO", .unknownParameter("FOO")),
        ("MAIL FROM:<a@b> FOO=1", .unknownParameter("FOO")), ("MAIL FROM:<a@b> RET=HDRS", .unknownParameter("RET")),
        ("MAIL FROM:<a@b> ENVID=x", .unknownParameter("ENVID")), ("MAIL FROM:<a@b> SIZE", .badParameter),
        ("MAIL FROM:<a@b> SIZE=", .badParameter), ("MAIL FROM:<a@b> SIZE=ASDF", .badParameter),
        ("MAIL FROM:<a@b> SIZE=-1", .badParameter), ("MAIL FROM:<a@b> SIZE=+1", .badParameter),
        ("MAIL FROM:<a@b> SIZE=1.5", .badParameter), ("MAIL FROM:<a@b> SIZE=1 SIZE=1", .badParameter),
        ("MAIL FROM:<a@b> SIZE=1 size=2", .badParameter), ("MAIL FROM:<a@b> SIZE=100000000000000000000", .badParameter),
        ("MAIL FROM:<a@b> SIZE=\u{661}", .badParameter), ("MAIL FROM:<a@b> BODY", .badParameter),
        ("MAIL FROM:<a@b> BODY=BINARYMIME", .badParameter), ("MAIL FROM:<a@b> BODY=", .badParameter),
        ("MAIL FROM:<a@b> SMTPUTF8=1", .badParameter), ("MAIL FROM:<a@b> SMTPUTF8=", .badParameter),
        ("MAIL FROM:<> AUTH=a+3+G+@c", .badParameter), ("MAIL FROM:<> AUTH=a@b+", .badParameter),
        ("MAIL FROM:<> AUTH=<a@b", .badParameter), ("MAIL FROM:<> AUTH=<", .badParameter),
        ("MAIL FROM:<> AUTH=boss", .badParameter),
        ("MAIL FROM:<> AUTH=a+0D+0A@b", .badParameter), ("MAIL FROM:<> AUTH=+FF@b", .badParameter),
        ("MAIL FROM:<> AUTH=" + String(repeating: "+61", count: 167) + "@b", .badParameter),
        ("MAIL FROM:<a@b> AUTH", .badParameter), ("MAIL FROM:<a@b> AUTH=", .badParameter),
        ("MAIL FROM:<a@b> =", .badParameter),
        ("MAIL FROM:<a@b> =1", .badParameter), ("MAIL FROM:<a@b> -A=1", .badParameter),
        ("MAIL FROM:<a@b> A=B=C", .badParameter),
        ("MAIL FROM:<a@b> A_B", .badParameter), ("MAIL FROM:<a@b> AUTH=\u{E9}", .badParameter),
        ("MAIL FROM:<a@b> AUTH=a\u{7F}", .badParameter), ("MAIL FROM:<a@b> SIZE=1\r", .badParameter),
        ("MAIL FROM:<a@b> AUTH=a\nb", .badParameter), ("MAIL FROM:<\u{E9}@b>", .needsSMTPUTF8),
        ("MAIL FROM:<a@\u{E9}> SIZE=1", .needsSMTPUTF8),
        ("BDAT", .badChunk), ("BDAT -1", .badChunk), ("BDAT +1", .badChunk), ("BDAT 1x", .badChunk),
        ("BDAT LAST", .badChunk),
        ("BDAT 9223372036854775808", .badChunk), ("BDAT 1 LAST 1", .badChunk), ("BDAT 1\tLAST", .badChunk),
        // RCPT
        ("RCPT", .badArgument), ("RCPT TO", .badArgument), ("RCPT FROM:<a@b>", .badArgument),
        ("RCPT TO:", .badRecipient),
        ("RCPT TO:<>", .badRecipient), ("RCPT TO:a@b", .badRecipient), ("RCPT TO:<a>", .badRecipient),
        ("RCPT TO:<@x:>", .badRecipient), ("RCPT TO:<post master>", .badRecipient),
        ("RCPT TO:<\"postmaster\">", .badRecipient),
        ("RCPT TO:<postmaster@>", .badRecipient), ("RCPT TO:<a@b>,<c@d>", .badArgument),
        ("RCPT TO:<a@b> NOTIFY=NEVER", .unknownParameter("NOTIFY")),
        ("RCPT TO:<a@b> ORCPT=rfc822;a@b", .unknownParameter("ORCPT")),
        ("RCPT TO:<a@b> NOTIFY=", .badParameter), ("RCPT TO:<postmaster> X", .unknownParameter("X")),
    ]

    @Test(arguments: bad) func isRefused(_ line: String, _ error: SMTPSyntaxError) {
        #expect(throws: error) { try SMTPCommand(parsing: Array(line.utf8).span) }
    }

    /// `[limits] lenient_paths`.
    @Test(arguments: [
        ("MAIL FROM:a@b", mail("a@b")), ("MAIL FROM: a@b SIZE=5", mail("a@b", size: 5, of: [.size])),
        ("MAIL FROM:<a@b>", mail("a@b")), ("MAIL FROM:<>", mail(nil)), ("RCPT TO:a@b", rcpt("a@b")),
        ("RCPT TO: \"a b\"@c  ", rcpt("\"a b\"@c")), ("RCPT TO:postmaster", .rcpt(.postmaster("postmaster"))),
    ])
    func withoutBrackets(_ line: String, _ command: SMTPCommand) throws {
        #expect(try SMTPCommand(parsing: Array(line.utf8).span, lenientPaths: true) == command)
    }

    @Test(arguments: [
        ("MAIL FROM:", SMTPSyntaxError.badSender), ("MAIL FROM:a", .badSender), ("MAIL FROM:a@b>", .badSender),
        ("MAIL FROM:<a@b", .badSender), ("MAIL FROM:a@b,c@d", .badSender), ("MAIL FROM:a@b c@d", .badParameter),
        ("MAIL FROM:\"A\" <a@b>", .badSender), ("MAIL FROM:@x:a@b", .badSender),
        ("MAIL FROM:a@b FOO", .unknownParameter("FOO")),
        ("RCPT TO:", .badRecipient), ("RCPT TO:a@b>", .badRecipient), ("RCPT TO:a", .badRecipient),
        ("RCPT TO:\"a\0\"@b", .badRecipient),
    ])
    func notEvenWithoutBrackets(_ line: String, _ error: SMTPSyntaxError) {
        #expect(throws: error) { try SMTPCommand(parsing: Array(line.utf8).span, lenientPaths: true) }
    }

    /// A desktop's own character set is taken; nothing but octets that are no text is not.
    @Test func namesInOtherCharacterSets() throws {
        let latin = Array("EHLO M".utf8) + [0xDC] + Array("LLER-PC".utf8)
        #expect(try SMTPCommand(parsing: latin.span) == .ehlo("M\u{FFFD}LLER-PC"))
        #expect(throws: SMTPSyntaxError.badArgument) {
            try SMTPCommand(parsing: (Array("EHLO ".utf8) + [0xFF, 0xFE]).span)
        }
    }

    @Test func lengths() throws {
        for (length, isGood) in [(1, true), (254, true), (255, true), (256, false)] {
            let line = Array("EHLO \(String(repeating: "a", count: length))".utf8)
            #expect(((try? SMTPCommand(parsing: line.span)) != nil) == isGood)
        }
    }

    @Test func invalidUTF8() {
        for (line, error) in [
            ("MAIL FROM:<*@b> SMTPUTF8", SMTPSyntaxError.badSender), ("RCPT TO:<a@*>", .badRecipient),
            ("EHLO *", .badArgument), ("*", .unrecognized), ("MAIL FROM:<a@b> *", .badParameter),
            ("RCPT TO:<a@b> X=*", .badParameter),
        ] {
            let octets = line.utf8.map { $0 == UInt8(ascii: "*") ? 0xFF : $0 }
            #expect(throws: error, "\(line)") { try SMTPCommand(parsing: octets.span) }
        }
    }

    // MARK: Random lines

    /// Lines of random octets and mutated good ones: no trap, and no value ever has what could end a line.
    @Test(arguments: 0..<8 as Range<UInt64>) func random(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let seeds = Self.good.map { Array($0.0.utf8) } + Self.bad.map { Array($0.0.utf8) }
        let inserts =
            ["\r", "\n", "\0", "\r\n", " ", "<", ">", "\"", "\\", "@", ":", "=", "\u{E9}", "\u{85}", "SIZE=", "[", "."]
            .map { Array($0.utf8) } + [[0xFF], [0xC3]]
        var good = 0
        for _ in 0..<6_000 {
            var line = seeds[Int.random(in: seeds.indices, using: &generator)]
            if Int.random(in: 0..<8, using: &generator) == 0 {
                line = generator.octets(Int.random(in: 0...40, using: &generator))
            }
            for _ in 0..<Int.random(in: 0...3, using: &generator) {
                let place = Int.random(in: 0...line.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: line.insert(contentsOf: inserts.randomElement(using: &generator)!, at: place)
                case 1 where place < line.count: line.remove(at: place)
                case 2 where place < line.count: line[place] = UInt8.random(in: .min ... .max, using: &generator)
                case 3: line.insert(contentsOf: line[..<place], at: place)
                default: line.removeSubrange(place...)
                }
            }
            guard let command = try? SMTPCommand(parsing: line.span) else { continue }
            good += 1
            for value in values(of: command) {
                #expect(!value.contains { $0 < 32 || $0 == 127 }, "\(ChunkVerifier.printable(line))")
                #expect(!String(decoding: value, as: UTF8.self).hasControls)
            }
        }
        #expect(good > 500)
    }

    private func values(of command: SMTPCommand) -> [[UInt8]] {
        switch command {
        case .ehlo(let name), .helo(let name): [Array(name.utf8)]
        case .auth(let mechanism, let response):
            // The response is decoded strictly before anything is done with it.
            [
                Array(mechanism.utf8),
                response.flatMap { Base64.decode($0.base64) } == nil ? [] : Array(response!.base64),
            ]
        case .mail(let mail): [Array((mail.sender?.text ?? "").utf8)]
        case .rcpt(.mailbox(let mailbox)): [Array(mailbox.text.utf8)]
        case .rcpt(.postmaster(let word)): [Array(word.utf8)]
        case .startTLS, .data, .bdat, .rset, .noop, .vrfy, .expn, .help, .quit: []
        }
    }
}
