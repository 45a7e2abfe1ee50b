// More logins at a time than the line before the password threads has room for, and clients that do not wait: with its threads.

import Glibc
import Logging
import NIOCore
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Synchronization
import Testing

@testable import SlimtaEdge

/// Holds a thread until it is opened.
private final class Gate: Sendable {
    private let isOpen = Mutex(false)

    func open() { isOpen.withLock { $0 = true } }

    func wait() { while !isOpen.withLock({ $0 }) { usleep(1000) } }
}

@Suite struct PasswordChecksTests {
    private let log = KeptLog()
    private let checks: PasswordChecks
    private let backEnd: FileCredentials
    /// Until it is opened, the one thread has another password.
    private let gate = Gate()

    init() {
        let (kept, closed) = (log, gate)
        checks = PasswordChecks(threads: 1, waiting: 8, Logger(label: "test") { _ in kept })
        var file = UsersFile()
        file.set("alice", hash: PasswordHash(hashing: "geheim".utf8), senders: nil)
        backEnd = FileCredentials(file, checks: checks)
        checks.check(
            PasswordChecks.Check(source: nil, login: 0, password: 0),
            PasswordChecks.Work(
                known: { nil },
                hashed: {
                    closed.wait()
                    return .wrong
                })
        ) { _ in }
    }

    private static func facts(_ address: String) -> AuthenticationFacts {
        AuthenticationFacts(
            connection: ConnectionFacts(peer: try? SocketAddress(ipAddress: address, port: 1), local: nil),
            edge: "test", session: "1")
    }

    private static let right = CredentialVerdict.right(AuthenticatedUser(login: "alice"))

    private func isLate(_ verdict: CredentialVerdict) -> Bool {
        if case .unavailable = verdict { true } else { false }
    }

    @Test func moreThanTheLineHas() async throws {
        let answers = Mutex<[CredentialVerdict]>([])
        let count = { answers.withLock { $0.count } }
        for number in 0..<100 {
            backEnd.check(
                Credentials(login: "victim", password: Array("wrong \(number)".utf8)),
                Self.facts("192.0.2.\(number % 4 + 1)")
            ) { answer in answers.withLock { $0.append(answer) } }
        }
        #expect(checks.waiting == 8 && count() == 92)
        #expect(answers.withLock { $0.allSatisfy(isLate) }, "nobody says that it is wrong")
        #expect(log.all.map(\.message) == ["too many passwords wait to be checked"], "and once is enough")
        #expect(log.all.first?.fields["waiting"] == "8")
        let honest = await withCheckedContinuation { continuation in
            backEnd.check(Credentials(login: "alice", password: Array("geheim".utf8)), Self.facts("198.51.100.1")) {
                continuation.resume(returning: $0)
            }
            #expect(checks.waiting == 8 && count() == 93)
            gate.open()
        }
        #expect(honest == Self.right)
        while count() < 100 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(answers.withLock { $0.filter { $0 == .wrong }.count } == 7)
        let later = await backEnd.check(
            Credentials(login: "alice", password: Array("geheim".utf8)), Self.facts("192.0.2.1"))
        #expect(later == Self.right)
        await checks.shutdown()
    }

    /// What nobody waits for is not hashed, and has nobody else's place; what others wait for too is.
    @Test func clientsThatAreGone() async throws {
        let tasks = (0..<6).map { number in
            Task {
                await backEnd.check(
                    Credentials(login: "victim", password: Array("wrong \(number / 2)".utf8)), Self.facts("192.0.2.1"))
            }
        }
        while checks.asking < 7 || checks.waiting < 3 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(checks.waiting == 3)
        for number in 0..<3 { tasks[number].cancel() }
        for number in 0..<3 { #expect(isLate(await tasks[number].value)) }
        #expect(checks.waiting == 2)
        gate.open()
        for number in 3..<6 { #expect(await tasks[number].value == .wrong) }
        await checks.shutdown()
    }
}
