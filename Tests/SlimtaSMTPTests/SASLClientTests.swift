// What a client says in AUTH PLAIN and AUTH LOGIN.

import SlimtaSMTP
import Testing

struct SASLClientTests {
    @Test(arguments: [
        ("tim", "tanstaaftanstaaf", "AHRpbQB0YW5zdGFhZnRhbnN0YWFm"),  // RFC 4616 section 4
        ("test", "test", "AHRlc3QAdGVzdA=="), ("a", "b", "AGEAYg=="), ("a", "bc", "AGEAYmM="), ("a", "", "AGEA"),
        ("ü", "pässword", "AMO8AHDDpHNzd29yZA=="),
    ])
    func plain(_ username: String, _ password: String, _ response: String) throws {
        var client = try #require(
            SASLClient(offered: [.plain, .login], credentials: .init(username: username, password: password)))
        #expect(client.begin() == "PLAIN \(response)")
        #expect(client.respond() == nil)
    }

    @Test func login() throws {
        var client = try #require(
            SASLClient(offered: .login, credentials: .init(username: "relay", password: "secret")))
        #expect(client.begin() == "LOGIN")
        #expect(client.respond() == "cmVsYXk=")
        #expect(client.respond() == "c2VjcmV0")
        #expect(client.respond() == nil)
    }

    @Test func nothingInCommon() {
        #expect(SASLClient(offered: [], credentials: .init(username: "a", password: "b")) == nil)
    }

    @Test func credentialsDoNotShowThePassword() {
        #expect("\(SASLClient.Credentials(username: "a", password: "secret"))" == "a")
    }
}
