// Users and passwords: the file, the hashes, the back end.

import Glibc
import SlimtaSMTP
import Synchronization
import Testing

@testable import SlimtaEdge

@Suite struct PasswordHashTests {
    @Test func yescrypt() throws {
        let hash = PasswordHash(hashing: Array("geheim".utf8))
        #expect(hash.text.hasPrefix("$y$"))
        #expect(hash.matches(Array("geheim".utf8)))
        #expect(!hash.matches(Array("Geheim".utf8)))
        #expect(!hash.matches([]))
        #expect(!hash.matches(Array("geheim\0x".utf8)))
        #expect(PasswordHash(hashing: Array("geheim".utf8)) != hash)
        #expect(PasswordHash(hash.text) == hash)
        let decoy = hash.unmatchable()
        #expect(decoy != hash)
        #expect(!decoy.matches(Array("geheim".utf8)))
    }

    /// Hashes that the system's own program makes.
    @Test(arguments: ["-5", "-6"]) func openssl(method: String) throws {
        let text = try output("openssl passwd \(method) geheim")
        let hash = try #require(PasswordHash(text))
        #expect(hash.matches(Array("geheim".utf8)))
        #expect(!hash.matches(Array("geheim2".utf8)))
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
        #expect(file.users["alice"]?.senders == [])
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
        #expect(file.users.keys.sorted() == ["ok"])
        #expect(file.errors[1].description.contains("slimtad passwd bob"))
        #expect(!file.errors[1].description.contains("plain"))
    }

    @Test(arguments: ["", "a:b", "#a", " a", "a\nb", "a\u{7f}"]) func noName(name: String) {
        #expect(!UsersFile.isName(name))
    }
}

@Suite struct FileCredentialsTests {
    private func check(_ backend: FileCredentials, _ login: String, _ password: String) async
        -> SMTPServerMachine.PasswordResult
    {
        await withCheckedContinuation { continuation in
            backend.check(Credentials(login: login, password: Array(password.utf8))) {
                continuation.resume(returning: $0)
            }
        }
    }

    @Test func rightAndWrong() async {
        var file = UsersFile()
        file.set("alice", hash: PasswordHash(hashing: Array("geheim".utf8)), senders: ["a@x.test"])
        let threads = PasswordThreads(threads: 1)
        let backend = FileCredentials(file, threads: threads)
        #expect(
            await check(backend, "alice", "geheim")
                == .right(AuthenticatedUser(login: "alice", senders: ["a@x.test"])))
        #expect(await check(backend, "alice", "falsch") == .wrong)
        #expect(await check(backend, "bob", "geheim") == .wrong)
        #expect(await check(FileCredentials(UsersFile(), threads: threads), "alice", "decoy") == .wrong)
        await threads.shutdown()
    }

    /// What `check` answers before it returns: nothing if it has to hash.
    private func atOnce(_ backend: FileCredentials, _ login: String, _ password: String)
        -> SMTPServerMachine.PasswordResult?
    {
        let answer = Mutex<SMTPServerMachine.PasswordResult?>(nil)
        let isBack = Mutex(false)
        backend.check(Credentials(login: login, password: Array(password.utf8))) { result in
            if !isBack.withLock({ $0 }) { answer.withLock { $0 = result } }
        }
        isBack.withLock { $0 = true }
        return answer.withLock { $0 }
    }

    @Test func aRightPasswordIsHashedOnce() async {
        var file = UsersFile()
        file.set("alice", hash: PasswordHash(hashing: Array("geheim".utf8)), senders: ["a@x.test"])
        let threads = PasswordThreads(threads: 1)
        let backend = FileCredentials(file, threads: threads)
        #expect(atOnce(backend, "alice", "geheim") == nil)
        let right = SMTPServerMachine.PasswordResult.right(
            AuthenticatedUser(login: "alice", senders: ["a@x.test"]))
        #expect(await check(backend, "alice", "geheim") == right)
        #expect(atOnce(backend, "alice", "geheim") == right)
        // What is not that login with that password is hashed.
        #expect(atOnce(backend, "alice", "falsch") == nil)
        #expect(atOnce(backend, "bob", "geheim") == nil)
        #expect(atOnce(FileCredentials(file, threads: threads), "alice", "geheim") == nil)
        await threads.shutdown()
    }

    @Test func tooManyAtOnceAreTurnedAway() async {
        let threads = PasswordThreads(threads: 1, limit: 1)
        let backend = FileCredentials(UsersFile(), threads: threads)
        let results = await withTaskGroup(of: SMTPServerMachine.PasswordResult.self) { group in
            for number in 0..<20 { group.addTask { await check(backend, "a", "\(number)") } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(results.count == 20)
        #expect(results.contains(.unavailable))
        #expect(results.contains(.wrong))
        await threads.shutdown()
    }
}

@Suite struct VerifiedLoginsTests {
    private let alice = Credentials(login: "alice", password: Array("geheim".utf8))
    private let right = SMTPServerMachine.PasswordResult.right(AuthenticatedUser(login: "alice", senders: []))

    private func ticket(_ logins: VerifiedLogins, _ credentials: Credentials, now: ContinuousClock.Instant = .now)
        -> VerifiedLogins.Ticket?
    {
        switch logins.look(credentials, now: now, completion: { _ in }) {
        case .unknown(let ticket): ticket
        case .verified, .waits: nil
        }
    }

    private func isVerified(_ logins: VerifiedLogins, _ credentials: Credentials, now: ContinuousClock.Instant = .now)
        -> Bool
    {
        switch logins.look(credentials, now: now, completion: { _ in }) {
        case .verified: true
        case .unknown, .waits: false
        }
    }

    @Test func itHoldsForItsLifetimeHoweverOftenItIsUsed() throws {
        let logins = VerifiedLogins(lifetime: .seconds(300))
        let start = ContinuousClock.now
        logins.ended(try #require(ticket(logins, alice, now: start)), right, now: start)
        #expect(isVerified(logins, alice, now: start + .seconds(299)))
        #expect(!isVerified(logins, alice, now: start + .seconds(300)))
    }

    @Test func aWrongPasswordIsNotRemembered() throws {
        let logins = VerifiedLogins(lifetime: .seconds(300))
        logins.ended(try #require(ticket(logins, alice)), .wrong)
        logins.ended(try #require(ticket(logins, alice)), .unavailable)
        #expect(ticket(logins, alice) != nil)
    }

    @Test func sessionsWithTheSamePasswordWaitForOneHash() throws {
        let logins = VerifiedLogins(lifetime: .seconds(300))
        let answers = Mutex<[SMTPServerMachine.PasswordResult]>([])
        let ticket = try #require(self.ticket(logins, alice))
        for _ in 0..<3 {
            guard case .waits = logins.look(alice, completion: { result in answers.withLock { $0.append(result) } })
            else {
                Issue.record("not told to wait")
                return
            }
        }
        // Another password of that login is a verification of its own, and does not end this one.
        let other = try #require(
            self.ticket(logins, Credentials(login: "alice", password: Array("falsch".utf8))))
        logins.ended(other, .wrong)
        #expect(answers.withLock { $0 }.isEmpty)
        logins.ended(ticket, right)
        #expect(answers.withLock { $0 } == [right, right, right])
        #expect(isVerified(logins, alice))
    }

    @Test func loginAndPasswordDoNotRunTogether() throws {
        let logins = VerifiedLogins(lifetime: .seconds(300))
        logins.ended(try #require(ticket(logins, Credentials(login: "ab", password: Array("c".utf8)))), right)
        #expect(!isVerified(logins, Credentials(login: "a", password: Array("bc".utf8))))
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
