// Users and passwords: the file, the hashes, the back end.

import Glibc
import SlimtaSMTP
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

    @Test func tooManyAtOnceAreTurnedAway() async {
        let threads = PasswordThreads(threads: 1, limit: 1)
        let backend = FileCredentials(UsersFile(), threads: threads)
        let results = await withTaskGroup(of: SMTPServerMachine.PasswordResult.self) { group in
            for _ in 0..<20 { group.addTask { await check(backend, "a", "b") } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(results.count == 20)
        #expect(results.contains(.unavailable))
        #expect(results.contains(.wrong))
        await threads.shutdown()
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
