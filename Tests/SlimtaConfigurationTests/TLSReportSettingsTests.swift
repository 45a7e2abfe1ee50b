// [tls_report]: what is read, and what is a mistake.

import SlimtaMail
import Testing

@testable import SlimtaConfiguration

@Suite struct TLSReportSettingsTests {
    @Test func settings() throws {
        #expect(try Configuration.parse(edge, file: "f").tlsReport == nil)
        let usual = try #require(
            try Configuration.parse(edge + "[tls_report]\ncontact = \"tls@Example.com\"\n", file: "f").tlsReport)
        #expect(usual.contact.text == "tls@Example.com" && usual.sign)
        let unsigned = try Configuration.parse(
            edge + "[tls_report]\ncontact = \"tls@example.com\"\nsign = false\n", file: "f")
        #expect(unsigned.tlsReport?.sign == false)
    }

    @Test(arguments: [
        ("", "8: tls_report.contact: missing; required is an address that somebody reads"),
        ("contact = \"postmaster\"", "9: tls_report.contact: found \"postmaster\"; allowed is an address"),
        ("contact = \"a@[192.0.2.1]\"", "9: tls_report.contact: found \"a@[192.0.2.1]\""),
        ("contact = \"\u{FC}@example.com\"", "9: tls_report.contact: found \"\u{FC}@example.com\""),
        ("contact = \"a@example.com\"\nsign = 1", "10: tls_report.sign: found the number 1"),
        ("contact = \"a@example.com\"\norganization = \"x\"", "10: tls_report.organization: unknown key"),
    ])
    func wrong(_ text: String, _ expected: String) throws {
        let found = mistakes(edge + "[tls_report]\n" + text)
        #expect(found.count == 1 && found[0].hasPrefix(expected), "\(found)")
    }
}
