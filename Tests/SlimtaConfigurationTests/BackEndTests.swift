// [auth.pam] and logins by certificate: as they should be, and as they should not.

import SlimtaMail
import Testing

@testable import SlimtaConfiguration

@Suite struct BackEndTests {
    private func parse(_ text: String) throws -> Configuration { try Configuration.parse(edge + text, file: "f") }

    @Test func pam() throws {
        let usual = try #require(try parse("[auth]\nbackends = [\"pam\"]\n").auth.pam)
        #expect(usual == PAMSettings() && usual.service == "slimtad" && usual.timeout == .seconds(10))
        let all = try parse(
            """
            [auth]
            backends = ["file", "pam"]
            [auth.pam]
            service = "mail-login"
            directory = "/etc/slimta/pam.d"
            timeout = "30s"
            domain = "Example.COM"
            system_error = "refuse"
            """
        ).auth
        let pam = try #require(all.pam)
        #expect(all.backends == [.file, .pam] && pam.service == "mail-login" && pam.directory == "/etc/slimta/pam.d")
        #expect(pam.timeout == .seconds(30) && pam.domain == "example.com" && pam.systemError == .refuse)
        #expect(try parse("").auth.pam == nil)
    }

    @Test(arguments: [
        ("service = \"../x\"", "auth.pam.service"), ("service = \".x\"", "auth.pam.service"),
        ("directory = \"pam.d\"", "auth.pam.directory"), ("timeout = \"1h\"", "auth.pam.timeout"),
        ("domain = \"a b\"", "auth.pam.domain"), ("system_error = \"no\"", "auth.pam.system_error"),
        ("user = \"root\"", "auth.pam.user: unknown key"),
    ])
    func mistakesOfPAM(_ line: String, _ key: String) {
        let found = mistakes(edge + "[auth]\nbackends = [\"pam\"]\n[auth.pam]\n\(line)\n")
        #expect(found.count == 1 && found.first?.contains(key) == true, "\(found)")
    }

    @Test func pamWithoutItsBackEnd() {
        #expect(
            mistakes(edge + "[auth.pam]\nservice = \"x\"\n")
                == ["8: auth.pam: found without \"pam\" in backends; allowed is it with that"])
    }

    @Test(arguments: CertificateLogin.allCases)
    func certificates(_ login: CertificateLogin) throws {
        let table = "[auth]\nmechanisms = [\"EXTERNAL\"]\ncertificate_login = \"\(login.rawValue)\"\n"
        let auth = try parse(table).auth
        #expect(auth.certificateLogin == login && auth.knowsCertificates == (login == .fingerprint))
        let tls = "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n"
        #expect(try parse(tls + table).tls?.asksClients == (login == .fingerprint))
        #expect(
            mistakes(edge + "[auth]\ncertificate_login = \"\(login.rawValue)\"\n").first?
                .contains("found without EXTERNAL in mechanisms") == true)
    }
}
