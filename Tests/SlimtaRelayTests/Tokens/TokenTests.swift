// Tokens as values: what is asked of an endpoint, what its answers mean, and when a token is used.

import NIOCore
import SlimtaCrypto
import SlimtaMail
import SlimtaNet
import TestKit
import Testing

@testable import SlimtaRelay

struct TokenRequestTests {
    private static let certificates = try! Certificates()
    private static let now = Timestamp(milliseconds: 1_800_000_000_000)

    private static func settings(
        _ grant: TokenSettings.Grant, _ proof: TokenSettings.Proof = .none, scope: String? = nil
    ) -> TokenSettings {
        TokenSettings(
            endpoint: .init(host: "login.test", target: "/token"), username: "a@b.test", clientID: "me & you",
            proof: proof, grant: grant, scope: scope)
    }

    private static func form(_ settings: TokenSettings, refreshToken: String? = nil) throws -> [String: String] {
        let request = TokenRequest(settings: settings, refreshToken: refreshToken, now: now, identifier: "once")
        let query = try #require(HTTPTarget("/?" + request.form())).query
        return Dictionary(uniqueKeysWithValues: query.map { ($0.name, $0.value) })
    }

    @Test func refreshTokens() throws {
        #expect(
            try Self.form(Self.settings(.refreshToken("r+1")))
                == ["grant_type": "refresh_token", "refresh_token": "r+1", "client_id": "me & you"])
        #expect(
            try Self.form(Self.settings(.refreshToken("old"), .secret("s=1"), scope: "a b"), refreshToken: "new")
                == [
                    "grant_type": "refresh_token", "refresh_token": "new", "client_id": "me & you",
                    "client_secret": "s=1", "scope": "a b",
                ])
    }

    /// The statement, and whether its key has signed it.
    private static func read(_ jwt: String, _ key: PublicKey) throws -> (header: JSON, claims: JSON) {
        let parts = jwt.split(separator: ".")
        #expect(parts.count == 3)
        let decoded = try parts.map { try #require(Base64.decode(url: $0.utf8)) }
        #expect(key.isSignature(decoded[2], of: Array("\(parts[0]).\(parts[1])".utf8)))
        return (try JSON(parsing: decoded[0]), try JSON(parsing: decoded[1]))
    }

    @Test func clientCredentials() throws {
        let secret = try Self.form(Self.settings(.clientCredentials, .secret("x"), scope: "mail"))
        #expect(secret["grant_type"] == "client_credentials" && secret["client_secret"] == "x")

        let pair = try Self.certificates.selfSigned("me.test", key: .rsa(bits: 2048))
        let key = try PrivateKey(pem: pair.keyPEM)
        let signed = try Self.form(Self.settings(.clientCredentials, .key(pair.keyPEM + pair.certificatePEM)))
        #expect(signed["client_secret"] == nil && signed["client_id"] == "me & you")
        #expect(signed["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        let (header, claims) = try Self.read(try #require(signed["client_assertion"]), key.publicKey)
        #expect(header["alg"].text == "RS256" && header["typ"].text == "JWT")
        #expect(header["x5t#S256"].text?.count == 43)
        #expect(claims["iss"].text == "me & you" && claims["sub"].text == "me & you")
        #expect(claims["aud"].text == "https://login.test/token" && claims["jti"].text == "once")
        #expect(claims["iat"].integer == 1_799_999_940 && claims["exp"].integer == 1_800_000_480)
    }

    @Test(arguments: [(Certificates.Key.ecdsa, "ES256"), (.ed25519, "EdDSA"), (.rsa(bits: 2048), "RS256")])
    func assertions(_ kind: Certificates.Key, _ name: String) throws {
        let pair = try Self.certificates.selfSigned("me.test", key: kind)
        let key = try PrivateKey(pem: pair.keyPEM)
        let form = try Self.form(
            Self.settings(.assertion(issuer: "svc", subject: "a@b.test", audience: nil), .key(pair.keyPEM), scope: "m"))
        #expect(Set(form.keys) == ["grant_type", "assertion"])
        #expect(form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer")
        let (header, claims) = try Self.read(try #require(form["assertion"]), key.publicKey)
        #expect(header["alg"].text == name && header["x5t#S256"] == .null)
        #expect(claims["iss"].text == "svc" && claims["sub"].text == "a@b.test" && claims["scope"].text == "m")
        #expect(claims["aud"].text == "https://login.test/token")
        #expect(claims["iat"].integer == 1_799_999_940 && claims["exp"].integer == 1_800_003_540)
    }

    @Test func aKeyThatIsNone() {
        #expect(throws: CryptoError.self) {
            try Self.form(Self.settings(.assertion(issuer: "i", subject: nil, audience: nil), .key([1, 2])))
        }
    }
}

struct TokenAnswerTests {
    private static func answer(
        _ status: Int, _ body: String, retryAfter: Duration? = nil, theirs: Timestamp? = nil
    ) -> TokenAnswer {
        TokenAnswer(
            status: status, body: ByteBuffer(string: body), retryAfter: retryAfter, theirs: theirs,
            now: Timestamp(milliseconds: 1_000_000_000))
    }

    @Test(arguments: [
        (#"{"access_token":"t","expires_in":3599}"#, Duration.seconds(3599) as Duration?, nil as String?),
        (#"{"access_token":"t","expires_in":"60","token_type":"bearer","refresh_token":"n"}"#, .seconds(60), "n"),
        (#"{"access_token":"t","token_type":"Bearer","expires_in":-5}"#, .zero, nil),
        (#"{"access_token":"t","expires_in":1e300}"#, .seconds(366 * 86_400), nil),
        (#"{"access_token":"t","refresh_token":""}"#, nil, nil),
    ])
    func tokens(_ body: String, _ lifetime: Duration?, _ refresh: String?) {
        #expect(Self.answer(200, body) == .token(.init(text: "t", lifetime: lifetime, refreshToken: refresh)))
    }

    @Test(arguments: [
        "", "x", "[]", "{}", #"{"access_token":""}"#, #"{"access_token":"a b"}"#, #"{"access_token":"a\u0001b"}"#,
        #"{"access_token":"t","token_type":"mac"}"#, #"{"access_token":5}"#,
    ])
    func noTokens(_ body: String) {
        #expect(Self.answer(200, body) == .later("its answer has no token", after: nil))
    }

    @Test func refusals() {
        #expect(
            Self.answer(400, #"{"error":"invalid_grant","error_description":"it \u001b has ended"}"#)
                == .refused("it answers 400 invalid_grant: it \\x1b has ended"))
        #expect(Self.answer(401, #"{"error":"invalid_client"}"#) == .refused("it answers 401 invalid_client"))
        #expect(Self.answer(404, "<html>") == .refused("it answers 404"))
        #expect(Self.answer(302, "") == .refused("it answers 302"))
        #expect(Self.answer(500, "oops") == .later("it answers 500", after: nil))
        #expect(Self.answer(429, "{}", retryAfter: .seconds(7)) == .later("it answers 429", after: .seconds(7)))
        #expect(
            Self.answer(400, #"{"error":"temporarily_unavailable"}"#)
                == .later("it answers 400 temporarily_unavailable", after: nil))
    }

    /// A character of any length is cut as well.
    @Test func wordsAreCut() {
        let marks = String(repeating: "\u{301}", count: 5000)
        let cut = "a" + String(repeating: "\u{301}", count: 99)
        #expect(
            Self.answer(400, "{\"error\":\"a\(marks)\",\"error_description\":\"a\(marks)\"}")
                == .refused("it answers 400 \(cut): \(cut)"))
        let type = TokenAnswer(.failure(.mediaType("a\(marks)")), now: .now())
        #expect(type == .later("its answer is a" + String(repeating: "\u{301}", count: 63), after: nil))
    }

    /// Who does not take a statement may have another clock.
    @Test func clocks() {
        func why(_ milliseconds: Int64) -> TokenAnswer {
            Self.answer(400, #"{"error":"invalid_grant"}"#, theirs: Timestamp(milliseconds: milliseconds))
        }
        #expect(why(1_000_000_000) == .refused("it answers 400 invalid_grant"))
        #expect(why(999_941_000) == .refused("it answers 400 invalid_grant"))
        #expect(
            why(999_700_000) == .refused("it answers 400 invalid_grant; our clock is 300 s ahead of its clock"))
        #expect(
            why(1_000_300_000) == .refused("it answers 400 invalid_grant; our clock is 300 s behind its clock"))
    }

    @Test func nobodyAnswers() {
        let failure = HTTPSClient.Failure.http(.timedOut(.answering))
        #expect(TokenAnswer(.failure(failure), now: .now()) == .later("no answer in time", after: nil))
    }
}

struct TokenMachineTests {
    private static func at(_ seconds: Int64) -> NIODeadline { .uptimeNanoseconds(1_000_000_000) + .seconds(seconds) }

    private static func token(_ text: String, _ seconds: Int? = 3600) -> TokenAnswer {
        .token(.init(text: text, lifetime: seconds.map { .seconds($0) }, refreshToken: nil))
    }

    private static func answer(_ machine: inout TokenMachine, _ answer: TokenAnswer, _ second: Int64)
        -> TokenMachine.News
    {
        machine.answered(answer, asked: at(second), at: at(second))
    }

    @Test func oneRequestForAll() {
        var machine = TokenMachine(margin: .seconds(600))
        #expect(machine.need(at: Self.at(0)) == .fetch)
        for _ in 0..<100 { #expect(machine.need(at: Self.at(1)) == .wait) }
        #expect(Self.answer(&machine, Self.token("a"), 0) == .nothing)
        #expect(machine.need(at: Self.at(2999)) == .use("a"))
        // Ten minutes before its end.
        #expect(machine.need(at: Self.at(3000)) == .fetch)
        #expect(machine.need(at: Self.at(3000)) == .wait)
        #expect(Self.answer(&machine, Self.token("b", nil), 3000) == .nothing)
        #expect(machine.need(at: Self.at(3149)) == .use("b"))
        #expect(machine.need(at: Self.at(3150)) == .fetch, "five minutes where nothing is said, and half of them")
    }

    /// The time begins with the question: the answer may have been on its way for long.
    @Test func slowAnswers() {
        var machine = TokenMachine(margin: .seconds(5))
        _ = machine.need(at: Self.at(0))
        _ = machine.answered(Self.token("a", 20), asked: Self.at(0), at: Self.at(14))
        #expect(machine.need(at: Self.at(14)) == .use("a"))
        #expect(machine.need(at: Self.at(15)) == .fetch)
    }

    @Test func backOff() {
        var machine = TokenMachine(margin: .zero)
        var now: Int64 = 0
        for pause in [5, 10, 20, 40, 80, 160, 300, 300] as [Int64] {
            #expect(machine.need(at: Self.at(now)) == .fetch)
            #expect(Self.answer(&machine, .later("down", after: nil), now) == .nothing)
            #expect(machine.need(at: Self.at(now + pause - 1)) == .none("down"))
            now += pause
        }
        #expect(machine.need(at: Self.at(now)) == .fetch)
        #expect(Self.answer(&machine, .later("busy", after: .seconds(1000)), now) == .nothing)
        #expect(machine.need(at: Self.at(now + 999)) == .none("busy"))
        #expect(machine.need(at: Self.at(now + 1000)) == .fetch)
        #expect(Self.answer(&machine, Self.token("a"), now + 1000) == .nothing)
        // From the beginning.
        machine = TokenMachine(margin: .zero)
        _ = machine.need(at: Self.at(0))
        _ = Self.answer(&machine, Self.token("a", 1), 0)
        _ = machine.need(at: Self.at(2))
        _ = Self.answer(&machine, .later("down", after: .seconds(1)), 2)
        #expect(machine.need(at: Self.at(6)) == .none("down"))
        #expect(machine.need(at: Self.at(7)) == .fetch)
    }

    /// What only the operator can put right is told once, and tried every five minutes.
    @Test func operatorsMatter() {
        var machine = TokenMachine(margin: .zero)
        _ = machine.need(at: Self.at(0))
        #expect(Self.answer(&machine, .refused("invalid_grant"), 0) == .trouble("invalid_grant"))
        #expect(machine.trouble == "invalid_grant")
        #expect(machine.need(at: Self.at(299)) == .none("invalid_grant"))
        #expect(machine.need(at: Self.at(300)) == .fetch)
        #expect(Self.answer(&machine, .refused("invalid_grant"), 300) == .nothing)
        _ = machine.need(at: Self.at(600))
        // No answer is no news.
        #expect(Self.answer(&machine, .later("down", after: nil), 600) == .nothing && machine.trouble != nil)
        _ = machine.need(at: Self.at(605))
        #expect(Self.answer(&machine, Self.token("a"), 605) == .over)
        #expect(machine.trouble == nil)
    }

    /// A token that a host refuses is thrown away; another one is asked for once.
    @Test func hostsThatRefuse() {
        var machine = TokenMachine(margin: .zero)
        _ = machine.need(at: Self.at(0))
        _ = Self.answer(&machine, Self.token("a"), 0)
        #expect(machine.rejected("other", at: Self.at(1)) == .nothing)
        #expect(machine.need(at: Self.at(1)) == .use("a"), "it was another one")
        #expect(machine.rejected("a", at: Self.at(2)) == .nothing)
        #expect(machine.rejected("a", at: Self.at(2)) == .nothing, "of two sessions")
        #expect(machine.need(at: Self.at(2)) == .fetch)
        _ = Self.answer(&machine, Self.token("b"), 2)
        guard case .trouble = machine.rejected("b", at: Self.at(3)) else {
            Issue.record("the operator is told")
            return
        }
        guard case .none = machine.need(at: Self.at(302)) else {
            Issue.record("nothing is tried")
            return
        }
        #expect(machine.need(at: Self.at(303)) == .fetch)
        #expect(Self.answer(&machine, Self.token("c"), 303) == .nothing, "it may be as bad")
        #expect(machine.accepted("a") == .nothing)
        #expect(machine.accepted("c") == .over)
        // And from the beginning.
        #expect(machine.rejected("c", at: Self.at(400)) == .nothing)
        #expect(machine.need(at: Self.at(400)) == .fetch)
    }
}

struct StoredRefreshTokenTests {
    @Test func readAndWritten() throws {
        let token = StoredRefreshToken(token: "r\"\u{FC}", origin: StoredRefreshToken.origin("x"), used: .now())
        #expect(StoredRefreshToken(token.octets) == token)
        for count in 0..<token.octets.count - 1 {
            #expect(StoredRefreshToken(token.octets.prefix(count)) == nil)
        }
    }
}
