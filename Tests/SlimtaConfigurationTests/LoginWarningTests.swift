// What of [auth] does not do what somebody may think it does.

import Testing

@testable import SlimtaConfiguration

@Suite struct LoginWarningTests {
    private static func edge(_ type: String) -> String {
        """
        [[edge]]
        name = "in"
        type = "\(type)"
        listen = ["127.0.0.1:2525"]
        tls = "none"
        plaintext_auth = true
        auth = "required"

        """
    }

    private static func warnings(_ text: String) throws -> [String] {
        try Configuration.parse(text, file: "f").warnings.map(\.keyPath)
    }

    /// Basic is PLAIN.
    @Test func httpWithoutPasswords() throws {
        let plus = "[auth]\nmechanisms = [\"SCRAM-SHA-256-PLUS\"]\n"
        #expect(try Self.warnings(Self.edge("http") + plus) == ["auth.mechanisms"])
        #expect(try Self.warnings(Self.edge("smtp") + plus).isEmpty)
        #expect(try Self.warnings(Self.edge("http") + "[auth]\nmechanisms = [\"PLAIN\"]\n").isEmpty)
        let tokens = "backends = [\"oauth\"]\n[auth.oauth]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"/k\"\n"
        #expect(try Self.warnings(Self.edge("http") + plus + tokens).isEmpty)
    }

    /// Binding is SCRAM's.
    @Test func passwordsThatAreNotBound() throws {
        let required = "[auth]\nchannel_binding = \"require\"\n"
        #expect(try Self.warnings(Self.edge("smtp") + required) == ["auth.channel_binding"])
        let plus = "mechanisms = [\"SCRAM-SHA-256-PLUS\"]\n"
        #expect(try Self.warnings(Self.edge("smtp") + required + plus).isEmpty)
        #expect(
            try Self.warnings(Self.edge("smtp") + required + "mechanisms = [\"LOGIN\"]") == ["auth.channel_binding"])
    }
}
