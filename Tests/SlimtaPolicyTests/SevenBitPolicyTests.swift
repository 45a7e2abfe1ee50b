// `[queue] seven_bit = "always"`: what is stored is 7-bit, small or large; with the real spool of the storage.

import Foundation
import Logging
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaStorage
import Testing

@testable import SlimtaPolicy

private let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
private let now = Timestamp(milliseconds: 1_795_255_200_000)
private let header = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"

private func envelope(_ body: BodyType = .eightBitMIME) -> Envelope {
    Envelope(
        id: QueueID(at: now), sender: Mailbox(localPart: "s", domain: "x.test"),
        recipients: [Mailbox(localPart: "a", domain: "x.test")], received: now,
        body: body, client: ClientInfo(address: "", name: "c", protocolWord: "SMTP"))
}

private func octets(_ message: Message) async throws -> String {
    var octets = MessageOctets(of: message)
    var all = ByteBuffer()
    while let part = try await octets.next() { all.writeImmutableBuffer(part) }
    return String(buffer: all)
}

@Suite struct SevenBitPolicyTests {
    private static func apply(
        _ message: Message, body: BodyType = .eightBitMIME, storage: JournaledStorage? = nil
    ) async throws -> PolicyMail {
        let chain = PolicyChain([.waiting(SevenBitPolicy(logger: silent))], receivedHops: 50)
        var context = PolicyContext(
            hostname: "mail.example.com", now: now, zoneOffset: 0, newID: { time, _ in QueueID(at: time) })
        if let storage { context.beginSpool = { id in storage.beginSpool(id) } }
        #expect(chain.waits(context))
        var mail = try chain.apply(to: envelope(body), message, context)
        try await chain.finish(&mail, context)
        return mail
    }

    @Test func small() async throws {
        let mail = try await Self.apply(
            Message(head: ByteBuffer(string: "Subject: \u{FC}\r\n" + header + "gr\u{FC}n\r\n")))
        #expect(
            String(buffer: mail.message.head)
                == "Subject: =?utf-8?b?w7w=?=\r\nContent-Type: text/plain; charset=utf-8\r\n"
                + "Content-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\ngr=C3=BCn\r\n")
        #expect(mail.envelopes.map(\.body) == [.sevenBit] && mail.has("mime-version"))
    }

    /// What is 7-bit, and what cannot be, stays as it is.
    @Test(arguments: [
        header + "gruen\r\n", "X: " + String(repeating: "x", count: 1200) + "\r\n\r\n",
        "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\ngr\u{FC}n\r\n--b--\r\n",
    ])
    func unchanged(_ text: String) async throws {
        let mail = try await Self.apply(Message(head: ByteBuffer(string: text)))
        #expect(String(buffer: mail.message.head) == text && mail.envelopes[0].body == .eightBitMIME)
    }

    @Test(arguments: [1, 5000, 20_000]) func large(_ lines: Int) async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("slimta-\(UUID().uuidString)")
            .path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        var options = StorageOptions()
        (options.minimumFree, options.reserveSize) = (0, 0)
        let storage = try JournaledStorage.open(directory: directory, owner: nil, options: options, report: { _ in })
        _ = try storage.recover()
        let rest = String(repeating: "gr\u{FC}n, gr\u{FC}n, gr\u{FC}n.\r\n", count: lines)
        let writer = storage.beginSpool(QueueID(at: now))
        writer.append(ByteBuffer(string: rest)) { _ in }
        let spooled = try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
        let message = Message(head: ByteBuffer(string: header), rest: spooled)
        let mail = try await Self.apply(message, storage: storage)
        let text = try await octets(mail.message)
        #expect(
            text == header.replacing("8bit", with: "quoted-printable").replacing(
                "\r\n\r\n", with: "\r\nMIME-Version: 1.0\r\n\r\n")
                + String(repeating: "gr=C3=BCn, gr=C3=BCn, gr=C3=BCn.\r\n", count: lines))
        #expect(mail.message.size == text.utf8.count && mail.envelopes[0].body == .sevenBit)
        // What fits is in memory; a file is one of its own, for the other one goes with the message that came.
        #expect((mail.message.rest == nil) == (text.utf8.count < 256 * 1024))
        #expect(mail.message.rest?.reference.id != spooled.reference.id)
        // What an edge has seen no octet above 127 in is not looked through.
        let other = try await Self.apply(message, body: .sevenBit, storage: storage)
        #expect(other.message.rest === spooled)
        await storage.close()
    }

    @Test func withoutItTheChainDoesNotWait() {
        let context = PolicyContext(
            hostname: "mail.example.com", now: now, zoneOffset: 0, newID: { time, _ in QueueID(at: time) })
        #expect(!PolicyChain([] as [PolicyStep], receivedHops: 50).waits(context))
    }
}
