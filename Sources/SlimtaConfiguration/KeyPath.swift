// Key paths as messages show them: `edge[1].listen[0]`. The line index and the reader of the values meet in these
// texts, so both make them here.

internal import SlimtaMail

enum KeyPath {
    /// `key` within the table at `path`; the root's path is empty.
    static func joining(_ path: String, _ key: String) -> String {
        let key = isBare(key) ? key : quoted(key)
        return path.isEmpty ? key : "\(path).\(key)"
    }

    /// Element `index` of the array at `path`.
    static func element(_ path: String, _ index: Int) -> String { "\(path)[\(index)]" }

    /// TOML's bare keys.
    static func isBareOctet(_ octet: UInt8) -> Bool {
        octet.isASCIILetterOrDigit || "-_".utf8.contains(octet)
    }

    private static func isBare(_ key: String) -> Bool { !key.isEmpty && key.utf8.allSatisfy(isBareOctet) }

    /// In quotes, on one line, visible, and no longer than a message bears: as TOML itself would have it.
    static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars.prefix(80) {
            switch scalar {
            case "\"", "\\": quoted += "\\\(scalar)"
            case "\n": quoted += "\\n"
            case "\r": quoted += "\\r"
            case "\t": quoted += "\\t"
            case _ where !scalar.isVisible:
                let (letter, digits) = scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
                quoted += "\\\(letter)" + String(hexadecimal: scalar.value, digits: digits)
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + (text.unicodeScalars.count > 80 ? "...\"" : "\"")
    }
}
