// [signing] and [[dkim]]: what they say where they say nothing, each key, mistakes, and what is surely not meant.

import SlimtaDKIM
import Testing

@testable import SlimtaConfiguration

@Suite struct SigningTests {
    private func parsed(_ text: String) throws -> Configuration {
        try Configuration.parse(edge + text, file: "slimta.conf")
    }

    private func warnings(_ text: String) throws -> [String] {
        try parsed(text).warnings.map { "\($0.keyPath): \($0.text)" }
    }

    @Test func nothingIsSignedWithoutIt() throws {
        let signing = try parsed("").signing
        #expect(signing == SigningSettings())
        #expect(signing.names.isEmpty && signing.domains.entry(for: "example.com") == nil)
        #expect(try warnings("").isEmpty)
    }

    @Test func everyKey() throws {
        let signing = try parsed(
            """
            [signing]
            otherwise = "Example.COM"
            x_after = "72h"
            [[dkim]]
            domains = ["Example.com", "bücher.example"]
            selector = "S1"
            key_file = "/etc/slimta/rsa.pem"
            subdomains = false
            [[dkim]]
            domains = ["example.com"]
            algorithm = "ed25519-sha256"
            gate = "open"
            """
        ).signing
        #expect(signing.names == ["example.com", "xn--bcher-kva.example"])
        #expect(signing.otherwise == .domain("example.com"))
        #expect(signing.keys.map(\.source) == [.file("/etc/slimta/rsa.pem", selector: "s1"), .made])
        #expect(signing.keys.map(\.algorithm) == [.rsaSHA256, .ed25519SHA256])
        #expect(signing.made(for: "example.com") == [.ed25519SHA256])
        #expect(signing.made(for: "xn--bcher-kva.example") == [])
        // What one table says of a domain holds for its other keys, too.
        #expect(signing.domains.entry(for: "news.example.com") == nil)
        #expect(signing.domains.entry(for: "example.com") == "example.com")
        #expect(signing.gate(of: "example.com") == .open && signing.gate(of: "xn--bcher-kva.example") == .closed)
    }

    @Test func signaturesCountForTheQueuesTime() throws {
        func lifetimes(_ text: String) throws -> (Duration?, Duration) {
            let configuration = try parsed(text)
            let queued = configuration.queue.expire
            return (configuration.signing.lifetime(queued: queued), configuration.signing.underWay(queued: queued))
        }
        let day = 86400
        #expect(try lifetimes("") == (.seconds(7 * day), .seconds(7 * day)))
        #expect(try lifetimes("[queue]\nexpire = \"2d\"") == (.seconds(4 * day), .seconds(4 * day)))
        #expect(try lifetimes("[signing]\nx_after = \"never\"") == (nil, .seconds(5 * day)))
        #expect(try lifetimes("[signing]\nx_after = \"1d\"") == (.seconds(day), .seconds(5 * day)))
    }

    @Test(arguments: [
        Case(
            "[[dkim]]\n",
            "8: dkim[0].domains: missing; required is a list of domains, such as [\"example.com\"]"),
        Case(
            "[[dkim]]\ndomains = [\"localhost\", \"*.example.com\", \"192.0.2.1\"]",
            "9: dkim[0].domains[0]: found \"localhost\"; allowed is a domain such as \"example.com\"",
            "9: dkim[0].domains[1]: found \"*.example.com\"; allowed is a domain such as \"example.com\"",
            "9: dkim[0].domains[2]: found \"192.0.2.1\"; allowed is a domain such as \"example.com\""),
        Case(
            "[[dkim]]\ndomains = [\"example.com\"]\nalgorithm = \"rsa-sha1\"",
            "10: dkim[0].algorithm: found \"rsa-sha1\"; allowed is \"rsa-sha256\", \"ed25519-sha256\""),
        Case(
            "[[dkim]]\ndomains = [\"example.com\"]\nselector = \"s1\"",
            "10: dkim[0].selector: found without key_file; allowed is it with that"),
        Case(
            "[[dkim]]\ndomains = [\"example.com\"]\nkey_file = \"/k\"",
            "8: dkim[0].selector: missing; required is it with key_file"),
        Case(
            "[[dkim]]\ndomains = [\"example.com\"]\nkey_file = \"k\"\nselector = \"a b\"",
            "10: dkim[0].key_file: found \"k\"; allowed is an absolute path",
            "11: dkim[0].selector: found \"a b\"; allowed is a name such as \"s2026\""),
        Case(
            "[[dkim]]\ndomains = [\"example.com\"]\n[[dkim]]\ndomains = [\"EXAMPLE.com\"]",
            "11: dkim[1].domains: found example.com with rsa-sha256, which dkim[0] has; allowed is one table"),
        Case(
            """
            [[dkim]]
            domains = ["example.com"]
            key_file = "/a"
            selector = "s"
            [[dkim]]
            domains = ["example.com"]
            algorithm = "ed25519-sha256"
            key_file = "/b"
            selector = "S"
            """,
            "16: dkim[1].selector: found \"s\" of example.com, which dkim[0] has; allowed is a name of its own"),
        Case(
            """
            [[dkim]]
            domains = ["example.com"]
            gate = "open"
            subdomains = true
            [[dkim]]
            domains = ["example.com"]
            algorithm = "ed25519-sha256"
            gate = "off"
            subdomains = false
            """,
            "15: dkim[1].gate: found \"off\", and dkim[0] says \"open\" of example.com; allowed is one",
            "16: dkim[1].subdomains: found false, and dkim[0] says true of example.com; allowed is one"),
        Case(
            """
            [signing]
            otherwise = "example.org"
            x_after = "1m"
            selector = "s"
            [[dkim]]
            domains = ["example.com"]
            """,
            "9: signing.otherwise: found \"example.org\"; allowed is \"unsigned\", \"refuse\", or a domain of [[dkim]]",
            "10: signing.x_after: found \"1m\"; allowed is a duration",
            "11: signing.selector: unknown key; allowed in signing are otherwise, x_after"),
        Case(
            "[signing]\notherwise = \"refuse\"",
            "9: signing.otherwise: found \"refuse\"; allowed is it with a table [[dkim]] for the domains"),
        Case(
            "[signing]\notherwise = \"refuse\"\n[[dkim]]\ndomains = [\"localhost\"]",
            "11: dkim[0].domains[0]: found \"localhost\"; allowed is a domain such as \"example.com\""),
        Case(
            "[dkim]\ndomains = [\"example.com\"]", "8: dkim: found a table; allowed is a table [[dkim]] for each dkim"),
    ])
    func mistakesAreTold(_ test: Case) {
        let found = mistakes(edge + test.text)
        #expect(found.count == test.errors.count, "\(found)")
        for (found, expected) in zip(found, test.errors) { #expect(found.hasPrefix(expected), "\(found)") }
    }

    @Test func whoMaySignForAllDomains() throws {
        let logins = edge.replacing("auth = \"none\"", with: "auth = \"required\"\nplaintext_auth = true")
        func warnings(_ text: String) throws -> [Configuration.Warning] {
            try Configuration.parse(logins + text + "[[dkim]]\ndomains = [\"example.com\"]", file: "f").warnings
        }
        #expect(try warnings("[sender_check]\nfrom = true\n").isEmpty)
        #expect(try warnings("").map(\.keyPath) == ["dkim[0].domains"])
    }

    @Test func whatIsSurelyNotMeant() throws {
        #expect(
            try warnings("[signing]\nx_after = \"never\"") == ["signing: nothing is signed: there is no table [[dkim]]"]
        )
        #expect(
            try warnings("[[dkim]]\ndomains = [\"example.com\"]\nalgorithm = \"ed25519-sha256\"\ngate = \"off\"") == [
                "dkim[0].algorithm: example.com has no key for rsa-sha256: for all who do not know ed25519-sha256 its mail "
                    + "is unsigned",
                "dkim[0].gate: gate = \"off\": mail from example.com is signed whether or not DNS has the key",
            ])
        // What waits for longer is signed anew.
        #expect(try warnings("[signing]\nx_after = \"2d\"\n[[dkim]]\ndomains = [\"example.com\"]").isEmpty)
    }
}
