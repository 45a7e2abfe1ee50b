// Which parts a message has, and how they are in each other (RFC 2046 section 5.1, RFC 2387). ComposedMessage makes the tree of
// a draft, MIMEWriter writes it.

/// A part of a message.
indirect enum MIMEPart {
    /// text/plain or text/html.
    case text(subtype: String, TextBody)
    case file(MailDraft.Attachment)
    /// `type` is that of the first part, where the kind of multipart names it.
    case multipart(subtype: String, type: String?, [MIMEPart])

    /// mixed( related( alternative( text, html ), inline files ), other files ), each of them only where it is needed.
    init(_ draft: MailDraft, hostname: String) {
        var (inline, others): ([MailDraft.Attachment], [MailDraft.Attachment]) = ([], [])
        var bare: Set<String> = []
        for var file in draft.attachments {
            if let id = file.contentID, !id.utf8.contains(UInt8(ascii: "@")) {
                bare.insert(id)
                file.contentID = "\(id)@\(hostname)"
            }
            // What nothing refers to would not be seen within multipart/related.
            if file.isInline, file.contentID != nil, draft.html != nil {
                inline.append(file)
            } else {
                others.append(file)
            }
        }
        var bodies: [MIMEPart] = []
        if let text = draft.text { bodies.append(.text(subtype: "plain", TextBody(text))) }
        if let html = draft.html {
            let html = bare.isEmpty ? html : ContentIDs.qualified(html, bare, hostname: hostname)
            bodies.append(.text(subtype: "html", TextBody(html)))
        }
        var whole: MIMEPart? = bodies.count == 2 ? .multipart(subtype: "alternative", type: nil, bodies) : bodies.first
        if let root = whole, !inline.isEmpty {
            whole = .multipart(
                subtype: "related", type: bodies.count == 2 ? "multipart/alternative" : "text/html",
                [root] + inline.map { .file($0) })
        }
        if let root = whole, others.isEmpty {
            self = root
        } else {
            self = .multipart(subtype: "mixed", type: nil, (whole.map { [$0] } ?? []) + others.map { .file($0) })
        }
    }
}

/// Identifiers of parts that HTML names by "cid:" (RFC 2392).
package enum ContentIDs {
    /// The HTML with "@" and `hostname` behind each of the identifiers in `bare`, wherever it is named.
    static func qualified(_ html: String, _ bare: Set<String>, hostname: String) -> String {
        var output: [UInt8] = []
        output.reserveCapacity(html.utf8.count)
        var rest = Array(html.utf8)[...]
        while let octet = rest.popFirst() {
            output.append(octet)
            guard octet == UInt8(ascii: ":"),
                output.suffix(4).elementsEqual("cid:".utf8, by: { $0.asciiLowercased() == $1 })
            else { continue }
            let id = rest.prefix(while: isIDText)
            let isWhole = rest[id.endIndex...].first.map { $0 != UInt8(ascii: "@") && $0 != UInt8(ascii: "%") } ?? true
            output += id
            rest = rest[id.endIndex...]
            if isWhole, bare.contains(String(decoding: id, as: UTF8.self)) { output += "@\(hostname)".utf8 }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// An identifier without the "<" and ">" or the "cid:" that it may come with; nil if it is none that HTML can name without
    /// encoding it: letters, digits and some signs, at most one "@" within.
    package static func identifier(_ text: String) -> String? {
        var id = text[...]
        if id.utf8.starts(with: "cid:".utf8) { id = id.dropFirst(4) }
        if id.utf8.first == UInt8(ascii: "<"), id.utf8.last == UInt8(ascii: ">") { id = id.dropFirst().dropLast() }
        let sides = id.utf8.split(separator: UInt8(ascii: "@"), omittingEmptySubsequences: false)
        guard (1...2).contains(sides.count), id.utf8.count <= 200,
            sides.allSatisfy({ side in
                // dot-atom-text (RFC 5322 section 3.2.3)
                side.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
                    .allSatisfy { !$0.isEmpty && $0.allSatisfy(isIDText) }
            })
        else { return nil }
        return String(id)
    }

    private static func isIDText(_ octet: UInt8) -> Bool {
        octet.isASCIILetterOrDigit || "!#$*+-./=?^_{}~".utf8.contains(octet)
    }
}

/// Text as the lines of a part, and which encoding carries it unchanged.
struct TextBody {
    /// Content-Transfer-Encoding (RFC 2045 section 6).
    enum Encoding: String {
        case sevenBit = "7bit"
        case quotedPrintable = "quoted-printable"
        case base64
    }

    /// Each line with CRLF, the last one too.
    let lines: [UInt8]
    let encoding: Encoding

    /// CRLF, LF and CR end a line of `text`.
    init(_ text: String) {
        var lines: [UInt8] = []
        lines.reserveCapacity(text.utf8.count + text.utf8.count / 32 + 2)
        var eightBit = 0
        var isPlain = true
        var start = 0
        func endLine() {
            let line = lines[start...]
            // Blanks at the end are lost on some ways, and a "From " is changed by who keeps mail in a file.
            if line.count > 998 || line.last == 0x20 || line.last == 0x09 || line.starts(with: "From ".utf8) {
                isPlain = false
            }
            lines += "\r\n".utf8
            start = lines.count
        }
        var last: UInt8 = 0
        for octet in text.utf8 {
            switch octet {
            case UInt8(ascii: "\n"): if last != UInt8(ascii: "\r") { endLine() }
            case UInt8(ascii: "\r"): endLine()
            default:
                if octet >= 0x80 { eightBit += 1 } else if octet.isASCIIControl, octet != 0x09 { isPlain = false }
                lines.append(octet)
            }
            last = octet
        }
        if lines.count > start { endLine() }
        self.lines = lines
        encoding = eightBit * 3 > lines.count ? .base64 : isPlain && eightBit == 0 ? .sevenBit : .quotedPrintable
    }
}
