// What slimta.conf says of headers: [repair], and qualify and received of [queue].

import SlimtaMail
import Testing

@testable import SlimtaConfiguration

@Suite struct RepairSettingsTests {
    @Test func settings() throws {
        let text = "[repair]\nduplicates = \"first\"\n[queue]\nqualify = \"B\u{FC}cher.Example\"\n"
        let said = try Configuration.parse(edge + text + "received = { hide_client = true }", file: "f")
        #expect(said.duplicates == .first)
        #expect(said.queue.qualify == "xn--bcher-kva.example" && said.queue.hidesClient)
        #expect(said.warnings.isEmpty)
        let other = try Configuration.parse(edge, file: "f")
        #expect(other.duplicates == .refuse && other.queue.qualify == nil && !other.queue.hidesClient)
    }

    @Test(arguments: [
        ("[repair]\nduplicates = \"last\"", "9: repair.duplicates: found \"last\"; allowed is \"refuse\", \"first\""),
        ("[repair]\nfrom = true", "9: repair.from: unknown key"),
        ("[queue]\nqualify = \"192.0.2.1\"", "9: queue.qualify: found \"192.0.2.1\""),
        ("[queue]\nqualify = \"a@b.test\"", "9: queue.qualify: found \"a@b.test\""),
        ("[queue]\nreceived = { hide_client = \"yes\" }", "9: queue.received.hide_client: found \"yes\""),
        ("[queue]\nreceived = { hide = true }", "9: queue.received.hide: unknown key"),
        ("[queue]\nreceived = true", "9: queue.received: "),
    ])
    func wrong(_ text: String, _ expected: String) throws {
        let found = mistakes(edge + text)
        #expect(found.count == 1 && found[0].hasPrefix(expected), "\(found)")
    }

    @Test func nothingToHide() throws {
        let text = "[queue]\npolicies = [\"date\"]\nreceived = { hide_client = true }"
        let warnings = try Configuration.parse(edge + text, file: "f").warnings
        #expect(warnings.map(\.keyPath) == ["queue.received"])
    }

    /// Policies have an order of their own.
    @Test func forwardBehindASplit() throws {
        let text = """
            [queue]
            policies = ["domain_split", "forward"]
            [[forward]]
            recipient = "a@b.test"
            to = "c@d.test"
            """
        #expect(try Configuration.parse(edge + text, file: "f").warnings.isEmpty)
    }
}
