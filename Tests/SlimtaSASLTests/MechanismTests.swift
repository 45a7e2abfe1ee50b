// What each mechanism but SCRAM makes of what a client sends, on the server's side; and both sides with each other.

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaSASL

@Suite struct SASLMechanismTests {
    @Test func namesAndOrder() {
        #expect(
            SASLMechanism.allCases.map(\.rawValue) == [
                "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-512",
                "SCRAM-SHA-1", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "EXTERNAL", "CRAM-MD5",
            ])
        #expect(SASLMechanism.allCases.reversed().sorted() == SASLMechanism.allCases)
        for mechanism in SASLMechanism.allCases {
            #expect(mechanism.bindsChannel == mechanism.rawValue.hasSuffix("-PLUS"))
            #expect((mechanism.scram != nil) == mechanism.rawValue.hasPrefix("SCRAM-"))
            if let hash = mechanism.scram {
                #expect(mechanism.rawValue == hash.rawValue + (mechanism.bindsChannel ? "-PLUS" : ""))
            }
        }
    }
}

@Suite struct PlainTests {
    private static func ask(_ login: String, _ password: String) -> SASLStep {
        .ask(.password(Credentials(login: login, password: password.utf8)))
    }

    static let messages: [(String, SASLStep)] = [
        ("\0u\0p", ask("u", "p")), ("u\0u\0p", ask("u", "p")), ("\0ü\0pässwort", ask("ü", "pässwort")),
        ("\0tim\0tanstaaftanstaaf", ask("tim", "tanstaaftanstaaf")),
        ("\0u@example.com\0p w", ask("u@example.com", "p w")),
        ("\0u\0\t\u{1}", ask("u", "\t\u{1}")), ("\0DOMAIN\\user\0p", ask("DOMAIN\\user", "p")),
        // Blanks that were pasted along, and a name in another form.
        ("\0 u \0p", ask("u", "p")), ("u \0 u\0 p ", ask("u", " p ")), ("\0u v\0p", ask("u v", "p")),
        ("\0e\u{301}\0p", ask("\u{E9}", "p")), ("\u{E9}\0e\u{301}\0p", ask("\u{E9}", "p")),
        // Another's identity; no login, no password.
        ("a\0u\0p", .refused(.otherIdentity)), ("Ursel\0Kurt\0xipj3plmq", .refused(.otherIdentity)),
        ("U\0u\0p", .refused(.otherIdentity)), ("\0\0p", .refused(.noCredentials)), ("\0u\0", .refused(.noCredentials)),
        ("\0 \0p", .refused(.noCredentials)), ("\0\0", .refused(.noCredentials)),
        // Not the grammar.
        ("", .malformed), ("u", .malformed), ("\0", .malformed), ("\0u", .malformed), ("u\0p", .malformed),
        ("\0u\0p\0", .malformed), ("\0u\0p\0x", .malformed), ("\0\0u\0p", .malformed), ("\0\0\0", .malformed),
        // A login that would not stay in its line of a log.
        ("\0u\n\0p", .refused(.invalidUsernameEncoding)), ("\0u\rx\0p", .refused(.invalidUsernameEncoding)),
        ("\0u\u{7F}\0p", .refused(.invalidUsernameEncoding)), ("\0\u{1B}[2J\0p", .refused(.invalidUsernameEncoding)),
        ("\0u\u{9B}2J\0p", .refused(.invalidUsernameEncoding)), ("\0u\u{2028}\0p", .refused(.invalidUsernameEncoding)),
    ]

    @Test(arguments: messages) func message(_ message: String, _ step: SASLStep) {
        var server = SASLServer.begin(.plain, context: .test())
        #expect(server.received(message.octets) == step)
        server = SASLServer.begin(.plain, context: .test())
        #expect(server.received(nil) == .challenge([]))
        #expect(server.received(message.octets) == step)
    }

    /// Latin-1, as printers send it: no password of ours, and no mistake of the grammar.
    @Test func notUTF8() {
        func step(_ message: [UInt8]) -> SASLStep {
            var server = SASLServer.begin(.plain, context: .test())
            return server.received(message)
        }
        #expect(step([0, 0xFF, 0, 0x70]) == .refused(.invalidUsernameEncoding))
        #expect(step([0, 0x75, 0, 0xE4]) == .refused(.invalidEncoding))
        #expect(step([0, 0x75, 0, 0xC3]) == .refused(.invalidEncoding))
        #expect(step([0xFF, 0, 0x75, 0, 0x70]) == .refused(.invalidUsernameEncoding))
    }

    @Test func lengths() {
        func step(_ login: Int, _ password: Int) -> SASLStep {
            let (login, password) = (String(repeating: "u", count: login), String(repeating: "p", count: password))
            var server = SASLServer.begin(.plain, context: .test())
            return server.received("\0\(login)\0\(password)".octets)
        }
        for length in [254, 255] { #expect(step(length, 1) == Self.ask(String(repeating: "u", count: length), "p")) }
        #expect(step(256, 1) == .refused(.invalidUsernameEncoding))
        for length in [1023, 1024] { #expect(step(1, length) == Self.ask("u", String(repeating: "p", count: length))) }
        #expect(step(1, 1025) == .refused(.noCredentials))
    }

    @Test func secondForm() {
        #expect(
            Credentials(login: "u", password: "p\u{E4}\u{A0}".utf8).preparedPassword == SecretOctets("p\u{E4} ".utf8))
        #expect(Credentials(login: "u", password: "a\u{308}".utf8).preparedPassword == SecretOctets("\u{E4}".utf8))
        for same in ["p", "p w", "p\u{E4}", "\u{FB01}"] {
            #expect(Credentials(login: "u", password: same.utf8).preparedPassword == nil)
        }
        // What the profile refuses is what was typed, and nothing else.
        #expect(Credentials(login: "u", password: "\u{7}\u{E4}".utf8).preparedPassword == nil)
    }
}

@Suite struct LoginTests {
    static let dialogues: [(String, String, SASLStep)] = [
        ("u", "p", .ask(.password(Credentials(login: "u", password: "p".utf8)))),
        ("ü", "p w", .ask(.password(Credentials(login: "ü", password: "p w".utf8)))),
        ("u", "", .refused(.noCredentials)), ("u", "a\0b", .refused(.invalidEncoding)),
    ]

    @Test(arguments: dialogues) func dialogue(_ login: String, _ password: String, _ step: SASLStep) {
        var server = SASLServer.begin(.login, context: .test())
        #expect(server.received(nil) == .text("Username:"))
        #expect(server.received(login.octets) == .text("Password:"))
        #expect(server.login == login)
        #expect(server.received(password.octets) == step)
        var short = SASLServer.begin(.login, context: .test())
        #expect(short.received(login.octets) == .text("Password:"))
        #expect(short.received(password.octets) == step)
    }

    @Test(arguments: ["", " ", "u\0", "\n", "u\u{9B}", String(repeating: "u", count: 256)])
    func noName(_ name: String) {
        var server = SASLServer.begin(.login, context: .test())
        guard case .refused = server.received(name.octets) else {
            Issue.record("\(name) was taken")
            return
        }
    }
}

@Suite struct ExternalTests {
    @Test func certificate() {
        var server = SASLServer.begin(.external, context: .test())
        #expect(server.received(nil) == .challenge([]))
        #expect(server.received([]) == .ask(.certificate(authorization: nil)))
        #expect(server.answered(.right(login: "u@example.com")) == .success(login: "u@example.com"))
        server = SASLServer.begin(.external, context: .test())
        #expect(server.received("u@example.com ".octets) == .ask(.certificate(authorization: "u@example.com")))
        #expect(server.answered(.wrong) == .refused(.invalidCredentials))
        server = SASLServer.begin(.external, context: .test())
        #expect(server.received([0xFF]) == .refused(.invalidUsernameEncoding))
    }
}

@Suite struct CRAMMD5Tests {
    /// RFC 2195 section 2, with the digest in either case.
    @Test(
        arguments: [
            ("tim b913a602c7eda7a495b4e6e7334d3890", "tanstaaftanstaaf", SASLStep.success(login: "tim")),
            ("tim B913A602C7EDA7A495B4E6E7334D3890", "tanstaaftanstaaf", .success(login: "tim")),
            ("tim b913a602c7eda7a495b4e6e7334d3891", "tanstaaftanstaaf", .refused(.invalidProof)),
            ("tim b913a602c7eda7a495b4e6e7334d3890", "another", .refused(.invalidProof)),
            ("tim b913a602c7eda7a495b4e6e7334d3890", nil, .refused(.invalidProof)),
        ] as [(String, String?, SASLStep)])
    func example(_ response: String, _ secret: String?, _ step: SASLStep) {
        var exchange = CRAMMD5Server(challenge: "<1896.697170952@postoffice.reston.mci.net>")
        #expect(exchange.greeting == "<1896.697170952@postoffice.reston.mci.net>".octets)
        #expect(exchange.received(response.octets) == .ask(.secret(login: "tim")))
        #expect(exchange.answered(.secret(secret.map { SecretOctets($0.utf8) })) == step)
    }

    @Test(arguments: [
        "", "tim", "tim ", "tim b913", " b913a602c7eda7a495b4e6e7334d389x", "tim b913a602c7eda7a495b4e6e7334d3890 ",
    ])
    func malformed(_ response: String) {
        var server = SASLServer.begin(.cramMD5, context: .test())
        _ = server.received(nil)
        #expect(server.received(response.octets) == .malformed)
    }

    @Test func challenges() throws {
        var seen: Set<String> = []
        for _ in 0..<50 {
            var server = SASLServer.begin(.cramMD5, context: .test())
            guard case .challenge(let octets) = server.received(nil) else { continue }
            let challenge = String(decoding: octets, as: UTF8.self)
            #expect(challenge.hasPrefix("<") && challenge.hasSuffix("@mx.test>") && challenge.utf8.count == 34)
            seen.insert(challenge)
        }
        #expect(seen.count == 50)
        // RFC 4954 section 4: no initial response where the server speaks first.
        var server = SASLServer.begin(.cramMD5, context: .test())
        #expect(server.received([]) == .malformed)
    }

    @Test func namesWithBlanks() {
        var exchange = CRAMMD5Server(challenge: "<1@x>")
        let digest = CRAMMD5Server.digest(of: "<1@x>".octets, "p".utf8)
        #expect(exchange.received("u v ".octets + digest) == .ask(.secret(login: "u v")))
        #expect(exchange.answered(.secret(SecretOctets("p".utf8))) == .success(login: "u v"))
    }
}

@Suite struct OAuthTests {
    private static func token(_ login: String?, _ token: String) -> SASLStep {
        .ask(.token(login: login, SecretOctets(token.utf8)))
    }

    /// RFC 7628 section 4, and what stands on either side of its grammar.
    static let bearer: [(String, SASLStep)] = [
        (
            "n,a=user@example.com,\u{1}host=server.example.com\u{1}port=143\u{1}"
                + "auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\u{1}\u{1}",
            token("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")
        ),
        ("n,,\u{1}auth=Bearer T\u{1}\u{1}", token(nil, "T")), ("y,,\u{1}auth=bearer  T\u{1}\u{1}", token(nil, "T")),
        ("n,a=,\u{1}auth=BEARER T\u{1}\u{1}", token(nil, "T")),
        ("n,a=a=2Cb=3D,\u{1}auth=Bearer T\u{1}\u{1}", token("a,b=", "T")),
        ("n,,\u{1}x=1\u{1}auth=Bearer T\u{1}y=\u{1}\u{1}", token(nil, "T")),
        ("n,,\u{1}user=a\u{1}auth=Bearer T\u{1}\u{1}", token(nil, "T")),
        ("p=tls-exporter,,\u{1}auth=Bearer T\u{1}\u{1}", .refused(.channelBindingNotSupported)),
        ("n,a=\n,\u{1}auth=Bearer T\u{1}\u{1}", .refused(.invalidUsernameEncoding)),
        ("n,a=x=,\u{1}auth=Bearer T\u{1}\u{1}", .malformed), ("n,,auth=Bearer T\u{1}\u{1}", .malformed),
        ("n,,\u{1}auth=Bearer T\u{1}", .malformed), ("n,,\u{1}auth=Bearer T", .malformed),
        ("n,,\u{1}\u{1}", .malformed),
        ("n,,\u{1}auth=Bearer T\u{1}auth=Bearer U\u{1}\u{1}", .malformed),
        ("n,,\u{1}=x\u{1}auth=Bearer T\u{1}\u{1}", .malformed),
        ("n,,\u{1}auth\u{1}\u{1}", .malformed), ("", .malformed), ("\u{1}", .malformed), ("n,,", .malformed),
        ("user=u\u{1}auth=Bearer T\u{1}\u{1}", .malformed), ("n,,\u{1}auth=Bearer T\u{1}\u{1}\u{1}", .malformed),
    ]

    @Test(arguments: bearer) func oauthBearer(_ message: String, _ step: SASLStep) {
        var server = SASLServer.begin(.oauthBearer, context: .test())
        #expect(server.received(message.octets) == step)
    }

    @Test(arguments: [
        ("user=someuser@example.com\u{1}auth=Bearer ya29.vF9\u{1}\u{1}", token("someuser@example.com", "ya29.vF9")),
        ("auth=Bearer T\u{1}user=u\u{1}\u{1}", token("u", "T")), ("auth=Bearer T\u{1}\u{1}", token(nil, "T")),
        ("user=\u{1}auth=Bearer T\u{1}\u{1}", .refused(.noCredentials)), ("user=u\u{1}\u{1}", .malformed),
        ("user=u\u{1}user=v\u{1}auth=Bearer T\u{1}\u{1}", .malformed), ("user=u auth=Bearer T", .malformed),
    ])
    func xoauth2(_ message: String, _ step: SASLStep) {
        var server = SASLServer.begin(.xoauth2, context: .test())
        #expect(server.received(nil) == .challenge([]))
        #expect(server.received(message.octets) == step)
    }

    /// RFC 7628 section 4.3: what a token needs is told, and the client answers, whatever it answers.
    @Test(arguments: [[1], [], Array("=".utf8)] as [[UInt8]]) func refusal(_ response: [UInt8]) {
        let hint = SASLContext.TokenHint(
            scope: "example_scope", configuration: "https://example.com/.well-known/openid-configuration")
        var server = SASLServer.begin(.oauthBearer, context: .test(hint: hint))
        _ = server.received("n,a=u,\u{1}auth=Bearer T\u{1}\u{1}".octets)
        #expect(!server.isTried)
        #expect(
            server.answered(.wrong)
                == .text(
                    #"{"status":"invalid_token","scope":"example_scope","#
                        + #""openid-configuration":"https://example.com/.well-known/openid-configuration"}"#))
        #expect(server.isTried)
        #expect(server.received(response) == .refused(.invalidCredentials))

        server = SASLServer.begin(.xoauth2, context: .test(hint: .init(scope: #"a"\b"#)))
        _ = server.received("user=u\u{1}auth=Bearer T\u{1}\u{1}".octets)
        #expect(server.answered(.wrong) == .text(#"{"status":"400","schemes":"Bearer","scope":"a\"\\b"}"#))
        #expect(server.received(response) == .refused(.invalidCredentials))
    }

    @Test(arguments: ["", "Bearer", "Bearer ", "Basic dTpw", "Bearer a b", "Bearer \u{E4}", "Bearer a\n"])
    func noToken(_ value: String) {
        var server = SASLServer.begin(.oauthBearer, context: .test())
        #expect(server.received("n,,\u{1}auth=\(value)\u{1}\u{1}".octets) == .text(#"{"status":"invalid_token"}"#))
        #expect(server.received([1]) == .refused(.noCredentials))
    }
}

@Suite struct BothSidesTests {
    private static let password = SASLClient.Credentials(username: "a=b,c", password: "p\u{E4}ss w\u{2168}rd")

    private static func answer(_ question: SASLQuestion) -> SASLAnswer {
        switch question {
        case .password(let credentials):
            credentials.password.elementsEqual("p\u{E4}ss w\u{2168}rd".utf8) ? .right(login: credentials.login) : .wrong
        case .token(let login, let token): token.elementsEqual("T".utf8) ? .right(login: login ?? "") : .wrong
        case .certificate(let name): .right(login: name ?? "")
        case .keys(let login, let hash):
            .keys(login == "a=b,c" ? SCRAMKeys(password: "p\u{E4}ss wIXrd".utf8, hash, iterations: 4096) : nil)
        case .secret: .secret(SecretOctets("p\u{E4}ss w\u{2168}rd".utf8))
        }
    }

    @Test(arguments: SASLMechanism.allCases) func success(_ mechanism: SASLMechanism) throws {
        var credentials = Self.password
        if [.oauthBearer, .xoauth2].contains(mechanism) { credentials = .init(username: "a=b,c", .token("T")) }
        if mechanism == .external { credentials = .init(username: "a=b,c", .certificate) }
        let context = SASLContext.test(listed: [mechanism])
        var client = try #require(
            SASLClient(offered: [mechanism], credentials: credentials, bindings: context.bindings))
        #expect(client.mechanism == mechanism)
        var server = SASLServer.begin(mechanism, context: context)
        #expect(server.run(&client, answer: Self.answer) == .success(login: "a=b,c"))
        #expect(client.isProven)
        // What a token's client is told behind its first message it has to answer.
        if case .password = credentials.secret { #expect(client.respond(to: []) == nil) }
    }

    @Test func choice() {
        let all = Set(SASLMechanism.allCases)
        let bindings: [ChannelBinding: [UInt8]] = [.exporter: [1]]
        func chosen(
            _ offered: Set<SASLMechanism>, _ secret: SASLClient.Credentials.Secret,
            _ bindings: [ChannelBinding: [UInt8]] = [:]
        )
            -> SASLMechanism?
        { SASLClient(offered: offered, credentials: .init(username: "u", secret), bindings: bindings)?.mechanism }
        #expect(chosen(all, .password("p"), bindings) == .scramSHA256Plus)
        #expect(chosen(all, .password("p")) == .scramSHA256)
        #expect(chosen([.plain, .login, .cramMD5], .password("p")) == .plain)
        #expect(chosen([.cramMD5, .login], .password("p")) == .login)
        #expect(chosen(all, .token("t")) == .oauthBearer)
        #expect(chosen([.xoauth2, .plain], .token("t")) == .xoauth2)
        #expect(chosen(all, .certificate) == .external)
        #expect(chosen([.plain], .token("t")) == nil)
        #expect(chosen([.scramSHA1Plus], .password("p")) == nil)
        #expect(chosen([], .password("p")) == nil)
    }

    @Test func wrongToken() throws {
        for mechanism in [SASLMechanism.oauthBearer, .xoauth2] {
            var client = try #require(
                SASLClient(offered: [mechanism], credentials: .init(username: "u", .token("U"))))
            var server = SASLServer.begin(mechanism, context: .test())
            #expect(server.run(&client, answer: Self.answer) == .refused(.invalidCredentials))
        }
    }

    @Test func nothingShowsTheSecret() {
        let credentials = SASLClient.Credentials(username: "u", password: "hunter2")
        var dumped = ""
        dump(credentials, to: &dumped)
        dump(SASLQuestion.password(Credentials(login: "u", password: "hunter2".utf8)), to: &dumped)
        let keys = SCRAMKeys(password: "hunter2".utf8, .sha1, iterations: 4096)
        dump(SASLAnswer.keys(keys), to: &dumped)
        let texts = [dumped, "\(credentials)", "\(keys)", String(reflecting: SASLAnswer.keys(keys))]
        for text in texts {
            #expect(!text.contains("hunter2") && !text.contains("104") && !text.contains("storedKey"))
        }
    }
}
