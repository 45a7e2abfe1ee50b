// Texts with `*` and `?` in them, for whoever names many things at once: conditions of rules, logins of [[senders]].

/// A text that stands for others: `*` for any number of characters, `?` for one. Compared octet for octet.
package struct Glob: Hashable, Sendable, CustomStringConvertible {
    /// As it was written.
    package let description: String

    /// What `text` stands for; without `*` and `?` that is itself.
    package init(_ text: String) { description = text }

    /// Whether it stands for all of `text`.
    package func matches(_ text: String) -> Bool { Self.matches(Array(text.utf8)[...], Array(description.utf8)[...]) }

    /// As ``matches(_:)``, in octets of UTF-8.
    ///
    /// In time that is the product of both lengths at most: a `*` that did not work out is tried one octet further, and
    /// only the last one.
    package static func matches(_ text: ArraySlice<UInt8>, _ glob: ArraySlice<UInt8>) -> Bool {
        var (t, g) = (text.startIndex, glob.startIndex)
        var retry: (t: Int, g: Int)?
        while t < text.endIndex {
            if g < glob.endIndex, glob[g] == UInt8(ascii: "*") {
                g += 1
                retry = (t, g)
            } else if g < glob.endIndex, glob[g] == UInt8(ascii: "?") {
                t = text[(t + 1)...].firstIndex { $0 & 0xC0 != 0x80 } ?? text.endIndex
                g += 1
            } else if g < glob.endIndex, glob[g] == text[t] {
                (t, g) = (t + 1, g + 1)
            } else if let last = retry {
                (t, g) = (last.t + 1, last.g)
                retry = (t, g)
            } else {
                return false
            }
        }
        return glob[g...].allSatisfy { $0 == UInt8(ascii: "*") }
    }
}
