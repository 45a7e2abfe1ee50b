// Messages of any kind: whatever strangers send must be walked through, and what is made 7-bit must say the same.

import NIOCore
import SlimtaMail

@testable import SlimtaMIME

extension FuzzTarget {
    /// A message, walked through for its parts and for its facts.
    static let mime = FuzzTarget(name: "mime", maximumLength: 4000) { octets in
        let parts = try anyCut(octets) { chunks in
            var walker = MIMEWalker(MIMEParts())
            for chunk in chunks { walker.read(chunk) }
            walker.finish()
            try hold(walker.visitor.fault == nil, walker.visitor.fault ?? "")
            return walker.visitor
        }
        try same(parts.octets, octets, "what was given out, and what there was")
        let facts = try anyCut(octets) { chunks in
            var reader = ContentFactsReader()
            for chunk in chunks { reader.read(chunk) }
            return reader.finish()
        }
        if !parts.isCut, !parts.isAmbiguous { try same(facts.parts, parts.parts.count - 1, "parts") }
        // Whoever looks for what any client sees finds at least what one does.
        if facts.exceeded.isSubset(of: .encoded) {
            let (names, types) = (
                Set(facts.attachments.flatMap(\.names)), Set(facts.attachments.flatMap(\.types))
            )
            for name in parts.names where name.utf8.count <= 1000 {
                try hold(names.contains(name), "the name \(name)")
            }
            for part in parts.parts.map(\.type) where part.utf8.count <= 1000 {
                let isText = ["text/plain", "text/html"].contains(part) || part.hasPrefix("multipart/")
                try hold(isText || types.contains(part), "the type \(part)")
            }
        }
        try same(facts.hasEightBit, octets.contains { $0 >= 0x80 }, "8-bit octets")
        try hold(facts.nesting <= 20 && facts.attachments.count <= 1001, "\(facts)")
    }

    /// A message that goes to a host without 8BITMIME. The first octet says whether its lines end with CRLF all the same.
    static let sevenBit = FuzzTarget(name: "seven-bit", maximumLength: 4000) { input in
        let octets = input.first.map { $0 & 1 == 0 } ?? true ? withCRLF(input.dropFirst()) : Array(input.dropFirst())
        let answer = try anyCut(octets) { chunks in
            var planner = ConversionPlanner()
            for chunk in chunks { planner.read(chunk) }
            return planner.finish()
        }
        switch answer {
        case .impossible(let obstacle): try hold(!obstacle.description.isEmpty, "no reason")
        case .unchanged: try checkSevenBit(octets)
        case .convert(let plan):
            let result = try anyCut(octets) { chunks in
                var converter = SevenBitConverter(plan)
                var result: [UInt8] = []
                for chunk in chunks { result += converter.read(chunk).readableBytesView }
                result += converter.finish().readableBytesView
                try same(result.count, converter.size, "the size")
                return result
            }
            try checkSevenBit(result)
            var again = ConversionPlanner()
            again.read(ByteBuffer(bytes: result))
            try same(again.finish(), .unchanged, "the conversion of what was converted")
            try checkContent(octets, result)
        }
    }

    /// The value of a field, in a header. The first octet says of which field.
    static let containment = FuzzTarget(name: "containment", maximumLength: 2000) { input in
        let names = [
            "Subject", "To", "Message-ID", "Date", "Keywords", "Content-Type", "Content-Disposition", "Received",
        ]
        let name = names[Int(input.first ?? 0) % names.count]
        let value = input.dropFirst().filter { $0 != 0x0D && $0 != 0x0A && $0 != 0 }
        let header = ByteBuffer(bytes: Array("\(name): ".utf8) + value + "\r\n\r\n".utf8)
        let found = HeaderContainment(of: HeaderBlock(scanning: header), in: header)
        try hold(found.faults.count + found.edits.count <= 1, "\(found)")
        guard found.faults.isEmpty else { return }
        let applied = found.applied(to: header)
        try checkSevenBit(Array(applied.readableBytesView))
        let block = HeaderBlock(scanning: applied)
        try hold(block.fields.count == 1 && block.isWellFormed && block.isComplete, "no single field")
        try hold(block.end == applied.readableBytes, "more than a header")
        let after = Array(block.fields[0].value(in: applied))
        if name == "Subject" { try same(words(Array(value)), words(after), "the text") }
        if name == "To", let before = try? AddressList(parsing: value) {
            let after = try AddressList(parsing: after)
            try same(before.entries.map(\.mailbox.forNextHop), after.entries.map(\.mailbox.forNextHop), "addresses")
            // A comment may be the name, with its own parentheses; what looks encoded is no encoded word in quotes; what is no
            // UTF-8 is repaired in names.
            if value.contains(UInt8(ascii: "(")) || value.contains("=?".utf8) { return }
            if String(validating: Array(value).span) == nil { return }
            try same(
                before.entries.map { words(Array(($0.displayName ?? "").utf8)) },
                after.entries.map { words(Array(($0.displayName ?? "").utf8)) }, "names")
        }
    }
}

/// LF as CRLF; other CRs and NULs are taken out: what SMTP lets pass.
private func withCRLF(_ octets: some Sequence<UInt8>) -> [UInt8] {
    octets.reduce(into: []) { lines, octet in
        if octet == 0x0A { lines.append(0x0D) }
        if octet != 0x0D, octet != 0 { lines.append(octet) }
    }
}

/// What a host without 8BITMIME takes.
private func checkSevenBit(_ octets: [UInt8]) throws {
    try hold(octets.allSatisfy { $0 < 0x80 && $0 != 0 }, "8-bit octets or NUL")
    var length = 0
    for (index, octet) in octets.enumerated() {
        switch octet {
        case 0x0D: try hold(index + 1 < octets.count && octets[index + 1] == 0x0A, "a CR without LF")
        case 0x0A:
            try hold(index > 0 && octets[index - 1] == 0x0D, "a LF without CR")
            length = 0
        default: length += 1
        }
        try hold(length <= 998, "a line of more than 998 octets")
    }
}

// MARK: What a message says

/// A visitor that keeps everything.
struct MIMEParts: MIMEVisitor, Equatable {
    struct Part: Equatable {
        var parent: Int?
        var type: String
        var encoding: TransferEncoding
        /// The octets behind its header, those of what is in it among them.
        var raw: [UInt8] = []
        var isLeaf: Bool
    }

    var parts: [Part] = []
    var names: [String] = []
    /// Whether a part's header ends at a line that is no field: others read on.
    var isCut = false
    /// Whether a part says several things of itself.
    var isAmbiguous = false
    var octets: [UInt8] = []
    var fault: String?
    private var open: [Int] = []

    mutating func begin(_ entity: MIMEEntity) {
        if entity.index != parts.count || entity.parent != open.last { fault = "part \(entity.index)" }
        keep(Array(entity.mailboxLines.readableBytesView + entity.header.readableBytesView))
        names += entity.names
        if entity.headerEnd == .cut && entity.index > 0 { isCut = true }
        if entity.claims.count > 1 { isAmbiguous = true }
        parts.append(
            Part(
                parent: entity.parent, type: entity.type, encoding: entity.encoding, isLeaf: entity.form == .leaf))
        open.append(entity.index)
    }

    mutating func take(_ octets: UnsafeRawBufferPointer, as place: MIMEPlace) {
        if octets.isEmpty { fault = "nothing" }
        if place == .body, parts[open[open.count - 1]].isLeaf == false { fault = "content of what has none" }
        keep(Array(octets))
    }

    mutating func end(_ index: Int, isAtEnd: Bool) {
        if open.popLast() != index { fault = "the end of \(index)" }
    }

    private mutating func keep(_ octets: [UInt8]) {
        self.octets += octets
        for index in open { parts[index].raw += octets }
    }
}

private func walked(_ octets: [UInt8], isSuspicious: Bool) -> MIMEParts {
    var walker = MIMEWalker(MIMEParts(), isSuspicious: isSuspicious)
    walker.read(ByteBuffer(bytes: octets))
    walker.finish()
    return walker.visitor
}

/// Whether two messages have the same parts in each other, with the same contents when these are decoded: for most clients, and
/// for all of them where it is known where headers end.
private func checkContent(_ before: [UInt8], _ after: [UInt8]) throws {
    let isCut = walked(before, isSuspicious: false).isCut
    for isSuspicious in isCut ? [false] : [false, true] {
        let was = said(walked(before, isSuspicious: isSuspicious).parts)
        let now = said(walked(after, isSuspicious: isSuspicious).parts)
        try same(was.count, now.count, "parts")
        for (was, now) in zip(was, now) { try same(was, now, "a part") }
    }
}

/// Types and decoded contents of parts; what is one content with all that is in it is one part.
private func said(_ parts: [MIMEParts.Part]) -> [String] {
    var said: [String] = []
    var isWithin = [Bool](repeating: false, count: parts.count)
    for (index, part) in parts.enumerated() {
        let isWhole = part.type.hasPrefix("message/global")
        isWithin[index] = part.parent.map { isWithin[$0] || parts[$0].type.hasPrefix("message/global") } ?? false
        if isWithin[index] { continue }
        var content = part.isLeaf || isWhole ? decoded(part.raw, part.encoding) : []
        // Where a delimiter ends a header the line end before it is in both.
        if isWhole, content.last == 0x0A { content.removeLast() }
        if isWhole, content.last == 0x0D { content.removeLast() }
        let isClosed = ["multipart/signed", "multipart/encrypted", "application/pkcs7-mime"].contains(part.type)
        said.append("\(part.type) \(content.hexadecimal) \(isClosed ? part.raw.hexadecimal : "")")
    }
    return said
}

private func decoded(_ octets: [UInt8], _ encoding: TransferEncoding) -> [UInt8] {
    switch encoding {
    case .quotedPrintable: unquoted(octets)
    case .base64: unlettered(octets)
    case .sevenBit, .eightBit, .binary, .uuencode, .none, .other: octets
    }
}

/// Quoted-printable (RFC 2045 section 6.7), slowly.
private func unquoted(_ octets: [UInt8]) -> [UInt8] {
    var (content, index) = ([UInt8](), 0)
    while index < octets.count {
        let rest = octets[index...]
        guard rest.first == UInt8(ascii: "=") else {
            content.append(octets[index])
            index += 1
            continue
        }
        let behind = rest.dropFirst().drop { $0 == 0x20 || $0 == 0x09 }
        if behind.isEmpty {
            index = octets.count
        } else if behind.starts(with: [0x0D, 0x0A]) {
            index = behind.startIndex + 2
        } else if behind.first == 0x0A {
            index = behind.startIndex + 1
        } else if rest.count > 2, let high = octets[index + 1].hexadecimalValue,
            let low = octets[index + 2].hexadecimalValue
        {
            content.append(high << 4 | low)
            index += 3
        } else {
            content.append(octets[index])
            index += 1
        }
    }
    return content
}

/// Base64, whatever else stands in it.
private func unlettered(_ octets: [UInt8]) -> [UInt8] {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8.map { $0 }
    let bits = octets.compactMap { letters.firstIndex(of: $0) }.flatMap { value in (0..<6).map { value >> (5 - $0) & 1 }
    }
    return stride(from: 0, to: bits.count - bits.count % 8, by: 8).map { start in
        bits[start..<start + 8].reduce(0) { $0 << 1 | UInt8($1) }
    }
}

/// A text without its blanks, encoded words (RFC 2047) decoded.
private func words(_ text: [UInt8]) -> [UInt8] {
    let blanks: [UInt8] = [0x20, 0x09, 0x0D, 0x0A]
    return text.split { blanks.contains($0) }.flatMap { word -> [UInt8] in
        let fields = word.split(separator: UInt8(ascii: "?"), omittingEmptySubsequences: false)
        guard fields.count == 5, word.count <= 900, word.allSatisfy({ $0 < 0x80 }), fields[0].elementsEqual("=".utf8),
            fields[4].elementsEqual("=".utf8),
            fields[2].count == 1
        else { return Array(word) }
        switch fields[2].first {
        case UInt8(ascii: "q"), UInt8(ascii: "Q"):
            return unquoted(fields[3].map { $0 == UInt8(ascii: "_") ? 0x20 : $0 }).filter { !blanks.contains($0) }
        case UInt8(ascii: "b"), UInt8(ascii: "B"): return unlettered(Array(fields[3])).filter { !blanks.contains($0) }
        default: return Array(word)
        }
    }
}
