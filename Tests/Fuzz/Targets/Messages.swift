// What is done to messages: their data on both sides of SMTP, headers, dates, encodings.

import Glibc
import NIOCore
import SlimtaMail

@testable import SlimtaPolicy
@testable import SlimtaSMTP

extension FuzzTarget {
    /// Mail data as it comes in, against RFC 5321 section 4.5.2 read line by line; and as it goes out.
    static let data = FuzzTarget(name: "data", maximumLength: 4096) { octets in
        let limit = octets.first.map { $0 & 1 == 0 ? 100_000 : Int($0) } ?? 0
        let octets = Array(octets.dropFirst())
        let read = try anyCut(octets) { chunks in
            var result = ReadData()
            var reader = DataReader(limit: limit)
            var content = ByteBuffer()
            for chunk in chunks {
                var input = chunk
                if !result.isEnd { result.isEnd = reader.read(&input, into: &content) }
                if result.isEnd {
                    result.rest += input.readableBytesView
                } else {
                    try same(input.readableBytes, 0, "unread")
                }
            }
            (result.fault, result.hasBareLineEnd) = (reader.fault, reader.hasBareLineEnd)
            // What came before a fault is worth nothing, and how much of it was given out depends on the cuts.
            if reader.fault == nil {
                result.content = Array(content.readableBytesView)
                result.hasEightBit = reader.hasEightBit
            }
            try hold(content.readableBytes <= limit, "\(content.readableBytes) octets of at most \(limit)")
            return result
        }
        if read.fault == nil, read.isEnd {
            let expected = dataOfRFC5321(octets)
            try same(read.content, expected?.content ?? [], "the content of \(octets)")
            try same(read.rest, expected?.rest ?? [], "what is behind \(octets)")
            try same(read.hasEightBit, read.content.contains { $0 > 127 }, "eight bits of \(octets)")
        } else if let expected = dataOfRFC5321(octets), expected.content.count <= limit {
            throw Broken(description: "\(octets) is a whole message, and is \(read)")
        }
        try checkStuffing(octets)
    }

    private struct ReadData: Equatable {
        var isEnd = false
        var content: [UInt8] = []
        var rest: [UInt8] = []
        var fault: DataReader.Fault?
        var hasBareLineEnd = false
        var hasEightBit = false
    }

    /// Content that did not come over SMTP, against a reading of it line by line.
    static let content = FuzzTarget(name: "content", maximumLength: 4096) { octets in
        var choices = Choices(octets)
        let limit = choices.flag() ? 100_000 : Int(choices.octet())
        let octets = Array(choices.rest)
        let read = try anyCut(octets) { chunks in
            var reader = ContentReader(limit: limit)
            var content = ByteBuffer()
            for chunk in chunks { reader.read(chunk, into: &content) }
            reader.finish(into: &content)
            try hold(content.readableBytes <= limit, "\(content.readableBytes) octets of at most \(limit)")
            let isGood = reader.fault == nil
            try same(reader.refusal == nil, isGood, "whether there is a refusal")
            return ReadContent(
                fault: reader.fault, line: reader.line, content: isGood ? Array(content.readableBytesView) : nil,
                hasEightBit: isGood && reader.hasEightBit)
        }
        let expected = contentByLines(octets)
        try same(read.content, expected.flatMap { $0.count <= limit ? $0 : nil }, "the content of \(octets)")
        guard let content = read.content else { return }
        try same(read.hasEightBit, content.contains { $0 > 127 }, "eight bits of \(octets)")
        // What SMTP reads without a fault, once dots are doubled.
        let stuffed = content.split(separator: 10, omittingEmptySubsequences: false).map { line in
            (line.first == 46 ? [46] : []) + line
        }
        let data = Array(stuffed.joined(separator: [10])) + Array(".\r\n".utf8)
        try same(dataOfRFC5321(data)?.content, content, "the content of \(octets), over SMTP")
    }

    private struct ReadContent: Equatable {
        var fault: ContentReader.Fault?
        var line: Int
        var content: [UInt8]?
        var hasEightBit: Bool
    }

    /// Headers, and what the first policies make of a message.
    static let header = FuzzTarget(name: "header", maximumLength: 2048) { octets in
        let buffer = ByteBuffer(bytes: octets)
        let header = HeaderBlock(scanning: buffer)
        var offset = 0
        for field in header.fields {
            try same(field.range.lowerBound, offset, "fields follow each other")
            try hold(
                field.range.contains(field.name.lowerBound) && field.name.upperBound < field.range.upperBound, "name")
            try hold(octets[field.name].allSatisfy { (33...126).contains($0) && $0 != 58 }, "a name's octets")
            try hold(field.range.upperBound <= octets.count, "a field beyond the end")
            offset = field.range.upperBound
        }
        try hold(header.end >= offset && header.end <= octets.count, "the header ends at \(header.end)")
        // More octets change nothing of a header whose end was seen.
        if header.isComplete {
            let more = HeaderBlock(scanning: ByteBuffer(bytes: octets + Array("Bcc: x\r\n\r\n".utf8)))
            try same(more.fields, header.fields, "the fields with more behind them")
            try same(more.end, header.end, "the end with more behind it")
        }
        try checkPolicies(octets)
    }

    /// Points in time as text, against the system's calendar.
    static let date = FuzzTarget(name: "date", maximumLength: 32) { octets in
        var choices = Choices(octets)
        // Years of four digits, and any.
        let milliseconds: Int64 = choices.integer()
        let isFar = choices.flag()
        let time = Timestamp(milliseconds: isFar ? milliseconds : milliseconds % 250_000_000_000_000)
        let offset = Int(choices.integer(Int32.self)) % 100_000
        let minutes = offset / 60
        try same(time.mailDate(offset: offset), systemDate(time.seconds + Int64(minutes * 60), minutes), "\(time)")
        try same(time.isoDate, systemISODate(time), "\(time)")
        let other = Timestamp(milliseconds: choices.integer())
        let difference = other - time
        let sum = time + difference
        if difference.milliseconds != .max, difference.milliseconds != .min {
            try same(sum, other, "\(time) + difference")
        }
        try hold((time < other) == (difference > .zero), "\(time) before \(other)")
        let duration = Duration(
            secondsComponent: choices.integer(), attosecondsComponent: Int64(choices.integer(Int32.self)))
        let later = time + duration
        try hold(duration < .zero ? later <= time : later >= time, "\(time) + \(duration) is \(later)")
        _ = time.localOffset
        let id = QueueID(at: time)
        try same(QueueID(id.description), id, "an id as text")
        if let before = id.predecessor { try hold(before < id, "\(before) before \(id)") }
    }

    /// Base64 and quoted-printable, there and back.
    static let encodings = FuzzTarget(name: "encodings", maximumLength: 1024) { octets in
        let encoded = Base64.encode(octets)
        try same(Base64.decode(encoded.utf8), octets, "base64 of \(octets)")
        try same(encoded.utf8.count, (octets.count + 2) / 3 * 4, "the length of base64")
        if let decoded = Base64.decode(octets) {
            try hold(Base64.encode(decoded).utf8.elementsEqual(octets), "\(octets) is not the base64 of \(decoded)")
        }
        let printable = Array(QuotedPrintable.encode(ByteBuffer(bytes: octets).readableBytesView).readableBytesView)
        try same(decodeQuotedPrintable(printable), octets, "quoted-printable")
        var column = 0
        for (index, octet) in printable.enumerated() {
            try hold((32...126).contains(octet) || [9, 10, 13].contains(octet), "octet \(octet) in quoted-printable")
            if octet == 10 {
                try hold(index > 0 && printable[index - 1] == 13, "a bare LF in quoted-printable")
                column = 0
            } else {
                // With its CR, which the 76 of RFC 2045 do not count.
                column += 1
                try hold(column <= 77, "a line of \(column) octets in quoted-printable")
            }
        }
        let text = String(decoding: octets, as: UTF8.self)
        try hold(text.visible.isVisible, "\(octets) are made visible")
        for limit in [0, 1, 7, octets.count / 2] {
            let cut = text.cut(toOctets: limit)
            try hold(cut.utf8.count <= limit && text.utf8.starts(with: cut.utf8), "\(text) cut to \(limit)")
        }
        if let status = EnhancedStatus(prefixOf: text) {
            try same(EnhancedStatus(prefixOf: status.description), status, "a status printed")
            try hold(text.hasPrefix(status.description), "the status of \(text)")
        }
    }
}

/// The content of DATA, and what is behind its end, where every line ends with CRLF and no CR, LF or NUL is anywhere else;
/// nil if it has no end or something else.
func dataOfRFC5321(_ octets: [UInt8]) -> (content: [UInt8], rest: [UInt8])? {
    var content: [UInt8] = []
    var rest = octets[...]
    while let lineFeed = rest.firstIndex(of: 10) {
        let line = rest[rest.startIndex..<lineFeed]
        guard line.last == 13, !line.dropLast().contains(13), !line.contains(0) else { return nil }
        rest = rest[(lineFeed + 1)...]
        if line.elementsEqual([46, 13]) { return (content, Array(rest)) }
        content += line.first == 46 ? line.dropFirst() : line
        content.append(10)
    }
    return nil
}

/// Lines end with LF, and a CR before it is part of the end; nil: refused.
private func contentByLines(_ octets: [UInt8]) -> [UInt8]? {
    var lines = octets.split(separator: 10, omittingEmptySubsequences: false)
    var content: [UInt8] = []
    if lines.last?.isEmpty == true { lines.removeLast() } else if lines.last?.last == 13 { return nil }
    for line in lines {
        let text = line.last == 13 ? line.dropLast() : line
        guard !text.contains(13), !text.contains(0) else { return nil }
        content += text + [13, 10]
    }
    return content
}

/// What is sent is read as what was to be sent; what cannot be sent as lines is refused.
private func checkStuffing(_ octets: [UInt8]) throws {
    let hasEightBit = octets.contains { $0 > 127 }
    let stuffed = try anyCut(octets) { chunks -> [UInt8]? in
        var stuffer = DotStuffer(allowsEightBit: true)
        var output = ByteBuffer()
        do throws(ContentError) {
            for chunk in chunks { try stuffer.append(chunk, to: &output) }
            try stuffer.finish(into: &output)
        } catch {
            return nil
        }
        return Array(output.readableBytesView)
    }
    var strict = DotStuffer(allowsEightBit: false)
    var output = ByteBuffer()
    let isTaken = (try? strict.append(ByteBuffer(bytes: octets), to: &output)) != nil
    try hold(!isTaken || !hasEightBit, "eight bits for a server without 8BITMIME")
    // Line ends by pairs: no CR or LF is left when all CRLF are gone.
    var hasBare = octets.contains(0)
    for (index, octet) in octets.enumerated() {
        if octet == 13, index + 1 == octets.count || octets[index + 1] != 10 { hasBare = true }
        if octet == 10, index == 0 || octets[index - 1] != 13 { hasBare = true }
    }
    try same(stuffed == nil, hasBare, "whether \(octets) can be sent")
    guard let stuffed else { return }
    let isWhole = octets.isEmpty || octets.suffix(2).elementsEqual([13, 10])
    let read = dataOfRFC5321(stuffed)
    try same(read?.content, isWhole ? octets : octets + [13, 10], "what is read of what was sent")
    try same(read?.rest, [], "something is sent behind the end")
}

/// What the policies let through has a header that ends where it seems to, without Bcc, and is left alone from then on.
private func checkPolicies(_ octets: [UInt8]) throws {
    let envelope = Envelope(
        id: QueueID(high: 1, low: 2), sender: Mailbox(localPart: "c", domain: "d"),
        recipients: [Mailbox(localPart: "a", domain: "b")],
        received: Timestamp(milliseconds: 0), client: ClientInfo(address: "", name: "x", protocolWord: "ESMTP"))
    let context = PolicyContext(hostname: "mx.example.org", now: Timestamp(milliseconds: 0), zoneOffset: 0) { _, id in
        id
    }
    let chain = PolicyChain([any QueuePolicy](), receivedHops: 5)
    guard let mail = try? chain.apply(to: envelope, Message(head: ByteBuffer(bytes: octets)), context) else { return }
    let head = mail.message.head
    let header = HeaderBlock(scanning: head)
    try same(header.fields, mail.header.fields, "the header that is known, and the one that is there")
    try hold(header.isWellFormed, "a header that is not well-formed was let through")
    try hold(!header.has("bcc", in: head) && !header.has("resent-bcc", in: head), "a Bcc was let through")
    try hold(header.fields(named: "received", in: head).count <= 5, "a loop was let through")
    // Raw octets of a header are encoded, what is sent on gets two fields, an empty To its word.
    try hold(head.readableBytes <= 8 * octets.count + 300, "the message has grown")
    guard let again = try? chain.apply(to: envelope, mail.message, context) else {
        throw Broken(description: "what was let through is refused the second time: \(octets)")
    }
    try same(again.message.head, head, "a message that was let through once")
}

/// RFC 5322's date-time by the system's calendar.
private func systemDate(_ local: Int64, _ minutes: Int) -> String {
    var time = time_t(local)
    var fields = tm()
    gmtime_r(&time, &fields)
    let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    let zone = abs(minutes)
    return
        "\(days[Int(fields.tm_wday)]), \(fields.tm_mday) \(months[Int(fields.tm_mon)]) \(Int(fields.tm_year) + 1900) "
        + "\(two(fields.tm_hour)):\(two(fields.tm_min)):\(two(fields.tm_sec)) "
        + "\(minutes < 0 ? "-" : "+")\(two(Int32(zone / 60)))\(two(Int32(zone % 60)))"
}

/// RFC 3339's date-time by the system's calendar.
private func systemISODate(_ timestamp: Timestamp) -> String {
    var time = time_t(timestamp.seconds)
    var fields = tm()
    gmtime_r(&time, &fields)
    let fraction = String(1000 + (timestamp.milliseconds &- timestamp.seconds &* 1000)).dropFirst()
    return "\(Int(fields.tm_year) + 1900)-\(two(fields.tm_mon + 1))-\(two(fields.tm_mday))T"
        + "\(two(fields.tm_hour)):\(two(fields.tm_min)):\(two(fields.tm_sec)).\(fraction)Z"
}

private func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }

/// RFC 2045 section 6.7.
private func decodeQuotedPrintable(_ octets: [UInt8]) -> [UInt8]? {
    var decoded: [UInt8] = []
    var index = 0
    while index < octets.count {
        guard octets[index] == UInt8(ascii: "=") else {
            decoded.append(octets[index])
            index += 1
            continue
        }
        guard index + 2 < octets.count else { return nil }
        if octets[index + 1] != 13 {
            let digits = String(decoding: octets[index + 1...index + 2], as: UTF8.self)
            guard let octet = UInt8(digits, radix: 16), digits == digits.uppercased() else { return nil }
            decoded.append(octet)
        }
        index += 3
    }
    return decoded
}
