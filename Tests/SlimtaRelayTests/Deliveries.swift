// Deliveries, event loops and other things that the relay's tests are made with.

import Foundation
import Logging
import NIOCore
import NIOPosix
import SlimtaDNS
import SlimtaMail
import SlimtaQueue

enum Fixture {
    /// The event loops of all tests, as in the daemon.
    static let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
    static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    static let text = "Subject: hello\r\n\r\nA line.\r\n.a dot\r\n..\r\nThe end.\r\n"

    /// A resolver that asks `server` alone.
    static func resolver(_ port: Int) throws -> SlimtaDNS.Resolver {
        try SlimtaDNS.Resolver(servers: [("127.0.0.1", port)], dnssec: .off)
    }

    static func folder() throws -> String {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("relay-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }

    static func removeFolder(_ path: String) { try? FileManager.default.removeItem(atPath: path) }

    /// The files in a folder, however deep.
    static func files(in path: String) -> [String] {
        (FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? [])
            .map { path + "/" + $0 }
            .filter { file in
                var isFolder: ObjCBool = false
                return FileManager.default.fileExists(atPath: file, isDirectory: &isFolder) && !isFolder.boolValue
            }
            .sorted()
    }

    static func read(_ path: String) -> String {
        String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
    }
}

extension Mailbox {
    /// An address without quotes.
    init(_ text: String) {
        let at = text.lastIndex(of: "@")!
        self.init(localPart: String(text[..<at]), domain: String(text[text.index(after: at)...]))
    }
}

extension Delivery {
    /// A message from sender@client.test.
    init(
        _ text: String = Fixture.text, to recipients: [String], from sender: String? = "sender@client.test",
        smtpUTF8: Bool = false, fields: String = "Received: here\r\n", rest: (any SpooledBody)? = nil,
        age: Duration = .zero
    ) {
        let received = Timestamp.now() + (.zero - age)
        let envelope = Envelope(
            id: QueueID(at: received), sender: sender.map { Mailbox($0) }, recipients: recipients.map { Mailbox($0) },
            received: received, smtpUTF8: smtpUTF8,
            client: ClientInfo(address: "", name: "", protocolWord: "ESMTP"),
            prependedFields: ByteBuffer(string: fields))
        self.init(
            envelope: envelope, message: Message(head: ByteBuffer(string: text), rest: rest),
            recipients: Array(recipients.indices))
    }
}

/// The rest of a large message, in memory.
final class SpooledOctets: SpooledBody {
    let chunks: [ByteBuffer]
    let failsAtEnd: Bool
    /// How long each part is waited for, and the end.
    let pause: Duration?

    init(_ chunks: [ByteBuffer], failsAtEnd: Bool = false, pause: Duration? = nil) {
        self.chunks = chunks
        self.failsAtEnd = failsAtEnd
        self.pause = pause
    }

    var reference: SpoolReference {
        SpoolReference(
            id: QueueID(high: 0, low: 0), length: Int64(chunks.reduce(0) { $0 + $1.readableBytes }), crc32c: 0)
    }

    func makeReader() -> any SpoolReader { Reader(self) }

    private actor Reader: SpoolReader {
        private let body: SpooledOctets
        private var position = 0

        init(_ body: SpooledOctets) { self.body = body }

        func next(_ limit: Int) async throws -> ByteBuffer? {
            if let pause = body.pause { try await Task.sleep(for: pause) }
            guard position < body.chunks.count else {
                if body.failsAtEnd { throw StorageError.damaged("test") }
                return nil
            }
            defer { position += 1 }
            return body.chunks[position]
        }
    }
}
