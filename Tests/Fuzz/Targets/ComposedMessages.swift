// Messages that come as JSON, and what is made of them: no request may make a message that somebody else reads otherwise.

import NIOCore
import SlimtaMail
import SlimtaNet

@testable import SlimtaEdge

extension FuzzTarget {
    /// A request, and the message that it becomes.
    static let message = FuzzTarget(name: "message", maximumLength: 4000) { octets in
        let now = Timestamp(milliseconds: 1_795_255_200_000)
        let request: MessageRequest
        do throws(RequestFaults) {
            request = try MessageRequest(reading: ByteBuffer(bytes: octets), recipientLimit: 20, now: now)
        } catch {
            try hold(!error.faults.isEmpty && error.faults.count <= 100, "\(error.faults.count) faults")
            for fault in error.faults {
                try hold(fault.pointer.hasPrefix("#") && fault.pointer.isASCII, "the pointer \(fault.pointer.visible)")
                try hold(fault.detail.isVisible && !fault.detail.isEmpty, "the detail \(fault.detail.visible)")
            }
            return
        }
        try hold((1...20).contains(request.recipients.count), "\(request.recipients.count) recipients")
        try hold(request.sendAt.map { $0 > now } ?? true, "sent before now")
        let frame = ComposedMessage.Frame(
            hostname: "h.example", date: now, zoneOffset: 0, id: QueueID(high: 1, low: 2), boundary: (3, 4))
        let message = ComposedMessage(request.draft, frame)
        var whole = ByteBuffer()
        for var piece in message { whole.writeBuffer(&piece) }
        try same(whole.readableBytes, message.size, "the size")
        try checkLines(whole, allowsUTF8: message.needsSMTPUTF8)
        try checkHeader(whole, of: request.draft)
        try same(
            try parts(of: whole).filter { $0.disposition != nil }.count, request.draft.attachments.count, "attachments")
    }

    /// Lines that end with CRLF, none too long; ASCII without controls, but for names.
    private static func checkLines(_ whole: ByteBuffer, allowsUTF8: Bool) throws {
        var lines = whole.readableBytesView.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        try hold(lines.popLast()?.isEmpty == true, "no end of the last line")
        for line in lines {
            try hold(line.last == UInt8(ascii: "\r"), "a line without CR")
            let text = line.dropLast()
            try hold(text.count <= 998, "a line of \(text.count) octets")
            try hold(text.allSatisfy { !$0.isASCIIControl || $0 == 0x09 }, "a control in a line")
            try hold(allowsUTF8 || text.allSatisfy { $0 < 0x80 }, "a line that is not ASCII")
        }
    }

    /// Every field that is in it was meant to be, once.
    private static func checkHeader(_ whole: ByteBuffer, of draft: MailDraft) throws {
        let header = HeaderBlock(scanning: whole)
        try hold(header.isWellFormed && header.isComplete, "no header")
        let names = header.fields.map {
            String(buffer: whole.getSlice(at: $0.name.lowerBound, length: $0.name.count) ?? .init()).asciiLowercased()
        }
        try same(Set(names).count, names.count, "fields")
        var expected: Set = ["date", "from", "message-id", "mime-version", "content-type"]
        expected.formUnion(draft.fields.map { $0.name.asciiLowercased() })
        expected.formUnion(["to", "cc", "reply-to", "subject", "content-transfer-encoding"].filter(names.contains))
        try same(Set(names), expected, "names of fields")
    }

    private struct Part {
        var disposition: String?
    }

    /// The leaves, as a reader finds them by the boundaries.
    private static func parts(of whole: ByteBuffer) throws -> [Part] {
        let header = HeaderBlock(scanning: whole)
        func value(_ name: StaticString) -> String? {
            header.fields(named: name, in: whole).first.map {
                String(buffer: whole.getSlice(at: $0.range.lowerBound, length: $0.range.count) ?? .init())
            }
        }
        let type = value("content-type") ?? ""
        guard type.contains("multipart/"), let start = type.firstRange(of: "boundary=\"")?.upperBound else {
            return [Part(disposition: value("content-disposition"))]
        }
        let delimiter = "--" + type[start...].prefix { $0 != "\"" }
        let lines = String(decoding: whole.readableBytesView.dropFirst(header.end), as: UTF8.self)
            .split(separator: "\r\n", omittingEmptySubsequences: false)
        var (parts, current) = ([Part](), [Substring]?.none)
        for line in lines {
            guard line == delimiter || line == delimiter + "--" else {
                current?.append(line)
                continue
            }
            if let current {
                parts += try self.parts(of: ByteBuffer(string: current.joined(separator: "\r\n") + "\r\n"))
            }
            current = line == delimiter ? [] : nil
        }
        try hold(current == nil, "no end of a multipart")
        return parts
    }
}
