// The one form of a login in which it is looked up, counted and logged. Every mechanism brings its names through here.

internal import SlimtaMail

/// Names of users as clients write them.
package enum LoginName {
    /// Octets of the longest.
    package static let maximumLength = 255

    /// A name without the blanks around it that were pasted along, in the form that RFC 8265 section 3.4 has for it. One
    /// that has no such form, with a blank in it for instance, stays as it is: users may be called so for long. Case is
    /// for the back end.
    ///
    /// Refuses what is no UTF-8, too long, or would not stay in its line of a log.
    package static func normalized(_ octets: some Collection<UInt8>) throws(SASLFault) -> String {
        guard octets.count <= maximumLength, let text = String(validating: octets, as: UTF8.self), !text.hasControls
        else { throw .invalidUsernameEncoding }
        let name = text.utf8.drop { $0 == 0x20 }
        let end = name.lastIndex { $0 != 0x20 }.map { name.index(after: $0) } ?? name.startIndex
        let trimmed = name[..<end]
        guard !trimmed.isEmpty else { throw .noCredentials }
        let prepared = trimmed.allSatisfy { $0 < 0x80 } ? nil : PRECIS.usernameCasePreserved(trimmed)
        return prepared.map { String(decoding: $0, as: UTF8.self) } ?? String(decoding: trimmed, as: UTF8.self)
    }
}

extension [Unicode.Scalar] {
    /// The characters of UTF-8; nil if it is none.
    init?(utf8 octets: some Collection<UInt8>) {
        guard let text = String(validating: octets, as: UTF8.self) else { return nil }
        self = Array(text.unicodeScalars)
    }

    /// As UTF-8.
    var utf8: [UInt8] { [UInt8](String(String.UnicodeScalarView(self)).utf8) }
}
