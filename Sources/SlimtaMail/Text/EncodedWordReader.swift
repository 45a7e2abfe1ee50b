// What a header field says where it is written in encoded words (RFC 2047): conditions on header fields are about that, and
// mail programs write every text outside ASCII so; names of attachments, too. EncodedWord writes them.

import Glibc

/// Reads encoded words.
package struct EncodedWordReader {
    /// What is taken for a word, and what is made of one whose character set nobody knows.
    private enum Manner {
        /// As RFC 2047 has it. What is none, or is in a character set that is not known, stays as it stands.
        case exact
        /// As mail clients do where such words may not even stand: with blanks within them, and with whatever base64 is not
        /// of its alphabet. Of unknown character sets the ASCII is right, which is what is asked for in names: their extension.
        case tolerant
    }

    /// One word, or several with nothing but blanks between them, which are read as one text (RFC 2047 section 6.2): programs
    /// cut characters in two.
    private struct Run {
        var charset: String
        var text: [UInt8]
        var range: Range<Int>
    }

    /// Those besides UTF-8, ASCII and Latin-1 that iconv(3) is asked for: a client does not choose which code of the system's
    /// library reads its octets.
    private static let charsets = Set(
        [
            "big5", "euc-jp", "euc-kr", "gb18030", "gb2312", "gbk", "iso-2022-jp", "koi8-r", "koi8-u", "shift_jis",
            "tis-620",
        ] + (2...16).map { "iso-8859-\($0)" } + (1250...1258).map { "windows-\($0)" })

    /// iconv's converters that have been opened. To open one takes longer than to read a thousand words: a header that changes
    /// its character set from word to word would take seconds.
    package final class Converters {
        private var opened: [String: iconv_t?] = [:]

        /// None yet.
        package init() {}

        /// How many there are.
        package var count: Int { opened.count }

        deinit { for case let converter? in opened.values { iconv_close(converter) } }

        /// The one that reads a character set, from its beginning; nil: the system has none.
        fileprivate func converter(from charset: String) -> iconv_t? {
            if let known = opened[charset] {
                if let known { iconv(known, nil, nil, nil, nil) }
                return known
            }
            let converter = iconv_open("UTF-8", charset)
            opened[charset] = .some(Int(bitPattern: converter) == -1 ? nil : converter)
            return opened[charset] ?? nil
        }
    }

    private let octets: [UInt8]
    /// Nil: no character set is read that needs one.
    private let converters: Converters?
    private let manner: Manner

    /// `value` as a reader's program shows it; nil: it has no encoded word. Takes a time in proportion to its length.
    ///
    /// - Parameter converters: the same for all that is read at once.
    package static func decoded(_ value: String, by converters: Converters = Converters()) -> String? {
        guard value.utf8Contains("=?") else { return nil }
        let decoded = EncodedWordReader(octets: Array(value.utf8), converters: converters, manner: .exact).text
        return decoded == value ? nil : decoded
    }

    /// A name as mail clients show it, with all that they take for encoded words.
    package static func name(_ octets: [UInt8]) -> String {
        EncodedWordReader(octets: octets, converters: nil, manner: .tolerant).text
    }

    /// A name in a character set: the ASCII of it is right, whatever the set is.
    package static func name(_ octets: [UInt8], charset: String) -> String {
        let reader = EncodedWordReader(octets: [], converters: nil, manner: .tolerant)
        return String(decoding: reader.utf8(octets, charset) ?? octets, as: UTF8.self)
    }

    private var text: String {
        var (output, index, run) = ([UInt8](), 0, Run?.none)
        func close() {
            guard let ended = run else { return }
            run = nil
            output += utf8(ended.text, ended.charset) ?? Array(octets[ended.range])
        }
        while index < octets.count {
            let blanks = octets[index...].prefix { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
            if let word = word(at: blanks.endIndex), run != nil || blanks.isEmpty {
                if var longer = run, longer.charset == word.charset {
                    // Its text is not copied for each word.
                    run = nil
                    longer.text += word.text
                    longer.range = longer.range.lowerBound..<word.range.upperBound
                    run = longer
                } else {
                    close()
                    run = word
                }
                index = word.range.upperBound
            } else {
                close()
                output += blanks
                if blanks.isEmpty { output.append(octets[index]) }
                index += max(1, blanks.count)
            }
        }
        close()
        return String(decoding: output, as: UTF8.self)
    }

    /// "=?charset*language?encoding?text?=" (RFC 2231 section 5); nil: there is none.
    private func word(at start: Int) -> Run? {
        guard octets[start...].starts(with: "=?".utf8),
            let charsetEnd = end(of: start + 2), charsetEnd > start + 2,
            let encodingEnd = end(of: charsetEnd + 1), encodingEnd == charsetEnd + 2,
            let textEnd = end(of: encodingEnd + 1), octets[textEnd...].starts(with: "?=".utf8)
        else { return nil }
        let content = octets[(encodingEnd + 1)..<textEnd]
        let text: [UInt8]?
        switch octets[charsetEnd + 1] {
        case UInt8(ascii: "q"), UInt8(ascii: "Q"):
            // Section 4.2.
            text = content.unescaped(by: UInt8(ascii: "=")) { $0 == UInt8(ascii: "_") ? UInt8(ascii: " ") : $0 }
        case UInt8(ascii: "b"), UInt8(ascii: "B"):
            guard manner == .exact else {
                text = Base64.decode(anyOf: content)
                break
            }
            // Padding that is missing is what programs forget.
            let letters = content.prefix { $0 != UInt8(ascii: "=") }
            text = Base64.decode(letters + [UInt8](repeating: UInt8(ascii: "="), count: (4 - letters.count % 4) % 4))
        default: text = nil
        }
        guard let text else { return nil }
        let name = octets[(start + 2)..<charsetEnd].prefix { $0 != UInt8(ascii: "*") }
        return Run(
            charset: String(decoding: name, as: UTF8.self).asciiLowercased(), text: text, range: start..<(textEnd + 2))
    }

    /// Where the part that begins at `start` has its "?": no part has blanks.
    private func end(of start: Int) -> Int? {
        let isExact = manner == .exact
        guard start < octets.count,
            let end = octets[start...].firstIndex(where: {
                $0 == UInt8(ascii: "?") || isExact && $0 <= UInt8(ascii: " ")
            })
        else { return nil }
        return octets[end] == UInt8(ascii: "?") ? end : nil
    }

    /// In UTF-8; nil: nobody knows the character set.
    private func utf8(_ text: [UInt8], _ charset: String) -> [UInt8]? {
        switch charset {
        case "utf-8", "utf8", "us-ascii", "ascii": text
        case "iso-8859-1", "latin1": text.flatMap { Array(String(UnicodeScalar($0)).utf8) }
        default:
            switch manner {
            case .exact: Self.charsets.contains(charset) ? converted(text, charset) : nil
            case .tolerant: text
            }
        }
    }

    private func converted(_ text: [UInt8], _ charset: String) -> [UInt8]? {
        guard let converter = converters?.converter(from: charset) else { return nil }
        var text = text
        // No character of these takes more octets in UTF-8 than four times its own.
        var output = [UInt8](repeating: 0, count: 4 * text.count + 16)
        let room = output.count
        let written = text.withUnsafeMutableBytes { input in
            output.withUnsafeMutableBytes { output -> Int in
                var from = input.baseAddress?.assumingMemoryBound(to: CChar.self)
                var to = output.baseAddress?.assumingMemoryBound(to: CChar.self)
                var (left, space) = (input.count, room)
                // What is no character is left out.
                while left > 0, iconv(converter, &from, &left, &to, &space) == -1, errno == EILSEQ,
                    left > 0
                {
                    from = from?.advanced(by: 1)
                    left -= 1
                }
                return room - space
            }
        }
        return Array(output.prefix(written))
    }
}
