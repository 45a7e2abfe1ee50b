// Keys in memory, messages as a verifier gets them, and a log that is kept: for tests of signing.

import Logging
import NIOCore
import SlimtaDKIM
import SlimtaMail
import Synchronization

@testable import SlimtaPolicy

/// RSA and Ed25519 for example.com and what is below it.
final class MemoryKeys: SigningKeys {
    let choice: Mutex<SigningChoice>
    let otherwise = Mutex(SigningDomains.Otherwise.unsigned)
    let heard = Mutex<[(names: [SelectorName], time: Timestamp, start: Timestamp)]>([])
    let signing: [DKIMSigningKey]

    init() throws {
        signing = [try .generate(.rsaSHA256), try .generate(.ed25519SHA256)]
        choice = Mutex(.sign(Self.signers(signing)))
    }

    private static func signers(
        _ keys: [DKIMSigningKey], domain: String = "example.com", _ forms: Canonicalizations = .relaxed
    ) -> [DKIMSigner] {
        zip(["r1", "e1"], keys).map {
            DKIMSigner(
                domain: domain, selector: $0, key: $1, canonicalizations: forms, lifetime: .seconds(1000))
        }
    }

    /// Signs for another domain than asked for.
    func useDomain(_ domain: String) { choice.withLock { $0 = .sign(Self.signers(signing, domain: domain)) } }

    /// Signs in these forms.
    func use(_ forms: Canonicalizations) { choice.withLock { $0 = .sign(Self.signers(signing, forms)) } }

    var domains: SigningDomains {
        SigningDomains([("example.com", true)], otherwise: otherwise.withLock { $0 })
    }

    var bodyForms: Set<Canonicalization> { Set(Canonicalization.allCases) }

    func signers(for entry: String) -> SigningChoice { choice.withLock { $0 } }

    /// Keys that are gone from DNS.
    let gone = Mutex<Set<String>>([])

    func stands(_ selector: SelectorName) -> Bool { !gone.withLock { $0.contains(selector.selector) } }

    func signed(_ selectors: [SelectorName], at time: Timestamp, leaving start: Timestamp) {
        heard.withLock { $0.append((selectors, time, start)) }
    }
}

/// A message as it goes out, and as somebody reads it who knows nothing of us.
struct Sent {
    let text: String
    let header: DKIMHeader
    private let hashes: [BodyHash]

    init(_ text: String) {
        self.text = text
        let buffer = ByteBuffer(string: text)
        let block = HeaderBlock(scanning: buffer)
        header = DKIMHeader(block, in: buffer)
        hashes = Canonicalization.allCases.map {
            BodyHash(of: ByteBuffer(buffer.readableBytesView.dropFirst(block.end)), $0)
        }
    }

    /// One whose content is in memory.
    init(_ envelope: Envelope, _ message: Message) {
        self.init(String(buffer: envelope.prependedFields) + String(buffer: message.head))
    }

    private var fields: [(place: Int, octets: [UInt8])] {
        header.fields.enumerated().filter { $0.element.name == "dkim-signature" }
            .map { ($0.offset, Array($0.element.octets.readableBytesView)) }
    }

    /// From the topmost.
    func signatures() throws -> [DKIMSignature] { try fields.map { try DKIMSignature(parsing: $0.octets) } }

    /// What comes of each by the key that is for it.
    func verdicts(_ keys: MemoryKeys) -> [DKIMVerdict] {
        zip(fields, keys.signing).map { field, key in
            DKIMVerifier(header.without(field.place), hashes, at: .init(milliseconds: 1_795_877_900_000))
                .verify(field.octets, with: key.publicKey)
        }
    }
}

/// The rest of a message, which may be read or not.
final class FileOfParts: SpooledBody {
    private let parts: [String]
    private let isReadable: Bool

    init(_ parts: [String], isReadable: Bool) { (self.parts, self.isReadable) = (parts, isReadable) }

    var reference: SpoolReference {
        SpoolReference(id: QueueID(high: 1, low: 1), length: Int64(parts.joined().utf8.count), crc32c: 0)
    }

    func makeReader() -> any SpoolReader { Reader(parts, isReadable: isReadable) }

    private final class Reader: SpoolReader {
        private struct Unreadable: Error {}
        private let parts: Mutex<ArraySlice<String>>
        private let isReadable: Bool

        init(_ parts: [String], isReadable: Bool) {
            self.parts = Mutex(parts[...])
            self.isReadable = isReadable
        }

        func next(_ limit: Int) async throws -> ByteBuffer? {
            guard isReadable else { throw Unreadable() }
            return parts.withLock { $0.popFirst() }.map { ByteBuffer(string: $0) }
        }
    }
}

/// A log that is kept.
final class KeptEvents: Sendable {
    private let kept = Mutex<[String]>([])

    private struct Handler: LogHandler {
        let events: KeptEvents
        var logLevel = Logger.Level.info
        var metadata: Logger.Metadata = [:]

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let fields = (event.metadata ?? [:]).map { "\($0)=\($1)" }.sorted().joined(separator: " ")
            events.kept.withLock { $0.append("\(event.message) \(fields)") }
        }
    }

    var logger: Logger { Logger(label: "test") { _ in Handler(events: self) } }

    /// Those that begin so.
    func lines(_ message: String) -> [String] { kept.withLock { $0.filter { $0.hasPrefix(message) } } }
}
