// What rules ask of a message's content, gathered while it arrives: an edge gives every chunk to a ContentFactsReader, once.

package import NIOCore
internal import SlimtaMail

/// What a message consists of.
package struct ContentFacts: Hashable, Sendable {
    /// A part that is more than the text of the message.
    package struct Attachment: Hashable, Sendable {
        /// "application/pdf", in lower case, and what else it is for clients that read another header or field
        /// (``MIMEEntity/types``). Beyond 1,000 octets the end of it.
        package let types: [String]
        /// What it may be called where it arrives (``MIMEEntity/names``); of one beyond 1,000 octets the last of them, for
        /// what it is stands at the end. Empty: it has no name.
        package let names: [String]
    }

    /// What has more than is kept.
    package struct Bounds: OptionSet, Hashable, Sendable {
        /// A bit for each.
        package let rawValue: UInt8

        /// Those whose bits are set.
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Parts are in each other more deeply than 20.
        package static let nesting = Bounds(rawValue: 1)
        /// There are more than 1,000 parts.
        package static let parts = Bounds(rawValue: 2)
        /// A part has a header of more than 256 KiB, or one that means more than eight boundaries.
        package static let header = Bounds(rawValue: 4)
        /// Types and names of attachments have more than 64 KiB: of those behind that the last 64 octets of the first two and
        /// the last one are kept.
        package static let attachments = Bounds(rawValue: 8)
        /// A multipart, or a message within the message, is encoded as a whole (RFC 2045 section 6.4 forbids it): there are
        /// clients that decode it and find parts that are not seen here.
        package static let encoded = Bounds(rawValue: 16)
    }

    /// Parts, however deep in each other; 0: the message is not made of parts.
    package var parts = 0
    /// How many parts the deepest part is in, the message itself among them; 0: it is not made of parts.
    package var nesting = 0
    /// Octets of the message's header.
    package var headerSize = 0
    /// In their order: what has a name, wants to be one (RFC 2183), or is no text; messages within the message too, and
    /// multiparts that are encoded.
    package var attachments: [Attachment] = []
    /// Whether an octet above 127 is in it.
    package var hasEightBit = false
    /// What is not among all that.
    package var exceeded: Bounds = []

    /// Of an empty message.
    package init() {}
}

/// Gathers the facts of one message, of the parts that any client may see. Memory is bounded: 64 KiB of names, 64 octets of six
/// texts of each of 1,000 parts, the header and the line that come in.
package struct ContentFactsReader {
    private var walker = MIMEWalker(Gatherer(), isSuspicious: true)

    /// For the next message.
    package init() {}

    /// The next octets, cut anywhere.
    package mutating func read(_ octets: ByteBuffer) { walker.read(octets) }

    /// The message is over: what it consists of.
    package mutating func finish() -> ContentFacts {
        walker.finish()
        var facts = walker.visitor.facts
        if walker.exceeded.contains(.depth) { facts.exceeded.insert(.nesting) }
        if walker.exceeded.contains(.parts) { facts.exceeded.insert(.parts) }
        if walker.exceeded.contains(.header) { facts.exceeded.insert(.header) }
        return facts
    }
}

private struct Gatherer: MIMEVisitor {
    private static let longestName = 1000
    /// Octets of what is kept where there is no more room: what a file is stands at the end of its name.
    private static let longestEnd = 64
    /// Octets of all attachments.
    private static let room = 65_536

    var facts = ContentFacts()
    private var room = Self.room

    mutating func begin(_ entity: MIMEEntity) {
        if entity.index == 0 { facts.headerSize = entity.header.readableBytes } else { facts.parts += 1 }
        facts.nesting = max(facts.nesting, entity.depth)
        for octets in [entity.mailboxLines, entity.header] where !facts.hasEightBit {
            facts.hasEightBit = octets.withUnsafeReadableBytes(\.hasEightBit)
        }
        let names = entity.names
        let isOther = entity.types.contains {
            $0 != "text/plain" && $0 != "text/html" && !MIMEEntity.isMultipart($0)
        }
        let isEncoded = Self.isEncodedComposite(entity)
        if isEncoded { facts.exceeded.insert(.encoded) }
        guard !names.isEmpty || isOther || isEncoded || entity.dispositions.contains("attachment") else { return }
        var attachment = Self.attachment(entity.types, names, longest: Self.longestName)
        // What an entry takes beside its texts counts too.
        let size = (attachment.types + attachment.names).reduce(16) { $0 + $1.utf8.count + 16 }
        if size <= room {
            room -= size
        } else {
            // Who fills the room with names must not hide one behind them. There are no more parts than the walker's limit.
            facts.exceeded.insert(.attachments)
            attachment = Self.attachment(Self.ends(of: entity.types), Self.ends(of: names), longest: Self.longestEnd)
        }
        facts.attachments.append(attachment)
    }

    mutating func take(_ octets: UnsafeRawBufferPointer, as place: MIMEPlace) {
        if !facts.hasEightBit { facts.hasEightBit = octets.hasEightBit }
    }

    mutating func end(_ index: Int, isAtEnd: Bool) {}

    /// Whether there may be parts that only a client sees that decodes where nothing is to be encoded.
    private static func isEncodedComposite(_ entity: MIMEEntity) -> Bool {
        entity.types.contains { MIMEEntity.isMultipart($0) || $0 == "message/rfc822" || $0 == "message/global" }
            && entity.encodings.contains {
                switch $0 {
                case .base64, .quotedPrintable, .uuencode: true
                case .sevenBit, .eightBit, .binary, .none, .other: false
                }
            }
    }

    private static func attachment(_ types: [String], _ names: [String], longest: Int) -> ContentFacts.Attachment {
        .init(types: types.map { end(of: $0, longest) }, names: names.map { end(of: $0, longest) })
    }

    private static func ends(of texts: [String]) -> [String] {
        texts.count > 3 ? [texts[0], texts[1], texts[texts.count - 1]] : texts
    }

    /// The last scalars of a long text.
    private static func end(of text: String, _ longest: Int) -> String {
        guard text.utf8.count > longest else { return text }
        var count = 0
        let start = text.unicodeScalars.lastIndex { scalar in
            count += UTF8.width(scalar)
            return count > longest
        }
        return String(text.unicodeScalars[(start.map { text.unicodeScalars.index(after: $0) } ?? text.startIndex)...])
    }
}
