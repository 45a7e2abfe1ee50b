// How parameters of a part's fields are written: tokens, quoted strings (RFC 2045 section 5.1), names of files (RFC 2231).

extension FieldWriter {
    /// A parameter behind what is there: as a token, or in quotes.
    mutating func append(parameter name: String, _ value: String) {
        close()
        let isToken = !value.isEmpty && value.utf8.allSatisfy(\.isTokenText)
        append("\(name)=\(isToken ? value : value.quoted)")
    }

    /// The parameter `filename` (RFC 2183 section 2.3), so that every reader gets the same name: what is anything but letters
    /// and a few signs is percent-encoded UTF-8 (RFC 2231 section 4), a long one in pieces (section 3), no scalar cut. Never
    /// both forms, never an encoded word.
    mutating func append(fileName: String) {
        if fileName.utf8.count <= Self.longestParameter, fileName.isPlainFileName {
            return append(parameter: "filename", fileName)
        }
        var pieces = [""]
        for scalar in fileName.unicodeScalars {
            let encoded = scalar.percentEncoded
            if pieces[pieces.count - 1].utf8.count + encoded.utf8.count > Self.longestParameter { pieces.append("") }
            pieces[pieces.count - 1] += encoded
        }
        for (index, piece) in pieces.enumerated() {
            close()
            let number = pieces.count > 1 ? "*\(index)" : ""
            append("filename\(number)*=\(index == 0 ? "UTF-8''" : "")\(piece)")
        }
    }

    private static var longestParameter: Int { 60 }
}

extension Unicode.Scalar {
    /// As it stands in an extended value (RFC 2231 section 7): some readers are confused by signs that need no encoding.
    fileprivate var percentEncoded: String { (UTF8.encode(self) ?? .init()).percentEncoded(except: "._-") }
}

extension String {
    /// Whether every reader takes it out of quotes as it is: single blanks within, nothing to be escaped, nothing that
    /// looks encoded.
    fileprivate var isPlainFileName: Bool {
        var last = UInt8(ascii: " ")
        for octet in utf8 {
            guard octet.isASCIILetterOrDigit || "._-+,@()&!#~[] ".utf8.contains(octet),
                octet != UInt8(ascii: " ") || last != octet
            else { return false }
            last = octet
        }
        return last != UInt8(ascii: " ")
    }
}
