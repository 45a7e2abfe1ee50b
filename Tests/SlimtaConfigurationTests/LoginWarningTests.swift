// What of [auth] does not do what somebody may think it does. That nobody can log in where that is said, and somebody where it
// is not, is slimtadTests' LoginOfferTests: there are the back ends.

import SlimtaSASL
import Testing

@testable import SlimtaConfiguration

@Suite struct LoginWarningTests {
    private static func edge(_ type: String, tls: Bool = false, proxies: String = "") -> String {
        """
        [tls]
        certificate = "/c"
        key = "/k"
        [[edge]]
        name = "in"
        type = "\(type)"
        listen = ["\(tls ? "192.0.2.1" : "127.0.0.1"):2525"]
        tls = "\(tls ? "immediate" : "none")"
        plaintext_auth = \(!tls)
        auth = "required"
        proxy_protocol = [\(proxies)]

        """
    }

    private static func warnings(_ text: String) throws -> [String] {
        try Configuration.parse(text, file: "f").warnings.map(\.keyPath)
    }

    private static func texts(_ text: String) throws -> [String] {
        try Configuration.parse(text, file: "f").warnings.map { "\($0.keyPath): \($0.text)" }
    }

    private static let tokens = "[auth.oauth]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"/k\"\n"

    /// Basic is PLAIN.
    @Test func httpWithoutPasswords() throws {
        let plus = "[auth]\nmechanisms = [\"SCRAM-SHA-256-PLUS\"]\n"
        #expect(
            try Self.texts(Self.edge("http") + plus) == [
                "auth.mechanisms: nobody can log in over HTTP on edge \"in\": Basic is taken with PLAIN in mechanisms only, and "
                    + "Bearer with \"oauth\" in backends"
            ])
        #expect(try Self.warnings(Self.edge("http") + "[auth]\nmechanisms = [\"PLAIN\"]\n").isEmpty)
        // Bearer is there, and what else is said does nothing.
        #expect(
            try Self.texts(Self.edge("http") + plus + "backends = [\"oauth\"]\n" + Self.tokens) == [
                "auth.mechanisms: none of auth.backends serves SCRAM-SHA-256-PLUS: never offered"
            ])
    }

    /// One that nothing asks.
    @Test func idleBackEnds() throws {
        let both = "[auth]\nbackends = [\"file\", \"oauth\"]\nmechanisms = "
        let text = "auth.backends: \"oauth\" is never asked: it serves none of mechanisms"
        #expect(try Self.texts(Self.edge("smtp") + both + "[\"PLAIN\"]\n" + Self.tokens) == [text])
        #expect(try Self.texts(Self.edge("smtp") + both + "[\"PLAIN\", \"XOAUTH2\"]\n" + Self.tokens).isEmpty)
        // There it is Bearer.
        #expect(try Self.texts(Self.edge("http") + both + "[\"PLAIN\"]\n" + Self.tokens).isEmpty)
        #expect(
            try Self.texts(Self.edge("smtp") + both + "[\"XOAUTH2\"]\n" + Self.tokens) == [
                "auth.backends: \"file\" is never asked: it serves none of mechanisms"
            ])
    }

    /// Why nobody can, in words; elsewhere (LoginOfferTests) it is whether.
    @Test func whyNobodyCanLogIn() throws {
        let plus = "[auth]\nmechanisms = [\"SCRAM-SHA-256-PLUS\", \"SCRAM-SHA-1-PLUS\"]\n"
        let names = "SCRAM-SHA-256-PLUS, SCRAM-SHA-1-PLUS"
        let proxied = Self.edge("smtp", proxies: "\"127.0.0.0/8\"").replacing("plaintext_auth = true\n", with: "")
            .replacing("tls = \"none\"", with: "tls = \"starttls\"")
        for (text, why) in [
            (Self.edge("smtp") + plus, "without TLS there is no \(names)"),
            (
                Self.edge("smtp", tls: true) + plus + "channel_binding = \"off\"",
                "channel_binding = \"off\" takes away \(names)"
            ),
            (proxied + plus, "who comes through a proxy has no \(names), for TLS may end there"),
            (
                Self.edge("smtp", tls: true) + "[auth]\nmechanisms = [\"SCRAM-SHA-1\"]\nchannel_binding = \"require\"",
                "channel_binding = \"require\" takes away SCRAM-SHA-1"
            ),
            (
                Self.edge("smtp", tls: true) + plus.replacing("PLUS\"]", with: "PLUS\", \"CRAM-MD5\"]")
                    + "backends = [\"pam\"]",
                "none of auth.backends serves \(names), CRAM-MD5"
            ),
            (
                Self.edge("smtp")
                    + "[auth]\nmechanisms = [\"EXTERNAL\", \"SCRAM-SHA-1\"]\nchannel_binding = \"require\"",
                "without TLS there is no EXTERNAL; channel_binding = \"require\" takes away SCRAM-SHA-1"
            ),
        ] {
            #expect(try Self.texts(text) == ["auth.mechanisms: nobody can log in on edge \"in\": \(why)"])
        }
        let both = Self.edge("smtp", tls: true, proxies: "\"192.0.2.0/24\"") + plus
        #expect(
            try Self.texts(both).first?.hasPrefix("auth.mechanisms: nobody who comes through a proxy can log") == true)
        #expect(try Self.warnings(Self.edge("smtp", tls: true) + plus).isEmpty)
    }

    /// What somebody has asked for and gets nowhere; who has asked for nothing is told nothing.
    @Test func whatIsNeverOffered() throws {
        let pam = "[auth]\nbackends = [\"pam\"]\n"
        #expect(try Self.warnings(Self.edge("smtp", tls: true) + pam).isEmpty)
        #expect(
            try Self.texts(Self.edge("smtp", tls: true) + pam + "mechanisms = [\"SCRAM-SHA-256\", \"PLAIN\"]") == [
                "auth.mechanisms: none of auth.backends serves SCRAM-SHA-256: never offered"
            ])
        let external = "[auth]\nmechanisms = [\"EXTERNAL\", \"PLAIN\"]\n"
        for (text, why) in [
            (
                Self.edge("smtp", tls: true),
                "clients are asked for a certificate only with client_ca in [tls], or with "
            ),
            (Self.edge("smtp"), "without TLS there is no EXTERNAL"), (Self.edge("http"), "HTTP has no EXTERNAL"),
        ] {
            let found = try Self.texts(text + external)
            #expect(found.count == 1)
            #expect(
                found.first?.hasPrefix("auth.mechanisms: EXTERNAL is offered to nobody: \(why)") == true, "\(found)")
        }
        let asking = Self.edge("smtp", tls: true).replacing("key = ", with: "client_ca = \"/ca\"\nkey = ")
        #expect(try Self.warnings(asking + external).isEmpty)
    }

    /// Binding is SCRAM's.
    @Test func passwordsThatAreNotBound() throws {
        let required = "[auth]\nchannel_binding = \"require\"\n"
        let bound = Self.edge("smtp", tls: true)
        #expect(
            try Self.texts(bound + required).first?.hasPrefix("auth.channel_binding: it is SCRAM that is bound") == true
        )
        #expect(
            try Self.texts(Self.edge("smtp") + required) == [
                "auth.channel_binding: SCRAM is offered to nobody: without TLS there is no SCRAM-SHA-256-PLUS"
            ])
        #expect(try Self.warnings(bound + required + "mechanisms = [\"SCRAM-SHA-256-PLUS\"]\n").isEmpty)
        #expect(
            try Self.texts(bound + required + "mechanisms = [\"SCRAM-SHA-256\", \"LOGIN\"]\n") == [
                "auth.channel_binding: SCRAM is offered to nobody: mechanisms has no -PLUS that a back end serves"
            ])
    }

    /// Each setting that is for something, with and without it: back ends × mechanisms × kinds of edge.
    @Test func whatDoesNothing() throws {
        let lines: [(key: String, line: String)] = [
            ("users", "users = \"/u\""), ("scram_iterations", "scram_iterations = 5000"),
            ("learn_scram", "learn_scram = true"), ("fold_case", "fold_case = true"),
            ("channel_binding", "channel_binding = \"off\""),
        ]
        for backEnds in [["file"], ["pam"], ["dovecot"], ["oauth"], ["file", "oauth"], ["pam", "dovecot"]] {
            for mechanisms in [
                ["PLAIN"], ["LOGIN", "XOAUTH2"], ["SCRAM-SHA-256"], ["SCRAM-SHA-1-PLUS", "PLAIN"],
                ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"],
            ] {
                for type in ["smtp", "http", "none"] {
                    for (key, line) in lines {
                        var edges = Self.edge(type == "none" ? "smtp" : type, tls: true)
                        if type == "none" {
                            edges = Self.edge("smtp").replacing("required", with: "none").replacing(
                                "plaintext_auth = true", with: "plaintext_auth = false")
                        }
                        let text =
                            edges + "[auth]\nbackends = \(backEnds)\nmechanisms = \(mechanisms)\n\(line)\n"
                            + (backEnds.contains("dovecot") ? "[auth.dovecot]\nsocket = \"unix:/d\"\n" : "")
                            + (backEnds.contains("oauth") ? Self.tokens : "")
                        let found = try Self.warnings(text).filter { $0 != "auth.mechanisms" }
                        let hasFile = backEnds.contains("file")
                        let bound = mechanisms.contains { $0.hasSuffix("-PLUS") } && hasFile
                        let hasSCRAM =
                            type == "smtp"
                            && (hasFile
                                ? mechanisms.contains { $0.hasPrefix("SCRAM") }
                                : backEnds.contains("dovecot") && mechanisms.contains("SCRAM-SHA-256"))
                        let isFor =
                            switch key {
                            case "users": hasFile
                            case "scram_iterations": hasSCRAM
                            case "learn_scram": hasFile && hasSCRAM && mechanisms != ["SCRAM-SHA-256"]
                            case "fold_case": hasFile || backEnds.contains("pam")
                            default: hasSCRAM && bound
                            }
                        let isIdle =
                            backEnds == ["file", "oauth"] && type == "smtp" && !mechanisms.contains("XOAUTH2")
                            || backEnds == ["pam", "dovecot"] && mechanisms == ["SCRAM-SHA-256"]
                        let expected =
                            type == "none"
                            ? ["auth"] : (isFor ? [] : ["auth.\(key)"]) + (isIdle ? ["auth.backends"] : [])
                        #expect(found == expected, "\(text)")
                    }
                }
            }
        }
        #expect(
            try Self.warnings(
                Self.edge("smtp").replacing("required", with: "none").replacing("plaintext_auth = true", with: "")
            ).isEmpty)
    }
}
