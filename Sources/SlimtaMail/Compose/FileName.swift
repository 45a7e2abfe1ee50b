// Names of attachments as recipients may have them: no path, no hidden file, one spelling. Called by who makes a draft.

@_spi(_Unicode) internal import Swift

/// Names of files that come with a message (RFC 2183 section 2.3).
package enum FileName {
    /// Octets of the longest name that file systems keep.
    private static let limit = 255

    /// The last part of `text` where that is a path, without dots and blanks at its beginning, composed (NFC), and cut to 255
    /// octets; nil if nothing is left. `text` has no controls.
    package static func sanitised(_ text: String) -> String? {
        guard let last = text.unicodeScalars.split(whereSeparator: { $0 == "/" || $0 == "\\" }).last else { return nil }
        let bare = last.drop { $0 == "." || $0.properties.isWhitespace }
        var composed = String.UnicodeScalarView()
        for scalar in String(bare)._nfc { composed.append(scalar) }
        var name = String(composed).cut(toOctets: limit).unicodeScalars[...]
        while name.last?.properties.isWhitespace == true { name.removeLast() }
        return name.isEmpty ? nil : String(name)
    }
}
