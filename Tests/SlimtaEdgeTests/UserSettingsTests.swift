// What a users file says behind the senders: keys for SCRAM, passwords of applications, until when.

import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Testing

@testable import SlimtaEdge

@Suite struct UserSettingsTests {
    private static let hash = PasswordHash(hashing: Array("x".utf8))
    private static let keys = SCRAMHash.allCases.map { SCRAMKeys(password: "x".utf8, $0, iterations: 4096) }

    private func line(_ settings: String) -> String { "a:\(Self.hash.text)::\(settings)\n" }

    @Test func whatIsWrittenIsRead() throws {
        var file = UsersFile("# users\nb:\(Self.hash.text)\n")
        var user = UsersFile.User(hash: Self.hash, senders: ["a@x.test", "a@[IPv6:2001:db8::1]"])
        for keys in Self.keys { user.keys[keys.hash] = keys }
        let networks = try [#require(NetworkRange("2001:db8::/32")), #require(NetworkRange("192.0.2.0/24"))]
        user.apps = [
            AppPassword.make("printer", networks: networks).kept, AppPassword.make("phone", networks: []).kept,
        ]
        user.certificates = [[UInt8](repeating: 0xAB, count: 32), [UInt8](repeating: 1, count: 32)]
        (user.isDisabled, user.expires) = (true, "2028-02-29")
        let wasThere = file.set("a", user)
        #expect(!wasThere)
        let read = UsersFile(file.text)
        #expect(read.errors.isEmpty && read.users["a"] == user && read.text == file.text)
        // A user's line stays where it is, and another password changes what is of the password.
        file.set("b", hash: Self.hash, keys: [Self.keys[1]], senders: nil)
        file.set("a", hash: Self.hash, keys: [], senders: nil)
        #expect(UsersFile(file.text).users["a"]?.keys.isEmpty == true)
        #expect(UsersFile(file.text).users["a"]?.apps == user.apps)
        #expect(file.text.split(separator: "\n").map { $0.prefix(2) } == ["# ", "b:", "a:"])
    }

    /// RFC 5803's form has two colons.
    @Test func theOtherFormOfKeys() {
        let text = Self.keys.map(\.rfc5803Text).joined(separator: ":")
        let file = UsersFile(line(text + ":expires=2030-01-01"))
        #expect(file.errors.isEmpty)
        #expect(file.users["a"]?.keys.values.sorted { $0.hash.rawValue < $1.hash.rawValue } == Self.keys)
        #expect(file.users["a"]?.expires == "2030-01-01")
    }

    @Test(arguments: [
        ("", "is not KEY=VALUE"), ("disabled", "is not KEY=VALUE"), ("disabled=no", "nothing but"),
        ("expires=2030-02-30", "no date"), ("SCRAM-SHA-256=4096,x", "is not ITERATIONS"),
        ("SCRAM-SHA-256=1,QSXCR+Q6sek8bf92,,", "is not ITERATIONS"), ("app=x", "is not NAME;DIGEST"),
        ("app=x;AAAA", "is not NAME;DIGEST"), ("certificate=ab", "is not 64"),
        ("only=from", "is not known to this version"),
    ])
    func whatIsNotUnderstoodLetsNobodyIn(_ setting: String, _ problem: String) {
        let file = UsersFile(line(setting))
        #expect(file.users.isEmpty && file.errors.count == 1)
        #expect(file.errors.first?.message.contains(problem) == true, "\(file.errors)")
    }

    @Test func nothingTwice() {
        let keys = "SCRAM-SHA-256=\(Self.keys[1].commaSeparated)"
        #expect(UsersFile(line("\(keys):\(keys)")).users.isEmpty)
        let app = AppPassword.make("x", networks: []).kept.text
        #expect(UsersFile(line("app=\(app):app=\(app)")).users.isEmpty)
        // Neither is a list of networks without one.
        for list in [";", ";,", ";192.0.2.1,", ";,192.0.2.1", ";;"] {
            #expect(UsersFile(line("app=\(app)\(list)")).users.isEmpty, "\(list)")
        }
    }

    @Test func untilWhen() throws {
        var user = UsersFile.User(hash: Self.hash)
        let noon = try #require(Timestamp(isoDate: "2027-01-31T12:00:00Z"))
        #expect(user.obstacle(at: noon) == nil)
        user.expires = "2027-01-31"
        #expect(user.obstacle(at: noon) == nil)
        #expect(user.obstacle(at: noon + .seconds(43199)) == nil)
        #expect(user.obstacle(at: noon + .seconds(43200)) == "This login has expired")
        user.isDisabled = true
        #expect(user.obstacle(at: noon) == "This login is disabled")
    }

    // MARK: What follows

    private func verifier(_ users: [String: UsersFile.User]) -> LoginVerifier {
        var file = UsersFile()
        for (name, user) in users { file.set(name, user) }
        return LoginVerifier(file, foldsCase: false)
    }

    /// A hash is offered where each user has it that has any; users who are disabled do not count.
    @Test func whatIsOffered() {
        var (all, one, none) = (
            UsersFile.User(hash: Self.hash), UsersFile.User(hash: Self.hash),
            UsersFile.User(hash: Self.hash)
        )
        for keys in Self.keys { all.keys[keys.hash] = keys }
        one.keys[.sha256] = Self.keys[1]
        #expect(verifier(["none": none]).mechanisms == [.plain, .login])
        #expect(verifier(["all": all, "none": none]).mechanisms.count == 8)
        #expect(
            verifier(["all": all, "one": one, "none": none]).mechanisms
                == [.plain, .login, .scramSHA256, .scramSHA256Plus])
        one.isDisabled = true
        none.isDisabled = true
        #expect(verifier(["all": all, "one": one, "none": none]).mechanisms.count == 8)
    }

    @Test func keysOfWhoMayLogIn() {
        var user = UsersFile.User(hash: Self.hash, senders: ["a@x.test"])
        user.keys[.sha256] = Self.keys[1]
        #expect(verifier(["a": user]).keys(of: "a", .sha256, at: .now())?.1.senders == ["a@x.test"])
        #expect(verifier(["a": user]).keys(of: "a", .sha1, at: .now()) == nil)
        #expect(verifier(["a": user]).keys(of: "b", .sha256, at: .now()) == nil)
        user.isDisabled = true
        #expect(verifier(["a": user]).keys(of: "a", .sha256, at: .now()) == nil)
    }

    private func certificate(
        _ emails: [String] = [], hosts: [String] = [], name: String = "", hasOthers: Bool = false, key: UInt8 = 2,
        isVerified: Bool = true
    ) -> CertificateIdentity {
        CertificateIdentity(
            emailAddresses: emails, hostNames: hosts, commonName: name, hasOtherNames: hasOthers,
            fingerprint: [UInt8](repeating: 1, count: 32), keyFingerprint: [UInt8](repeating: key, count: 32),
            isVerified: isVerified)
    }

    @Test func whoseACertificateIs() {
        var file = UsersFile()
        for name in ["a@x.test", "b@x.test", "host.test"] {
            file.set(name, hash: Self.hash, senders: nil)
        }
        func owners(_ part: CertificateLogin, _ certificate: CertificateIdentity) -> [String] {
            LoginVerifier(file, foldsCase: true, certificates: part).owners(of: certificate)
        }
        #expect(owners(.email, certificate(["A@x.test", "c@x.test"])) == ["a@x.test"])
        #expect(owners(.email, certificate(["b@x.test", "a@x.test", "a@x.test"])) == ["a@x.test", "b@x.test"])
        #expect(owners(.email, certificate(["a@x.test"], isVerified: false)) == [])
        #expect(owners(.email, certificate(hosts: ["host.test"], name: "a@x.test")) == [])
        #expect(owners(.host, certificate(["a@x.test"], hosts: ["host.test"])) == ["host.test"])
        #expect(owners(.commonName, certificate(name: "a@x.test")) == ["a@x.test"])
        #expect(owners(.commonName, certificate(hosts: ["other.test"], name: "a@x.test")) == [])
        #expect(owners(.commonName, certificate(name: "a@x.test", hasOthers: true)) == [])
        #expect(owners(.fingerprint, certificate(["a@x.test"])) == [])
    }

    /// By the certificate or by its key, whoever issued it; several users may have the same.
    @Test func certificatesByDigest() {
        var (one, other) = (
            UsersFile.User(hash: Self.hash), UsersFile.User(hash: Self.hash)
        )
        one.certificates = [[UInt8](repeating: 1, count: 32)]
        other.certificates = [[UInt8](repeating: 7, count: 32)]
        var file = UsersFile()
        file.set("one", one)
        file.set("other", other)
        let verifier = LoginVerifier(file, foldsCase: false, certificates: .fingerprint)
        #expect(verifier.owners(of: certificate(isVerified: false)) == ["one"])
        #expect(verifier.owners(of: certificate(key: 7, isVerified: false)) == ["one", "other"])
    }

    @Test func passwordsOfApplications() throws {
        var user = UsersFile.User(hash: Self.hash)
        let network = try #require(NetworkRange("192.0.2.0/24"))
        let (printer, phone) = (
            AppPassword.make("printer", networks: []), AppPassword.make("phone", networks: [network])
        )
        #expect(printer.password.count == 24 && printer.password != phone.password)
        user.apps = [printer.kept, phone.kept]
        let verifier = verifier(["a": user])
        #expect(verifier.app(SecretOctets(printer.password), of: "a")?.name == "printer")
        #expect(verifier.app(SecretOctets(printer.password), of: "b") == nil)
        #expect(verifier.app(SecretOctets("x".utf8), of: "a") == nil)
        let app = try #require(verifier.app(SecretOctets(phone.password), of: "a"))
        let right = CredentialVerdict.right(AuthenticatedUser(login: "a", app: "phone"))
        #expect(verifier.verdict("a", app, from: IPAddress("192.0.2.7"), at: .now()) == right)
        #expect(verifier.verdict("a", app, from: IPAddress("192.0.3.7"), at: .now()) != right)
        #expect(verifier.verdict("a", app, from: nil, at: .now()) != right)
    }

    @Test(arguments: ["", "a b", "a:b", "a;b", "a,b", "a=b", "[a", "a\n", String(repeating: "a", count: 65)])
    func noNameOfAnApplication(_ name: String) { #expect(!AppPassword.isName(name)) }
}
