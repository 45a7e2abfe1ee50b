// AUTH of the client machine beyond PLAIN and LOGIN: SCRAM against our own server's side, tokens, certificates.

import NIOCore
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Testing

struct SMTPClientMachineLoginTests {
    /// A session in TLS that is about to log in.
    private static func inTLS(
        _ auth: String, _ secret: SASLClient.Credentials.Secret, _ bindings: [ChannelBinding: [UInt8]] = [:]
    ) -> ClientDialog {
        var dialog = ClientDialog(.required, credentials: .init(username: "a@b.test", secret))
        dialog.machine = SMTPClientMachine(
            .init(
                name: "client.test", security: .required, credentials: .init(username: "a@b.test", secret),
                server: SASLPeer(host: "smart.test", port: 587)))
        _ = dialog.hear("220 x\r\n")
        _ = dialog.hear(["x", "STARTTLS", "AUTH PLAIN"].ehloReply)
        _ = dialog.hear("220 go\r\n")
        dialog.machine.tlsEstablished(bindings, into: &dialog.out)
        _ = dialog.said()
        _ = dialog.hear(["x", "AUTH \(auth)"].ehloReply)
        return dialog
    }

    private static func decoded(_ line: Substring) throws -> String {
        String(decoding: try octets(line), as: UTF8.self)
    }

    private static func octets(_ line: Substring) throws -> [UInt8] {
        guard let octets = Base64.decode(line.utf8) else { throw Missing() }
        return octets
    }

    private static func failure(_ actions: [SMTPClientMachine.Action]) throws -> SMTPClientMachine.SessionFailure {
        guard case .failed(let failure)? = actions.last else { throw Missing() }
        return failure
    }

    private struct Missing: Error {}

    /// The whole exchange with the server's side that an edge has.
    @Test(arguments: [
        ("SCRAM-SHA-256 PLAIN LOGIN", SASLMechanism.scramSHA256), ("CRAM-MD5 SCRAM-SHA-1", .scramSHA1),
        ("PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS", .scramSHA256Plus),
    ])
    func scram(_ offered: String, _ expected: SASLMechanism) throws {
        let bindings: [ChannelBinding: [UInt8]] = [.exporter: [1, 2, 3]]
        var dialog = Self.inTLS(offered, .password("right"), bindings)
        let words = dialog.said().dropLast().split(separator: " ")
        #expect(words[0] == "AUTH" && words[1] == expected.rawValue)
        let listed = Set(offered.split(separator: " ").compactMap { SASLMechanism(rawValue: String($0)) })
        var server = SASLServer.begin(
            expected,
            context: SASLContext(
                listed: listed, bindings: bindings, inventing: SecretOctets([1]), hostname: "server.test"))
        var step = server.received(try Self.octets(words[2]))
        let hash = try #require(expected.scram)
        #expect(step == .ask(.keys(login: "a@b.test", hash)))
        step = server.answered(.keys(SCRAMKeys(password: "right".utf8, hash, iterations: 4096)))
        for _ in 0..<2 {
            guard case .challenge(let challenge) = step else { throw Missing() }
            #expect(dialog.hear("334 \(Base64.encode(challenge))\r\n") == [.compute])
            #expect(dialog.machine.waitsFor.kind == .reply(recipients: 0))
            #expect(dialog.compute() == .wait)
            step = server.received(try Self.octets(dialog.said().dropLast()))
        }
        #expect(step == .success(login: "a@b.test"))
        #expect(dialog.hear("235 2.7.0 ok\r\n") == [.ready])
    }

    /// Who says yes without having proven that it knows the password is somebody else.
    @Test func serversThatKnowNothing() throws {
        var dialog = Self.inTLS("SCRAM-SHA-256", .password("right"))
        let early = try Self.failure(dialog.hear("235 2.7.0 welcome\r\n"))
        #expect(early.outcome.result == .temporary && early.isOfSecurity)

        dialog = Self.inTLS("SCRAM-SHA-256", .password("right"))
        #expect(dialog.hear("334 \(Base64.encode("r=x,s=eA==,i=4096".utf8))\r\n") == [.compute])
        let wrong = try Self.failure([dialog.compute()])
        #expect(wrong.outcome.reply.text == "the server does not prove that it knows our login")

        // It ends while we compute.
        dialog = Self.inTLS("SCRAM-SHA-256", .password("right"))
        _ = dialog.hear("334 cj14\r\n")
        let lost = try Self.failure([dialog.machine.ended(.closed)])
        #expect(lost.outcome.reply.text.hasSuffix("in reply to AUTH"))
        #expect(dialog.compute() == .wait && dialog.said().hasPrefix("AUTH"))
    }

    @Test func bearerTokens() throws {
        var dialog = Self.inTLS("LOGIN XOAUTH2 OAUTHBEARER", .token("TOKEN"))
        let line = dialog.said().dropLast()
        #expect(line.hasPrefix("AUTH OAUTHBEARER "))
        #expect(
            try Self.decoded(line.dropFirst(17))
                == "n,a=a@b.test,\u{1}host=smart.test\u{1}port=587\u{1}auth=Bearer TOKEN\u{1}\u{1}")
        #expect(dialog.hear("235 ok\r\n") == [.ready])

        dialog = Self.inTLS("LOGIN XOAUTH2", .token("TOKEN"))
        let other = dialog.said().dropLast()
        #expect(other.hasPrefix("AUTH XOAUTH2 "))
        #expect(try Self.decoded(other.dropFirst(13)) == "user=a@b.test\u{1}auth=Bearer TOKEN\u{1}\u{1}")
    }

    /// RFC 7628 section 3.2.3: the server says why, and its 535 comes when that is answered.
    @Test(arguments: [
        ("OAUTHBEARER", #"{"status":"invalid_token","scope":"x"}"#, "AQ==", true),
        ("OAUTHBEARER", #"{ "scope" : "x" , "status" : "insufficient_scope" }"#, "AQ==", false),
        ("XOAUTH2", #"{"status":"401","schemes":"Bearer"}"#, "", true),
        ("XOAUTH2", #"{"status":400}"#, "", false), ("XOAUTH2", "no JSON", "", true),
    ])
    func refusedTokens(_ mechanism: String, _ json: String, _ answer: String, _ isStale: Bool) throws {
        var dialog = Self.inTLS(mechanism, .token("TOKEN"))
        _ = dialog.said()
        #expect(dialog.hear("334 \(Base64.encode(json.utf8))\r\n") == [])
        #expect(dialog.said() == answer + "\r\n")
        let failure = try Self.failure(dialog.hear("535 5.7.8 no\r\n"))
        #expect(failure.isTokenStale == isStale && failure.isOfSecurity && failure.outcome.result == .temporary)
        #expect(failure.outcome.reply.text == "the server refused authentication: 535 5.7.8 no (\(json))")
        #expect(!"\(failure)".contains("TOKEN"))
    }

    @Test func refusedAtOnce() throws {
        for (reply, isStale) in [("535 5.7.3 no", true), ("454 4.7.0 later", false), ("421 4.3.2 bye", false)] {
            var dialog = Self.inTLS("XOAUTH2", .token("T"))
            #expect(try Self.failure(dialog.hear(reply + "\r\n")).isTokenStale == isStale)
        }
        // A password that is refused is no stale token.
        var dialog = Self.inTLS("PLAIN", .password("p"))
        #expect(try !Self.failure(dialog.hear("535 5.7.8 no\r\n")).isTokenStale)
        // What goes on and on is broken off.
        dialog = Self.inTLS("XOAUTH2", .token("T"))
        _ = dialog.hear("334 e30=\r\n")
        #expect(try !Self.failure(dialog.hear("334 e30=\r\n")).isTokenStale)
    }

    /// RFC 4954 section 4: a line of 12,288 octets; what is longer is sent when the server asks for it.
    @Test func longTokens() throws {
        // "AUTH XOAUTH2 " and CRLF are 15 octets, what is around the token 28.
        let most = (12_288 - 15) / 4 * 3 - 28
        for (count, isOneLine) in [(most, true), (most + 1, false)] {
            let token = String(repeating: "t", count: count)
            var dialog = Self.inTLS("XOAUTH2", .token(token))
            let line = dialog.said()
            #expect(line.utf8.count <= 12_288 && (line == "AUTH XOAUTH2\r\n") != isOneLine, "\(line.utf8.count)")
            if isOneLine { continue }
            #expect(dialog.hear("334 \r\n") == [])
            #expect(try Self.decoded(dialog.said().dropLast()).contains("Bearer \(token)\u{1}"))
            #expect(dialog.hear("235 ok\r\n") == [.ready])
        }
    }

    @Test func certificates() throws {
        var dialog = Self.inTLS("PLAIN EXTERNAL", .certificate)
        #expect(dialog.said() == "AUTH EXTERNAL YUBiLnRlc3Q=\r\n")
        #expect(dialog.hear("235 ok\r\n") == [.ready])
    }

    @Test(arguments: [
        (SASLClient.Credentials.Secret.password("p"), "EXTERNAL XOAUTH2", "a password (SCRAM, PLAIN, LOGIN, CRAM-MD5)"),
        (.token("t"), "PLAIN SCRAM-SHA-256", "a token (OAUTHBEARER, XOAUTH2)"),
        (.certificate, "PLAIN", "a certificate (EXTERNAL)"),
    ])
    func nothingThatFits(_ secret: SASLClient.Credentials.Secret, _ offered: String, _ words: String) throws {
        var dialog = ClientDialog(.required, credentials: .init(username: "a", secret))
        _ = dialog.hear("220 x\r\n")
        _ = dialog.hear(["x", "STARTTLS"].ehloReply)
        _ = dialog.hear("220 go\r\n")
        dialog.machine.tlsEstablished(into: &dialog.out)
        _ = dialog.said()
        let failure = try Self.failure(dialog.hear(["x", "AUTH \(offered)"].ehloReply))
        #expect(failure.outcome.reply.text == "the server offers no AUTH for \(words)")
        #expect(dialog.said() == "" && failure.isOfSecurity)
    }
}
