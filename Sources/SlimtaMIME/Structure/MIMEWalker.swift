// The parts of a message, found while it passes (RFC 2045, RFC 2046). What is found goes to a visitor; here is only what is
// needed to know where the octets that come next belong.
//
//     header ──empty line, or what is no field──▶ content ──delimiter──▶ header …
//        └──of a message within a message: its header──┘  └──last delimiter──▶ content (epilogue)
//
// `open` are the parts that the next octet is in, from the message itself inwards. Lines are looked at where one could be a
// delimiter: it is held until it is whole, as is the line end before it, which belongs to the delimiter. Everything else is
// given out at once. So memory has a header, a line of 998 octets, and the names of boundaries.
//
// Clients do not agree on what is wrong: which of two fields counts, and what a line within a header means that is no field. Who
// converts a message has to decide for one way. Who looks for what somebody may have hidden must see what any client sees: then
// the header of a part goes on behind such a line (HeaderReadings), all fields of a name count, and a multipart may have several
// boundaries. A delimiter that is one for some clients only ends nothing for the others: the boundaries of what it ends stay.

package import NIOCore
internal import SlimtaMail

/// Finds the parts of one message. Reads as mail clients do: ends of lines may be LF, a delimiter of an outer multipart ends
/// all that is in it, a multipart may end with the message. What it finds can be that of one client, or of any.
package struct MIMEWalker<Visitor: MIMEVisitor> {
    /// A part that is not over.
    private struct Level {
        let index: Int
        /// Of a multipart whose last delimiter has not come; empty: it is none. Of several each is one for some client.
        var boundaries: [[UInt8]] = []
        /// Whether its delimiters are none for some clients.
        var isAmbiguous = false
        /// Whether it, or what it is in, is something else for some clients: delimiters in it may be those of what is around.
        let isDoubtful: Bool
        /// Of what is in it, where it does not say.
        var defaultType: String
    }

    private enum State {
        /// Of the part that comes next. `isOptional`: where nothing is of it there is none.
        case header(isOptional: Bool)
        case content(MIMEPlace)
    }

    /// Who is told.
    package internal(set) var visitor: Visitor
    /// Which limits the message is over, so far.
    package private(set) var exceeded: MIMELimits.Exceeded = []

    private let limits: MIMELimits
    /// Whether all that any client sees is to be found.
    private let isSuspicious: Bool
    private var state = State.header(isOptional: false)
    private var open: [Level] = []
    /// Parts that have begun.
    private var count = 0
    /// Whether nothing is a delimiter any more: there are too many parts.
    private var isBlind = false
    /// Whole lines of the header that is being read.
    private var header = ByteBuffer()
    /// What else that header may be; nil: it has nothing but fields, so far.
    private var readings: HeaderReadings?
    /// The boundaries that are known where it has a line that is no field.
    private var ownBoundaries: [[UInt8]]?
    /// Those of a mailbox file before it.
    private var mailboxLines = ByteBuffer()
    /// Octets that were not given out.
    private var buffer = ByteBuffer()
    /// In content: where in `buffer` to go on. In a header: how far its line has no end.
    private var place = 0
    /// Whether a line begins at `place`; it does in every header.
    private var isAtLineStart = true
    /// Octets before `place` that are the end of the line before.
    private var lineEnd = 0

    /// A walk through one message.
    /// - Parameter isSuspicious: whether all that any client sees is to be found in the parts; if not, it is what most see.
    ///   The header of the message itself is one that is decided (by who stores it).
    package init(_ visitor: Visitor, limits: MIMELimits = MIMELimits(), isSuspicious: Bool = false) {
        self.visitor = visitor
        self.limits = limits
        self.isSuspicious = isSuspicious
    }

    /// The next octets, cut anywhere.
    package mutating func read(_ octets: ByteBuffer) {
        buffer.writeImmutableBuffer(octets)
        advance(isLast: false)
        if buffer.readableBytes == 0 { buffer.clear() } else { buffer.discardReadBytes() }
    }

    /// The message is over.
    package mutating func finish() {
        advance(isLast: true)
        while let level = open.popLast() { visitor.end(level.index, isAtEnd: true) }
    }

    /// Looks at `buffer` as far as it can be understood.
    private mutating func advance(isLast: Bool) {
        let octets = buffer
        var consumed = 0
        octets.withUnsafeReadableBytes { octets in
            // Whoever comes to a header or out of one goes on there.
            while true {
                let isStuck: Bool
                switch state {
                case .header(let isOptional):
                    isStuck = !readHeader(octets, &consumed, isOptional: isOptional, isLast)
                case .content(let place): isStuck = !readContent(octets, &consumed, place, isLast)
                }
                if isStuck { break }
            }
        }
        buffer.moveReaderIndex(forwardBy: consumed)
        place -= consumed
    }

    // MARK: Headers

    /// Reads lines of a header from `start` on; returns whether that is over and something else begins.
    private mutating func readHeader(
        _ octets: UnsafeRawBufferPointer, _ start: inout Int, isOptional: Bool, _ isLast: Bool
    ) -> Bool {
        while true {
            let found = octets.firstOffset(of: UInt8(ascii: "\n"), from: max(start, place)).map { $0 + 1 }
            place = found ?? octets.count
            let line = start..<(found ?? octets.count)
            switch delimiter(octets, line, isWhole: found != nil || isLast) {
            case .none:
                place = start
                return false
            case .some(.some(let delimiter)):
                beginPart(.end, unlessEmpty: isOptional)
                delimit(octets, &start, line, delimiter, lineEnd: 0)
                return true
            case .some(.none): break
            }
            if mailboxLines.readableBytes + header.readableBytes + line.count > limits.header {
                exceeded.insert(.header)
                beginContent(at: start, .cut)
                return true
            }
            guard found != nil || isLast else { return false }
            switch kind(octets, line) {
            case nil: return endHeaderAtEnd(isOptional: isOptional)
            case .mailbox where !isOptional:
                mailboxLines.writeBytes(UnsafeRawBufferPointer(rebasing: octets[line]))
                start = line.upperBound
            case .field:
                append(octets, line)
                start = line.upperBound
            case .empty:
                append(octets, line)
                start = line.upperBound
                beginContent(at: start, .emptyLine)
                return true
            case .mailbox, .other:
                guard isSuspicious, count > 0, !isOwnDelimiter(octets, line) else {
                    beginContent(at: start, .cut)
                    return true
                }
                var readings = readings ?? HeaderReadings(behind: header)
                readings.append(junk: UnsafeRawBufferPointer(rebasing: octets[line]))
                header.writeBytes(UnsafeRawBufferPointer(rebasing: octets[line]))
                self.readings = readings
                start = line.upperBound
            }
        }
    }

    /// Whether a line in a header is a delimiter between parts for a client for which that header is over already.
    private mutating func isOwnDelimiter(_ octets: UnsafeRawBufferPointer, _ line: Range<Int>) -> Bool {
        guard let name = Self.name(octets, line)?.name else { return false }
        let boundaries =
            ownBoundaries
            ?? HeaderBlock(scanning: header).fields(named: "content-type", in: header).flatMap {
                ParameterizedValue(parsing: $0.value(in: header)).boundaries
            }
        ownBoundaries = boundaries
        return boundaries.contains { name.elementsEqual($0) }
    }

    private enum LineKind { case field, mailbox, empty, other }

    /// Nil: there is no line, the message is over.
    private func kind(_ octets: UnsafeRawBufferPointer, _ line: Range<Int>) -> LineKind? {
        guard let first = octets[line].first else { return nil }
        if first == UInt8(ascii: "\n") { return .empty }
        if first == UInt8(ascii: "\r"), line.count == 2 { return .empty }
        if first == 0x20 || first == 0x09 { return header.readableBytes > 0 ? .field : .other }
        if HeaderBlock.isField(octets, line) { return .field }
        let isMailbox = octets[line].starts(with: "From ".utf8) || octets[line].starts(with: ">From ".utf8)
        return isMailbox && header.readableBytes == 0 ? .mailbox : .other
    }

    private mutating func append(_ octets: UnsafeRawBufferPointer, _ line: Range<Int>) {
        header.writeBytes(UnsafeRawBufferPointer(rebasing: octets[line]))
        readings?.append(UnsafeRawBufferPointer(rebasing: octets[line]))
    }

    /// The message ends within a header. Returns whether there is another one: of a message within.
    private mutating func endHeaderAtEnd(isOptional: Bool) -> Bool {
        let before = count
        beginPart(.end, unlessEmpty: isOptional)
        if count > before, case .header = state { return true }
        return false
    }

    private mutating func beginContent(at start: Int, _ end: MIMEEntity.HeaderEnd) {
        beginPart(end, unlessEmpty: false)
        (place, isAtLineStart, lineEnd) = (start, true, 0)
    }

    /// Begins the part whose header was read, and says what comes next.
    private mutating func beginPart(_ end: MIMEEntity.HeaderEnd, unlessEmpty isOptional: Bool) {
        if header.readableBytes == 0, isOptional { return }
        let isDeepest = open.count >= limits.depth
        let entity = MIMEEntity(
            index: count, parent: open.last?.index, depth: open.count, mailboxLines: mailboxLines, header: header,
            headerEnd: end, readings: isSuspicious ? readings?.all ?? [] : nil,
            defaultType: open.last?.defaultType ?? "text/plain", mayHaveParts: !isDeepest && count < limits.parts)
        // Where its header is cut there, a delimiter of its own is at its end.
        let isCutByDelimiter = ownBoundaries != nil && end == .cut
        (mailboxLines, header, readings, ownBoundaries) = (ByteBuffer(), ByteBuffer(), nil, nil)
        count += 1
        if entity.isCutOff { exceeded.insert(isDeepest ? .depth : .parts) }
        if entity.boundaries.count > MIMELimits.boundaries { exceeded.insert(.header) }
        let isAmbiguous = entity.isAmbiguous || isCutByDelimiter
        let isDoubtful = isAmbiguous || entity.types.count > 1 || open.last?.isDoubtful == true
        let isDigest =
            entity.types.contains("multipart/digest")
            || isDoubtful && open.contains { $0.defaultType == "message/rfc822" }
        let level = Level(
            index: entity.index, boundaries: entity.boundaries, isAmbiguous: isAmbiguous, isDoubtful: isDoubtful,
            defaultType: isDigest ? "message/rfc822" : "text/plain")
        switch entity.form {
        case .leaf: state = .content(.body)
        case .message: state = .header(isOptional: false)
        case .multipart: state = .content(.preamble)
        }
        open.append(level)
        visitor.begin(entity)
    }

    // MARK: Content

    /// Gives out content from `start` on; returns whether it is over and a header begins.
    private mutating func readContent(
        _ octets: UnsafeRawBufferPointer, _ start: inout Int, _ kind: MIMEPlace, _ isLast: Bool
    ) -> Bool {
        guard !isBlind, open.contains(where: { !$0.boundaries.isEmpty }) else {
            give(octets, &start, octets.count, kind)
            (place, isAtLineStart, lineEnd) = (octets.count, false, 0)
            return false
        }
        while true {
            if isAtLineStart {
                let line = place..<endOfCandidate(octets, place)
                let isWhole = isLast || line.count > Self.longestDelimiter || octets[line].last == UInt8(ascii: "\n")
                switch delimiter(octets, line, isWhole: isWhole) {
                case .none:
                    give(octets, &start, place - lineEnd, kind)
                    return false
                case .some(.none): (isAtLineStart, lineEnd) = (false, 0)
                case .some(.some(let found)):
                    give(octets, &start, place - lineEnd, kind)
                    delimit(octets, &start, line, found, lineEnd: lineEnd)
                    return true
                }
            }
            guard let found = octets.firstOffset(of: UInt8(ascii: "\n"), from: place) else {
                // A CR at the end may be half of a line's end.
                let isHeld = !isLast && octets.count > start && octets[octets.count - 1] == UInt8(ascii: "\r")
                place = isHeld ? octets.count - 1 : octets.count
                give(octets, &start, place, kind)
                return false
            }
            lineEnd = found > start && octets[found - 1] == UInt8(ascii: "\r") ? 2 : 1
            (place, isAtLineStart) = (found + 1, true)
        }
    }

    private mutating func give(
        _ octets: UnsafeRawBufferPointer, _ start: inout Int, _ end: Int, _ kind: MIMEPlace
    ) {
        if end > start { visitor.take(UnsafeRawBufferPointer(rebasing: octets[start..<end]), as: kind) }
        start = max(start, end)
    }

    // MARK: Delimiters

    /// Octets of a line with a delimiter: no longer one can be sent (RFC 5322 section 2.1.1).
    private static var longestDelimiter: Int { 1000 }

    /// A delimiter: of which open part, with which of its boundaries, whether it is the last one with that, and where the line
    /// end behind it begins.
    private typealias Delimiter = (level: Int, boundary: Int, isLast: Bool, end: Int)

    /// Where the line at `start` ends, as far as it can be a delimiter.
    private func endOfCandidate(_ octets: UnsafeRawBufferPointer, _ start: Int) -> Int {
        guard start < octets.count, octets[start] == UInt8(ascii: "-") else {
            return start + min(1, octets.count - start)
        }
        let most = min(octets.count, start + Self.longestDelimiter + 1)
        return octets.firstOffset(of: UInt8(ascii: "\n"), from: start, to: most).map { $0 + 1 } ?? most
    }

    /// Whether a line is a delimiter; the outer nil: it can become one.
    private func delimiter(
        _ octets: UnsafeRawBufferPointer, _ line: Range<Int>, isWhole: Bool
    ) -> Delimiter?? {
        let dash = UInt8(ascii: "-")
        guard !isBlind, open.contains(where: { !$0.boundaries.isEmpty }) else { return .some(nil) }
        guard let first = octets[line].first else { return isWhole ? .some(nil) : .none }
        guard first == dash, line.count < 2 || octets[line.lowerBound + 1] == dash,
            line.count <= Self.longestDelimiter
        else { return .some(nil) }
        guard isWhole else { return .none }
        guard let (name, end) = Self.name(octets, line) else { return .some(nil) }
        for number in open.indices.reversed() {
            if let found = open[number].boundaries.firstIndex(where: { name.elementsEqual($0) }) {
                return (number, found, false, end)
            }
        }
        guard name.count > 2, name.suffix(2).elementsEqual([dash, dash]) else { return .some(nil) }
        for number in open.indices.reversed() {
            if let found = open[number].boundaries.firstIndex(where: { name.dropLast(2).elementsEqual($0) }) {
                return (number, found, true, end)
            }
        }
        return .some(nil)
    }

    /// What stands behind the "--" of a whole line, without blanks at its end, and where the line end behind it begins; nil: it
    /// is no delimiter.
    private static func name(
        _ octets: UnsafeRawBufferPointer, _ line: Range<Int>
    ) -> (name: Slice<UnsafeRawBufferPointer>, end: Int)? {
        guard line.count > 2, line.count <= longestDelimiter, octets[line].starts(with: "--".utf8) else { return nil }
        var end = line.upperBound
        if octets[end - 1] == UInt8(ascii: "\n") {
            end -= 1
            if end > line.lowerBound, octets[end - 1] == UInt8(ascii: "\r") { end -= 1 }
        }
        var text = end
        while text > line.lowerBound, octets[text - 1] == 0x20 || octets[text - 1] == 0x09 { text -= 1 }
        return (octets[line.lowerBound + 2..<max(line.lowerBound + 2, text)], end)
    }

    /// Ends what a delimiter ends. From `start` on are the line end before it and its line.
    private mutating func delimit(
        _ octets: UnsafeRawBufferPointer, _ start: inout Int, _ line: Range<Int>, _ found: Delimiter, lineEnd: Int
    ) {
        endParts(in: found.level)
        if found.isLast {
            // The end of its line may belong to the delimiter of another part.
            give(octets, &start, found.end, .delimiter)
            open[found.level].boundaries.remove(at: found.boundary)
            state = .content(.epilogue)
            (place, self.lineEnd) = (line.upperBound, line.upperBound - found.end)
            isAtLineStart = self.lineEnd > 0
        } else if count > limits.parts {
            exceeded.insert(.parts)
            isBlind = true
            state = .content(.epilogue)
            (place, isAtLineStart, self.lineEnd) = (start, false, 0)
        } else {
            give(octets, &start, line.upperBound, .delimiter)
            state = .header(isOptional: true)
            place = start
        }
    }

    /// Ends all parts in an open one. Where they go on for some clients, their boundaries are looked for behind that too.
    private mutating func endParts(in number: Int) {
        while open.count > number + 1, let level = open.popLast() {
            visitor.end(level.index, isAtEnd: false)
            guard open[number].isAmbiguous else { continue }
            if level.defaultType == "message/rfc822" { open[number].defaultType = level.defaultType }
            for boundary in level.boundaries where !open[number].boundaries.contains(boundary) {
                if open[number].boundaries.count < MIMELimits.boundaries {
                    open[number].boundaries.append(boundary)
                } else {
                    exceeded.insert(.header)
                }
            }
        }
    }
}
