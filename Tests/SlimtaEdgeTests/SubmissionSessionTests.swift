// One message that comes as a whole, with its driver on a real event loop: what each call is told, and that nothing is kept of
// what was let go.

import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaSASL
import SlimtaSMTP
import Testing

@testable import SlimtaEdge

@Suite struct SubmissionSessionTests {
    private let storage = AcceptingStorage()
    private let credentials = HeldCredentials()
    private let log = KeptLog()

    private func session(
        _ authentication: SMTPServerConfiguration.Authentication = .none, messageSize: Int = 1000
    ) throws -> SubmissionSession {
        let client = try SocketAddress(ipAddress: "127.0.0.1", port: 25)
        let log = log
        return SubmissionSession(
            SubmissionSettings(
                name: "test", hostname: "mx.example.org",
                rules: TransactionRules(authentication: authentication, messageSize: messageSize, recipients: 2),
                trust: ClientTrust(networks: [], allowsThisMachine: authentication == .none),
                credentials: credentials),
            connection: ConnectionFacts(peer: client, local: client), clientName: "c", protocolWord: "HTTP",
            submissions: storage, log: SessionLog(Logger(label: "test") { _ in log }),
            on: MultiThreadedEventLoopGroup.singleton.next())
    }

    private func request(_ recipients: String..., needsAll: Bool = true, size: Int? = nil) throws -> SubmissionRequest {
        SubmissionRequest(
            sender: Mailbox(parsing: "a@x.org"), recipients: try recipients.map { try #require(Mailbox(parsing: $0)) },
            size: size, needsAll: needsAll)
    }

    private func login(_ name: String) -> SecretOctets {
        SecretOctets(Array("\0\(name)\0secret".utf8))
    }

    @Test func aMessageInParts() async throws {
        let session = try session()
        #expect(await session.begin(try request("b@y.org")) == .open([nil]))
        for part in ["Subject: x\n", "\r\nbo", "dy"] {
            #expect(await session.append(ByteBuffer(string: part)) == nil)
        }
        #expect(storage.count == 0)
        let (reply, id) = await session.end()
        #expect(reply == Reply(250, .init(2, 6, 0), "Message queued"))
        #expect(storage.count == 1 && id.description.utf8.count == 32)
        // Behind the end there is nothing to take back.
        session.abandon()
    }

    @Test func whoLogsIn() async throws {
        let right = try session(.required)
        #expect(await right.authenticate(.plain, login("u")) == .user(.init(login: "u")))
        #expect(await right.begin(try request("b@y.org")) == .open([nil]))
        guard case .refused(let wrong) = try await session(.required).authenticate(.plain, login("x")) else {
            return record("a wrong password")
        }
        #expect(wrong.code == 535)
        guard case .refused(let later) = try await session(.required).authenticate(.plain, login("d")) else {
            return record("a password that cannot be checked")
        }
        #expect(later.code == 454)
        guard case .refused(let nobody) = try await session(.required).unidentified() else {
            return record("nobody")
        }
        #expect(nobody.code == 530)
        #expect(log.lines("authentication failed").count == 1 && storage.count == 0)
    }

    /// Where PLAIN is not to be used, a right password is none.
    @Test func whereNoPasswordsAreTaken() async throws {
        credentials.listed = [.scramSHA256Plus, .login]
        guard case .refused(let reply) = try await session(.required).authenticate(.plain, login("u")) else {
            return record("a password")
        }
        #expect(reply == Reply(535, .init(5, 7, 8), "Passwords are not taken here"))
    }

    /// What is refused before the content, and in the middle of it.
    @Test func refusals() async throws {
        guard case .refused(let size) = try await session().begin(try request("b@y.org", size: 1001)) else {
            return record("a size")
        }
        #expect(size.code == 552)
        let some = try session()
        let opening = await some.begin(try request("b@y.org", "c@y.org", "d@y.org", needsAll: false))
        guard case .open(let verdicts) = opening else { return record("\(opening)") }
        #expect(verdicts.map { $0?.code } == [nil, nil, 452])
        some.abandon()
        let large = try session()
        #expect(await large.begin(try request("b@y.org")) == .open([nil]))
        #expect(await large.append(ByteBuffer(repeating: 0x61, count: 900)) == nil)
        #expect(await large.append(ByteBuffer(repeating: 0x61, count: 101))?.code == 552)
        // It is said again, whatever comes.
        #expect(await large.append(ByteBuffer(string: "x"))?.code == 552)
        #expect(storage.count == 0)
    }

    /// Whoever waits is told, and nothing comes of it.
    @Test func whatIsAbandoned() async throws {
        let early = try session()
        #expect(await early.begin(try request("b@y.org")) == .open([nil]))
        #expect(await early.append(ByteBuffer(string: "x")) == nil)
        early.abandon()
        #expect(await early.append(ByteBuffer(string: "y")) != nil)
        #expect(await early.end().reply.isPositive == false)
        storage.isFar = true
        let asking = try session()
        async let opening = asking.begin(try request("b@y.org"))
        while storage.askingCount == 0 { await Task.yield() }
        asking.abandon()
        guard case .refused = try await opening else { return record("an answer to what was abandoned") }
        storage.answerRoom(nil)
        #expect(storage.count == 0)
    }

    /// Once the queue has it, it is not taken back: who gives up then gets the reply all the same.
    @Test func whatIsBeingStoredIsStored() async throws {
        storage.isSlow = true
        let session = try session()
        #expect(await session.begin(try request("b@y.org")) == .open([nil]))
        #expect(await session.append(ByteBuffer(string: "Subject: x\r\n\r\n")) == nil)
        async let ended = session.end()
        while storage.count == 0 { await Task.yield() }
        session.abandon()
        storage.answer()
        #expect(await ended.reply.code == 250)
    }
}
