// What clients call users of PAM, and what their addresses are.

import SlimtaSMTP
import Testing

@testable import SlimtaEdge

@Suite struct PAMNamesTests {
    @Test(
        arguments: [
            ("maria", nil, "maria", "maria@mail.example.org"), ("maria", "example.com", "maria", "maria@example.com"),
            ("maria@Example.COM", "example.com", "maria", "maria@example.com"),
            // Users whose names are addresses.
            ("maria@example.net", "example.com", "maria@example.net", "maria@example.net"),
            ("maria@example.com", nil, "maria@example.com", "maria@example.com"),
            ("@example.com", "example.com", "@example.com", "\"@example.com\"@example.com"),
            ("a b", nil, "a b", "\"a b\"@mail.example.org"), ("a\u{7}", nil, "a\u{7}", ""),
        ] as [(String, String?, String, String)])
    func names(_ login: String, _ domain: String?, _ user: String, _ address: String) {
        let names = PAMNames(domain: domain, hostname: "mail.example.org")
        #expect(names.user(of: login) == user)
        #expect(names.authenticated(user).senders == (address.isEmpty ? [] : [address]))
        #expect(names.authenticated(user).login == user)
    }

    @Test func oneUserHasOneLogin() {
        let names = PAMNames(domain: "example.com", hostname: "mail.example.org", foldsCase: true)
        for found in ["maria", "MARIA", "Maria@example.com", "MARIA@EXAMPLE.COM"] {
            #expect(names.authenticated(found).login == "maria")
            #expect(names.authenticated(found).senders == ["maria@example.com"])
        }
        #expect(names.all(of: "maria") == ["maria", "maria@example.com"])
        #expect(PAMNames(domain: nil, hostname: "mail.example.org").all(of: "maria") == ["maria"])
        // Where case counts, these are two.
        #expect(PAMNames(domain: nil, hostname: "mail.example.org").authenticated("MARIA").login == "MARIA")
    }
}
