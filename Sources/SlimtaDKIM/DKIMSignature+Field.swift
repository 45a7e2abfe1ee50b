// DKIM-Signature fields as we write them (RFC 6376 section 3.5): tags in one order, folded so that no line is long and no value
// is cut that programs read carelessly. What is hashed is what is written, folds and all.

import SlimtaMail

extension DKIMSignature {
    /// The field up to and including `b=`, without a line end: what is signed of it.
    var unsignedField: [UInt8] {
        var line = FoldedLine("DKIM-Signature:")
        line.append("v=1;")
        line.append("a=\(algorithm.rawValue);")
        line.append("c=\(canonicalizations);")
        line.append("d=\(domain);")
        line.append("s=\(selector);")
        if let time { line.append("t=\(time);") }
        if let expiration { line.append("x=\(expiration);") }
        for (place, name) in names.enumerated() {
            let end = place + 1 < names.count ? ":" : ";"
            if place == 0 { line.append("h=\(name)\(end)") } else { line.continue("\(name)\(end)") }
        }
        line.append("bh=\(Base64.encode(bodyHash));")
        line.fold()
        line.continue("b=")
        return line.octets
    }

    /// The whole field with its last line end.
    package var field: [UInt8] { field(behind: unsignedField) }

    /// The same, where ``unsignedField`` is at hand.
    func field(behind unsignedField: [UInt8]) -> [UInt8] {
        var field = unsignedField
        var rest = Base64.encode(signature).utf8[...]
        while true {
            field += rest.prefix(Self.base64Width)
            rest = rest.dropFirst(Self.base64Width)
            guard !rest.isEmpty else { break }
            field += FoldedLine.fold
        }
        return field + "\r\n".utf8
    }

    private static let base64Width = 72
}

/// A field while it is written.
private struct FoldedLine {
    /// RFC 5322 section 2.1.1.
    private static let width = 78
    static let fold = "\r\n\t".utf8
    /// Most fields are no longer.
    private static let usual = 1024

    private(set) var octets: [UInt8]
    private var column: Int

    init(_ start: String) {
        octets = Array(start.utf8)
        column = octets.count
        octets.reserveCapacity(Self.usual)
    }

    /// A word behind a blank, or on a line of its own if there is no room. It is never cut, however long it is.
    mutating func append(_ word: String) {
        if column + 1 + word.utf8.count > Self.width {
            fold()
        } else {
            octets.append(UInt8(ascii: " "))
            column += 1
        }
        put(word)
    }

    /// More of the word before: behind it, or on a line that shows by its blank that it goes on.
    mutating func `continue`(_ part: String) {
        if column + part.utf8.count > Self.width {
            fold()
            put(" ")
        }
        put(part)
    }

    /// Goes to a new line. Nothing blank is left at the end of the last one.
    mutating func fold() {
        octets += Self.fold
        column = 1
    }

    private mutating func put(_ text: String) {
        octets += text.utf8
        column += text.utf8.count
    }
}
