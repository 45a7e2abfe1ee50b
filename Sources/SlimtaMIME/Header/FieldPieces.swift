// A field while it is written anew: pieces with the blanks before them, and where its lines are folded (RFC 5322 section
// 2.2.3). FieldEncoder fills it.

internal import SlimtaMail

/// What a field's value consists of, in order.
struct FieldPieces {
    /// Octets of a line (RFC 2047 section 2), but for what is longer in one piece.
    private static let width = 76
    /// Octets of an encoded word. RFC 2047 section 2 allows 75; what stands next to it without a blank shares its line.
    private static let longestEncoded = 70

    /// Text that is not folded within.
    private struct Piece {
        let blank: [UInt8]
        var text: [UInt8]
    }

    /// A word of what may have encoded words in it: unstructured text, a phrase, a comment.
    struct Word {
        /// The blanks before it, without line ends.
        var blank: [UInt8]
        /// As it stands there.
        var raw: [UInt8]
        /// What it says: without quotes, for one.
        var text: [UInt8]

        /// Beyond that a word is encoded, so that it can be cut: no line may have more than 998 octets.
        private static let longest = 900

        /// Whether it may not stay as it is.
        var mustChange: Bool { raw.contains { $0 >= 0x80 } || raw.count > Self.longest }

        /// Whether readers may take it for an encoded word, and the blanks to another one for none (RFC 2047 section 6.2).
        var looksEncoded: Bool { raw.contains("=?".utf8) }
    }

    private let name: [UInt8]
    private var pieces: [Piece] = []

    /// - Parameter name: as it is written before the colon.
    init(name: [UInt8]) { self.name = name }

    /// Puts text behind what is there, without a blank: on the same line.
    mutating func append(_ text: some Sequence<UInt8>, blank: [UInt8] = []) {
        if blank.isEmpty, !pieces.isEmpty {
            pieces[pieces.count - 1].text += text
        } else {
            pieces.append(Piece(blank: blank, text: Array(text)))
        }
    }

    /// Octets for a word behind `blank`, as far as the first line is known.
    private func room(behind blank: [UInt8]) -> Int {
        pieces.isEmpty ? Self.width - name.count - 1 - blank.count : Self.width
    }

    /// Puts words behind what is there; those that must change become encoded words, together where one follows another.
    ///
    /// - Returns: whether the last one was encoded, and has to stand apart from what follows.
    @discardableResult
    mutating func append(_ words: [Word]) -> Bool {
        var index = 0
        var wasEncoded = false
        while index < words.count {
            let word = words[index]
            guard word.mustChange else {
                // What readers take for encoded has to stand apart from ours.
                append(word.raw, blank: wasEncoded && word.blank.isEmpty ? [0x20] : word.blank)
                wasEncoded = false
                index += 1
                continue
            }
            // A blank that a reader would drop is put into the word.
            var text = index > 0 && words[index - 1].looksEncoded ? word.blank : []
            text += word.text
            var next = index + 1
            while next < words.count, words[next].mustChange {
                text += words[next].blank + words[next].text
                next += 1
            }
            if next < words.count, words[next].looksEncoded { text += words[next].blank }
            let blank = word.blank.isEmpty && index > 0 ? [0x20] : word.blank
            let encoded = EncodedWord.words(text, room: room(behind: blank), limit: Self.longestEncoded)
            for (number, encoded) in encoded.enumerated() {
                append(encoded.utf8, blank: number == 0 ? blank : [0x20])
            }
            wasEncoded = true
            index = next
        }
        return wasEncoded
    }

    /// The field with its lines, each with CRLF; nil: a line would have more than 998 octets. Nothing is folded right behind
    /// the colon: some readers take the blank of the line that follows for part of the text.
    func field(trailing blank: [UInt8] = []) -> [UInt8]? {
        var octets = name + [UInt8(ascii: ":")]
        var column = octets.count
        for (index, piece) in pieces.enumerated() {
            if index > 0, column + piece.blank.count + piece.text.count > Self.width {
                octets += "\r\n".utf8
                column = 0
            }
            octets += piece.blank
            octets += piece.text
            column += piece.blank.count + piece.text.count
            guard column <= 998 else { return nil }
        }
        octets += blank
        return column + blank.count <= 998 ? octets + "\r\n".utf8 : nil
    }
}
