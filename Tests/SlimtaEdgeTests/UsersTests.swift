// Users and passwords: the file, the hashes, the back end.

import Glibc
import Logging
import NIOCore
import NIOPosix
import SlimtaCrypto
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Synchronization
import Testing

@testable import SlimtaEdge

@Suite struct PasswordHashTests {
    @Test func yescrypt() throws {
        let hash = PasswordHash(hashing: Array("geheim".utf8))
        #expect(hash.text.hasPrefix("$y$"))
        #expect(hash.matches(Array("geheim".utf8)) == true)
        #expect(hash.matches(Array("Geheim".utf8)) == false)
        #expect(hash.matches([]) == false)
        #expect(hash.matches(Array("geheim\0x".utf8)) == false)
        #expect(PasswordHash(hashing: Array("geheim".utf8)) != hash)
        #expect(PasswordHash(hash.text) == hash)
        let decoy = hash.unmatchable()
        #expect(decoy != hash)
        #expect(decoy.matches(Array("geheim".utf8)) == false)
    }

    /// Hashes that the system's own program makes.
    @Test(arguments: ["-5", "-6"]) func openssl(method: String) throws {
        let text = try output("openssl passwd \(method) geheim")
        let hash = try #require(PasswordHash(text))
        #expect(hash.matches(Array("geheim".utf8)) == true)
        #expect(hash.matches(Array("geheim2".utf8)) == false)
    }

    @Test(arguments: ["", "secret", "{SSHA}abc", "*", "!", "$9$x$y", "$y$j9T$a:b$c", "$6$\u{e9}$x"])
    func noHash(text: String) { #expect(PasswordHash(text) == nil) }
}

@Suite struct UsersFileTests {
    private static let hash = PasswordHash(hashing: Array("x".utf8))

    @Test func linesAreReadAndKept() throws {
        let text = "# who may send\n\nalice:\(Self.hash.text)\nbob:\(Self.hash.text):bob@x.test,@y.test\n"
        var file = UsersFile(text)
        #expect(file.errors.isEmpty)
        #expect(file.users["alice"].map(\.senders) == .some(nil))
        #expect(file.users["bob"]?.senders == ["bob@x.test", "@y.test"])
        #expect(file.text == text)
        let other = PasswordHash(hashing: Array("y".utf8))
        file.set("bob", hash: other, senders: nil)
        #expect(file.text == "# who may send\n\nalice:\(Self.hash.text)\nbob:\(other.text):bob@x.test,@y.test\n")
        #expect(UsersFile(file.text).users["bob"]?.hash == other)
        let wasThere = file.delete("alice")
        let isThere = file.delete("alice")
        #expect(wasThere)
        #expect(!isThere)
        #expect(UsersFile(file.text).users.keys.sorted() == ["bob"])
    }

    @Test func mistakesNameTheirLines() {
        let hash = Self.hash.text
        let file = UsersFile("alice\nbob:plain\ncarol:\(hash):not an address\nok:\(hash)\nok:\(hash)\n")
        #expect(file.errors.map(\.line) == [1, 2, 3, 5])
        #expect(file.users.isEmpty)
        #expect(file.errors[1].description.contains("slimtad passwd bob"))
        #expect(!file.errors[1].description.contains("plain"))
    }

    /// An older line of a user counts no more when there is a newer one, whichever of the two is broken.
    @Test func aBrokenLineRevivesNoOther() {
        let (good, other) = ("a:\(Self.hash.text)", "ok:\(Self.hash.text)")
        for broken in ["a:plain", "a:\(Self.hash.text):not an address", "a:\(Self.hash.text)::only=x", good] {
            for lines in [[good, broken], [broken, good], [good, broken, good], [broken, good, good]] {
                let file = UsersFile((lines + [other]).joined(separator: "\n"))
                #expect(file.users.keys.sorted() == ["ok"], "\(lines)")
                #expect(!file.errors.isEmpty && file.errors.allSatisfy { $0.name == "a" })
            }
        }
    }

    /// A list without an entry would restrict nothing. Before settings nothing stands for no list.
    @Test(arguments: ["", ",", " ", ",,", ":", ",:disabled=yes", ", :disabled=yes"])
    func listsOfNothing(list: String) {
        let file = UsersFile("a:\(Self.hash.text):\(list)\n")
        #expect(file.users.isEmpty && file.errors.count == 1, "\(list)")
        #expect(UsersFile("a:\(Self.hash.text)::disabled=yes").users["a"].map(\.senders) == .some(nil))
    }

    /// Files from Windows: with CRLF, and with a byte order mark. What is written keeps both.
    @Test(arguments: ["\n", "\r\n"], ["", "\u{FEFF}"]) func lineEnds(end: String, mark: String) {
        let hash = Self.hash.text
        let text = mark + ["# users", "alice:\(hash)", "", "bob:\(hash):b@x.test"].map { $0 + end }.joined()
        var file = UsersFile(text)
        #expect(file.errors.isEmpty)
        #expect(file.users.keys.sorted() == ["alice", "bob"])
        #expect(file.users["bob"]?.senders == ["b@x.test"])
        #expect(file.text == text)
        file.set("carol", hash: Self.hash, senders: nil)
        #expect(file.text == text + "carol:\(hash)\(end)")
        let wasThere = file.delete("alice")
        #expect(wasThere)
        #expect(UsersFile(file.text).users.keys.sorted() == ["bob", "carol"])
        // Without an end of the last line.
        #expect(UsersFile(mark + "alice:\(hash)").users.keys.sorted() == ["alice"])
    }

    /// Names that begin alike, or that Swift takes for one character with the colon behind them, are others' lines.
    @Test func onlyTheUsersOwnLineIsReplaced() {
        let hash = Self.hash.text
        let text = "a:\(hash)\nab:\(hash)\nb:\(hash):\u{301}@x\nab b:\(hash)\n"
        var file = UsersFile(text)
        file.set("a", hash: Self.hash, senders: nil)
        #expect(file.text == text)
    }

    /// What is not understood is not to be written again, but for the line of the user who is changed.
    @Test func obstacles() throws {
        let hash = Self.hash.text
        var file = UsersFile("alice:\(hash)\nbob:plain\n")
        let obstacle = try #require(file.obstacle(toChanging: "alice"))
        #expect(obstacle.line == 2)
        #expect(file.obstacle(toChanging: "bob") == nil)
        file.set("bob", hash: Self.hash, senders: nil)
        #expect(file.obstacle(toChanging: "alice") == nil)
        #expect(UsersFile("no colon\n").obstacle(toChanging: "no colon") != nil)
        #expect(UsersFile("a:\(hash)\na:\(hash)\n").obstacle(toChanging: "b")?.line == 2)
        #expect(UsersFile("a\u{202E}b:\(hash)\n").errors.first?.description.contains("\\u202e") == true)
    }

    @Test(arguments: [
        "", "a:b", "#a", " a", "a ", "a\nb", "a\u{7f}", "a\u{202e}b", "a\u{200b}b", "a\u{ad}b", "\u{feff}a", "a\u{85}b",
        "a\u{2028}b", "a\u{e0041}b", "a\u{3164}b", String(repeating: "a", count: 256),
    ]) func noName(name: String) {
        #expect(!UsersFile.isName(name))
    }
}

@Suite struct FileCredentialsTests {
    private let checks = PasswordChecks(threads: 1, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })

    private func check(
        _ backend: FileCredentials, _ login: String, _ password: String, from address: String = "192.0.2.1"
    ) async -> CredentialVerdict {
        let peer = try? SocketAddress(ipAddress: address, port: 1)
        let facts = AuthenticationFacts(
            connection: ConnectionFacts(peer: peer, local: nil), edge: "test", session: "1")
        return await backend.check(Credentials(login: login, password: Array(password.utf8)), facts)
    }

    /// As if there were no memory: libxcrypt says the same.
    @Test func whatCannotBeHashedIsNotWrong() async throws {
        let hash = try #require(PasswordHash("$y$jPT$abcdefgh$xxxx"))
        #expect(hash.matches("geheim".utf8) == nil)
        #expect(hash.matches("geheim\0".utf8) == false, "that no hash is of")
        var file = users(("bob", "geheim"))
        file.set("alice", hash: hash, senders: nil)
        let backend = FileCredentials(file, checks: checks)
        for _ in 0..<2 {
            guard case .unavailable = await check(backend, "alice", "geheim") else {
                Issue.record("it is not known whether that is wrong")
                return
            }
        }
        #expect(await check(backend, "bob", "geheim") == right("bob"))
        #expect(await check(backend, "nobody", "geheim") == .wrong)
    }

    private func right(_ login: String, _ senders: [String]? = nil) -> CredentialVerdict {
        .right(AuthenticatedUser(login: login, senders: senders))
    }

    private func users(_ users: (name: String, password: String)...) -> UsersFile {
        var file = UsersFile()
        for (name, password) in users { file.set(name, hash: PasswordHash(hashing: password.utf8), senders: nil) }
        return file
    }

    @Test func rightAndWrong() async {
        var file = UsersFile()
        file.set("alice", hash: PasswordHash(hashing: Array("geheim".utf8)), senders: ["a@x.test"])
        let backend = FileCredentials(file, checks: checks)
        #expect(await check(backend, "alice", "geheim") == right("alice", ["a@x.test"]))
        #expect(await check(backend, "alice", "falsch") == .wrong)
        #expect(await check(backend, "bob", "geheim") == .wrong)
        #expect(await check(FileCredentials(UsersFile(), checks: checks), "alice", "decoy") == .wrong)
        await checks.shutdown()
    }

    /// What `check` answers before it returns: nothing if it has to hash.
    private func atOnce(_ backend: FileCredentials, _ login: String, _ password: String)
        -> CredentialVerdict?
    {
        let answer = Mutex<CredentialVerdict?>(nil)
        let isBack = Mutex(false)
        let facts = AuthenticationFacts(
            connection: ConnectionFacts(peer: nil, local: nil), edge: "test", session: "1")
        backend.check(Credentials(login: login, password: Array(password.utf8)), facts) { result in
            if !isBack.withLock({ $0 }) { answer.withLock { $0 = result } }
        }
        isBack.withLock { $0 = true }
        return answer.withLock { $0 }
    }

    @Test func aRightPasswordIsHashedOnce() async {
        let file = users(("alice", "geheim"))
        let backend = FileCredentials(file, checks: checks)
        #expect(await check(backend, "alice", "geheim") == right("alice"))
        #expect(atOnce(backend, "alice", "geheim") == right("alice"))
        // What is not that login with that password is hashed, and so is the same when the file has another hash. Others in the
        // file are no reason.
        #expect(atOnce(backend, "alice", "falsch") == nil)
        #expect(atOnce(backend, "bob", "geheim") == nil)
        var changed = file
        changed.set("bob", hash: PasswordHash(hashing: "geheim".utf8), senders: nil)
        backend.replace(changed, foldsCase: false)
        #expect(atOnce(backend, "alice", "geheim") == right("alice"))
        changed.set("alice", hash: PasswordHash(hashing: "geheim".utf8), senders: nil)
        backend.replace(changed, foldsCase: false)
        #expect(atOnce(backend, "alice", "geheim") == nil)
        await checks.shutdown()
    }

    @Test func aNewReadingCountsForWhoBeganWithTheOld() async {
        let backend = FileCredentials(users(("alice", "alt")), checks: checks)
        #expect(await check(backend, "alice", "neu") == .wrong)
        backend.replace(users(("alice", "neu")), foldsCase: false)
        #expect(await check(backend, "alice", "neu") == right("alice"), "although it was wrong a moment ago")
        backend.replace(users(("bob", "neu")), foldsCase: false)
        #expect(await check(backend, "alice", "neu") == .wrong)
        await checks.shutdown()
    }

    /// A password that was wrong a moment ago, and is one of the user's now, beside the one that was not changed.
    @Test func aNewPasswordOfAnApplication() async throws {
        var file = users(("alice", "geheim"))
        let backend = FileCredentials(file, checks: checks)
        let (password, kept) = AppPassword.make("phone", networks: [])
        let text = String(decoding: password, as: UTF8.self)
        for _ in 0..<2 { #expect(await check(backend, "alice", text) == .wrong) }
        var alice = try #require(file.users["alice"])
        alice.apps = [kept]
        file.set("alice", alice)
        backend.replace(file, foldsCase: false)
        #expect(await check(backend, "alice", text) == .right(AuthenticatedUser(login: "alice", app: "phone")))
        await checks.shutdown()
    }

    /// SCRAM learns of who has logged in, and not of who may not.
    @Test func whoLearns() async {
        let learned = Mutex<[String]>([])
        let observer = FileCredentials.Observer(learn: { login, _, _ in learned.withLock { $0.append(login) } })
        var file = users(("alice", "geheim"), ("bob", "geheim"))
        var bob = UsersFile.User(hash: PasswordHash(hashing: "geheim".utf8))
        bob.isDisabled = true
        file.set("bob", bob)
        let backend = FileCredentials(file, checks: checks, observer: observer)
        #expect(await check(backend, "bob", "geheim") == .refused("This login is disabled"))
        #expect(await check(backend, "alice", "falsch") == .wrong)
        #expect(await check(backend, "alice", "geheim") == right("alice"))
        #expect(learned.withLock { $0 } == ["alice"])
        await checks.shutdown()
    }

    /// Who is disabled, has expired or has a line that is not understood: no other back end lets it in.
    @Test(arguments: [false, true]) func whoIsBarred(foldsCase: Bool) async {
        let hash = PasswordHash(hashing: "x".utf8).text
        let backend = FileCredentials(
            UsersFile(
                "ok:\(hash)\noff:\(hash)::disabled=yes\nold:\(hash)::expires=2020-01-01\nBad:\(hash):no entry\n"
                    + "two:\(hash)\ntwo:\(hash)\nlater:\(hash)::expires=2999-01-01\n"),
            foldsCase: foldsCase, checks: checks)
        #expect(["ok", "later", "nobody", ""].allSatisfy { !backend.bars($0) })
        #expect(["off", "old", "Bad", "two"].allSatisfy { backend.bars($0) })
        #expect(["OFF", "bad", "BAD"].allSatisfy { backend.bars($0) == foldsCase })
        await checks.shutdown()
    }

    /// Many sessions with the same login and password, as when an application starts: one hash for all.
    @Test func sessionsWithTheSamePasswordAreAllAnswered() async {
        let backend = FileCredentials(users(("alice", "geheim")), checks: checks)
        let results = await withTaskGroup(of: CredentialVerdict.self) { group in
            for _ in 0..<100 { group.addTask { await check(backend, "alice", "geheim") } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(results.count == 100)
        #expect(results.allSatisfy { $0 == right("alice") })
        await checks.shutdown()
    }

    /// The same wrong password again costs no hash; a new reading of the file asks anew.
    @Test func aWrongPasswordIsKnown() async {
        let backend = FileCredentials(users(("alice", "geheim")), checks: checks)
        for _ in 0..<50 { #expect(await check(backend, "alice", "neu") == .wrong) }
        backend.replace(users(("alice", "neu")), foldsCase: false)
        #expect(await check(backend, "alice", "neu") == right("alice"))
        #expect(await check(backend, "alice", "geheim") == .wrong)
    }

    /// A session that goes on asks whether its login still may.
    @Test func whoMayGoOn() {
        var file = users(("alice", "a"), ("bob", "b"), ("carol", "c"))
        let backend = FileCredentials(file, checks: checks)
        let logins = ["alice", "bob", "carol"].map { AuthenticatedUser(login: $0) }
        #expect(logins.allSatisfy { backend.obstacle(of: $0) == nil })
        #expect(backend.obstacle(of: AuthenticatedUser(login: "alice", app: "phone")) == "This password is no more")
        _ = file.delete("alice")
        if var bob = file.users["bob"] {
            bob.isDisabled = true
            file.set("bob", bob)
        }
        if var carol = file.users["carol"] {
            carol.expires = "2001-01-01"
            file.set("carol", carol)
        }
        backend.replace(file, foldsCase: false)
        #expect(
            logins.map { backend.obstacle(of: $0) } == [
                "This login is no more", "This login is disabled", "This login has expired",
            ])
    }
}

@Suite struct LoginVerifierTests {
    /// What the file holds: two methods, and two costs of one of them.
    private static let hashes = [
        "yes": "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$tnSYvahCwPBHKZUspmcxMfb0.WiB9W.zEaKlOBL35rC",
        "sha": "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/",
        "long":
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
    ]

    private func file() -> UsersFile {
        UsersFile(Self.hashes.sorted { $0.key < $1.key }.map { "\($0):\($1)\n" }.joined())
    }

    /// Each login costs the same hashes by method and parameters: those that exist, whatever their own is, and those
    /// that do not.
    @Test func everyLoginCostsTheSame() {
        let file = file()
        #expect(file.errors.isEmpty)
        let verifier = LoginVerifier(file, foldsCase: false)
        let costs = ["yes", "sha", "long", "nobody", ""].map { verifier.hashes(for: $0).map(\.cost) }
        #expect(costs.allSatisfy { $0 == ["6$", "6$rounds=10000", "y$j9T"] })
        for (name, hash) in Self.hashes { #expect(verifier.hashes(for: name).map(\.text).contains(hash)) }
        #expect(Set(verifier.hashes(for: "nobody").map(\.text)).isDisjoint(with: Self.hashes.values))
        #expect(LoginVerifier(UsersFile(), foldsCase: false).hashes(for: "nobody").count == 1)
    }

    @Test(arguments: [
        ("$y$j9T$salt$x", "y$j9T"), ("$2b$10$abcdefghijklmnopqrstuv", "2b$10"), ("$6$salt$x", "6$"),
        ("$5$rounds=77777$salt$x", "5$rounds=77777"), ("$7$CU..../....salt$x", "7$CU..../...."), ("$1$salt$x", "1$"),
        ("$sha1$40000$salt$x", "sha1$40000"), ("$gy$j9T$salt$x", "gy$j9T"),
    ])
    func costOfAHash(text: String, cost: String) throws {
        let hash = try #require(PasswordHash(text))
        #expect(hash.cost == cost)
        #expect(hash.unmatchable().cost == cost)
    }

    @Test func passwordsAreTheirUsersOwn() {
        var file = file()
        file.set("alice", hash: PasswordHash(hashing: "geheim".utf8), senders: nil)
        let verifier = LoginVerifier(file, foldsCase: false)
        #expect(verifier.isRight(SecretOctets("geheim".utf8), for: "alice") == true)
        for name in ["yes", "sha", "nobody"] {
            #expect(verifier.isRight(SecretOctets("geheim".utf8), for: name) != true)
        }
    }

    @Test func caseIsFoldedByConfigurationOnly() {
        let hash = PasswordHash(hashing: "x".utf8).text
        let file = UsersFile("Alice:\(hash)\nbob@x.test:\(hash)\nBob@x.test:\(hash)\nüwe:\(hash)\n")
        let exact = LoginVerifier(file, foldsCase: false)
        #expect(exact.entry(exact.name(of: "alice")) == nil)
        let folding = LoginVerifier(file, foldsCase: true)
        for login in ["alice", "ALICE", "Alice"] { #expect(folding.name(of: login) == "Alice") }
        #expect(folding.name(of: "ÜWE") == "üwe")
        // Two that differ by case only: each as it is spelled, and no other.
        #expect(folding.name(of: "bob@x.test") == "bob@x.test")
        #expect(folding.name(of: "Bob@x.test") == "Bob@x.test")
        #expect(folding.entry(folding.name(of: "BOB@x.test")) == nil)
        #expect(file.alike == [["Bob@x.test", "bob@x.test"]])
        // Failures of a login that does not exist are counted for one name.
        #expect(folding.name(of: "Nobody") == folding.name(of: "NOBODY"))
    }
}

@Suite struct VerifiedLoginsTests {
    private static let hash = PasswordHash(hashing: "geheim".utf8)

    @Test func itHoldsForItsLifetimeHoweverOftenItIsUsed() throws {
        let logins = VerifiedLogins(lifetime: .seconds(300))
        let start = ContinuousClock.now
        let digest = logins.digest("alice", Self.hash, SecretOctets("geheim".utf8))
        let other = logins.digest("alice", Self.hash, SecretOctets("falsch".utf8))
        #expect(!logins.isVerified("alice", digest, now: start))
        logins.verified("alice", digest, now: start)
        #expect(logins.isVerified("alice", digest, now: start + .seconds(299)))
        #expect(!logins.isVerified("alice", digest, now: start + .seconds(300)))
        logins.verified("alice", digest, now: start)
        #expect(!logins.isVerified("alice", other, now: start))
        logins.keep { $0 != "alice" }
        #expect(!logins.isVerified("alice", digest, now: start))
    }

    /// Neither do they run together, nor is a password verified for another hash.
    @Test func whatADigestIsOf() {
        let logins = VerifiedLogins(lifetime: .seconds(300))
        let other = PasswordHash(hashing: "geheim".utf8)
        let digests = [
            ("ab", Self.hash, "c"), ("a", Self.hash, "bc"), ("a", nil, "bc"), ("a", other, "bc"),
        ].map { logins.digest($0, $1, SecretOctets($2.utf8)).prefix }
        #expect(Set(digests).count == 4)
    }
}

/// What a command prints, without the line's end.
private func output(_ command: String) throws -> String {
    let pipe = try #require(popen(command, "r"))
    defer { pclose(pipe) }
    var buffer = [CChar](repeating: 0, count: 1024)
    try #require(fgets(&buffer, 1024, pipe) != nil)
    return String(decoding: buffer.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
