// What is decided of each part of a message that becomes 7-bit, by rules that RFC 2045, RFC 2046 and RFC 1847 leave room
// for only one way. Called by the walk of ConversionPlanner.

internal import NIOCore
internal import SlimtaMail

/// Decides while parts begin and end:
///
/// 1. Content without octets above 127 and long lines stays; where it is called "8bit" or "binary" it is called "7bit".
/// 2. Other content is encoded. If it says that it is encoded already it is mended, or nothing can be done.
/// 3. A multipart or message is never encoded itself, but for the types of RFC 6532 and RFC 6533: what is in it is.
/// 4. What is signed or encrypted is not touched.
/// 5. What stands before the first part and behind the last one has no meaning, and is dropped rather than encoded.
/// 6. What is encoded in one way for some clients and in another way for others is not touched either: what is right for the
///    ones is broken for the others. Where they do not agree on which parts there are, no octet of the message is.
struct PlanVisitor: MIMEVisitor {
    /// What may be done to a part and all that is in it.
    private enum Mode: Equatable {
        case open
        /// Nothing: if that is not enough, there is this obstacle.
        case closed(ConversionObstacle)
        /// It is one content, with all that is in it.
        case whole
    }

    /// How a type is dealt with.
    private enum Kind: Hashable {
        case content
        case message
        case multipart(boundary: [UInt8]?, isDigest: Bool)
        /// Signed or encrypted.
        case protected
        /// Neither content nor a message, and not to be encoded.
        case composite
        /// RFC 6532 section 3.7, RFC 6533 section 6
        case global

        init(_ claim: MIMEEntity.Claim) {
            switch claim.type {
            case "multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime":
                self = .protected
            case "message/global", "message/global-delivery-status", "message/global-headers",
                "message/global-disposition-notification":
                self = .global
            case "message/rfc822": self = .message
            case let type where MIMEEntity.isMultipart(type):
                self = .multipart(boundary: claim.boundary, isDigest: type == "multipart/digest")
            case let type: self = type.utf8.starts(with: "message/".utf8) ? .composite : .content
            }
        }
    }

    private struct Level {
        let index: Int
        let type: String
        let encoding: TransferEncoding
        let mode: Mode
        /// The part whose header is that of the message that this is in.
        let messageIndex: Int
        let hasType: Bool
        let isMultipart: Bool
        let isComposite: Bool
        /// Of its content; for what is one content with all that is in it, of all that.
        var census = OctetCensus()
        var preamble = OctetCensus()
        var epilogue = OctetCensus()
        var hasDelimiter = false
        /// Whether something in it has to change, and not only what is said of it.
        var mustChange = false

        func obstacle(_ reason: ConversionObstacle.Reason) -> ConversionObstacle {
            ConversionObstacle(part: index, type: type, reason: reason)
        }
    }

    private var plan = ConversionPlan()
    private var obstacle: ConversionObstacle?
    /// There are other parts for some clients. Which of what follows is in them is not seen here.
    private var doubt: ConversionObstacle?
    private var open: [Level] = []
    /// Parts that have begun.
    private var count = 0
    /// Messages that have a MIME-Version.
    private var versioned: Set<Int> = []
    /// Whether anything has to change, and not only what is said of it.
    private var mustChange = false

    /// What came of it, when the walk is over.
    func answer(isBeyondLimits: Bool) -> ConversionAnswer {
        if isBeyondLimits || doubt != nil {
            guard mustChange else { return .unchanged }
            let limits = ConversionObstacle(part: 0, type: "message/rfc822", reason: .limits)
            return .impossible(doubt ?? obstacle ?? limits)
        }
        if let obstacle { return .impossible(obstacle) }
        return plan.changes.isEmpty ? .unchanged : .convert(plan)
    }

    // MARK: The walk

    mutating func begin(_ entity: MIMEEntity) {
        let parent = open.last
        count += 1
        var level = Level(
            index: entity.index, type: entity.type, encoding: entity.encoding,
            mode: Self.mode(of: entity, in: parent?.mode),
            messageIndex: parent.map { $0.isMultipart ? $0.messageIndex : entity.index } ?? entity.index,
            hasType: entity.contentType != nil, isMultipart: entity.isMultipart, isComposite: entity.isComposite)
        if doubt == nil, Set(entity.claims.map(Kind.init)).count > 1 { doubt = level.obstacle(.ambiguous) }
        switch parent?.mode {
        case .whole:
            entity.mailboxLines.withUnsafeReadableBytes { takeWhole($0) }
            entity.header.withUnsafeReadableBytes { takeWhole($0) }
        case .closed(let obstacle):
            if Self.census(of: entity.mailboxLines).mustChange || Self.census(of: entity.header).mustChange {
                meet(obstacle)
            }
        case .open, nil: lookAtHeader(of: entity, &level)
        }
        if level.messageIndex == entity.index, entity.fields.has("mime-version", in: entity.header) {
            versioned.insert(entity.index)
        }
        open.append(level)
    }

    mutating func take(_ octets: UnsafeRawBufferPointer, as place: MIMEPlace) {
        guard let last = open.indices.last else { return }
        switch (open[last].mode, place) {
        case (.whole, _): takeWhole(octets)
        case (.open, .preamble): open[last].preamble.take(octets)
        case (.open, .epilogue): open[last].epilogue.take(octets)
        case (.open, .delimiter):
            open[last].hasDelimiter = true
            var census = OctetCensus()
            census.take(octets)
            if census.mustChange { meet(open[last].obstacle(.brokenHeader)) }
        case (.open, .body), (.closed, _): open[last].census.take(octets)
        }
    }

    private mutating func takeWhole(_ octets: UnsafeRawBufferPointer) {
        if let outermost = open.firstIndex(where: { $0.mode == .whole }) { open[outermost].census.take(octets) }
    }

    mutating func end(_ index: Int, isAtEnd: Bool) {
        guard var level = open.popLast() else { return }
        switch level.mode {
        case .closed(let obstacle):
            if level.census.mustChange { meet(obstacle) }
            if obstacle.part == index, obstacle.reason == .composite { relabel(level) }
        case .whole:
            // What is in it is not looked at by itself.
            if open.last?.mode != .whole { decideContent(&level) }
        case .open where level.isMultipart:
            decideAround(&level)
            relabelComposite(level)
        case .open where level.isComposite: relabelComposite(level)
        case .open: decideContent(&level)
        }
        if level.mustChange, let last = open.indices.last { open[last].mustChange = true }
    }

    // MARK: Decisions

    private static func mode(of entity: MIMEEntity, in parent: Mode?) -> Mode {
        switch parent {
        case .open, nil: break
        case .closed(let obstacle): return .closed(obstacle)
        case .whole: return .whole
        }
        func closed(_ reason: ConversionObstacle.Reason) -> Mode {
            .closed(ConversionObstacle(part: entity.index, type: entity.type, reason: reason))
        }
        if entity.isCutOff { return closed(.limits) }
        let encodings = entity.encodings.map { $0.isIdentity ? TransferEncoding.none : $0 }
        if Set(encodings).count > 1 { return closed(.ambiguous) }
        switch Kind(MIMEEntity.Claim(type: entity.type, boundary: entity.contentType?.boundary)) {
        case .content, .message: return .open
        case .global: return .whole
        case .protected: return closed(.protected)
        case .composite: return closed(.composite)
        case .multipart(let boundary?, _) where ParameterizedValue.isLegal(boundary: boundary): return .open
        case .multipart: return closed(.boundary)
        }
    }

    private static func census(of header: ByteBuffer) -> OctetCensus {
        var census = OctetCensus()
        header.withUnsafeReadableBytes { census.take($0) }
        return census
    }

    /// Whether a header that may be changed has to be.
    private mutating func lookAtHeader(of entity: MIMEEntity, _ level: inout Level) {
        if Self.census(of: entity.mailboxLines).mustChange { meet(level.obstacle(.brokenHeader)) }
        let census = Self.census(of: entity.header)
        guard census.mustChange else { return }
        (level.mustChange, mustChange) = (true, true)
        guard !census.hasBareOctets else { return meet(level.obstacle(.brokenHeader)) }
        let containment = HeaderContainment(of: entity.fields, in: entity.header)
        if let fault = containment.faults.first { return meet(level.obstacle(.header(fault))) }
        plan.changes[entity.index, default: .init()].encodesHeader = true
    }

    /// What is done to what is one content.
    private mutating func decideContent(_ level: inout Level) {
        let census = level.census
        guard census.mustChange else { return relabel(level) }
        (level.mustChange, mustChange) = (true, true)
        var change = plan.changes[level.index] ?? .init()
        switch level.encoding {
        case .quotedPrintable:
            guard census.longestBlank <= Self.longestBlank else { return meet(level.obstacle(.mislabelled)) }
            change.body = .mendedQuotedPrintable
        case .base64:
            guard census.isBase64 else { return meet(level.obstacle(.mislabelled)) }
            change.body = .mendedBase64
        case .uuencode: return meet(level.obstacle(.mislabelled))
        case .sevenBit, .eightBit, .binary, .none, .other:
            let isText = level.type.utf8.starts(with: "text/".utf8) || census.isTextLike
            change.body = isText ? .quotedPrintable : .base64
            change.encoding = isText ? "quoted-printable" : "base64"
            // RFC 1428 section 3: a charset that nobody knows has a name.
            if !level.hasType, census.eightBit > 0 { change.charset = census.isUTF8 ? "utf-8" : "unknown-8bit" }
        }
        plan.changes[level.index] = change
        if change.encoding != nil { needVersion(level) }
    }

    /// Blanks one after another that a line of quoted-printable can have.
    private static let longestBlank = 900

    /// What stands before and behind parts.
    private mutating func decideAround(_ level: inout Level) {
        guard level.preamble.mustChange || level.epilogue.mustChange else { return }
        (level.mustChange, mustChange) = (true, true)
        // Without any part it is all that there is.
        guard level.hasDelimiter else { return meet(level.obstacle(.boundary)) }
        var change = plan.changes[level.index] ?? .init()
        change.dropsPreamble = level.preamble.mustChange
        change.dropsEpilogue = level.epilogue.mustChange
        plan.changes[level.index] = change
    }

    /// What has nothing in it that is not 7-bit.
    private mutating func relabel(_ level: Level) {
        guard level.encoding == .eightBit || level.encoding == .binary else { return }
        plan.changes[level.index, default: .init()].encoding = "7bit"
        needVersion(level)
    }

    /// What is made of parts, and may not be encoded.
    private mutating func relabelComposite(_ level: Level) {
        if level.encoding.isIdentity { return relabel(level) }
        if level.mustChange {
            // The label cannot be true (RFC 2045 section 6.4), and there is something that it would be wrong of.
            plan.changes[level.index, default: .init()].encoding = "7bit"
            needVersion(level)
        } else {
            // Perhaps it is true all the same, and what looks like parts is none.
            for index in level.index + 1..<max(count, level.index + 1) { plan.changes[index] = nil }
        }
    }

    private mutating func needVersion(_ level: Level) {
        guard !versioned.contains(level.messageIndex) else { return }
        plan.changes[level.messageIndex, default: .init()].getsVersion = true
    }

    private mutating func meet(_ obstacle: ConversionObstacle) {
        mustChange = true
        if self.obstacle == nil { self.obstacle = obstacle }
    }
}
