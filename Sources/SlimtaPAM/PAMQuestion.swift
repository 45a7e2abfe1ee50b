// What the daemon asks of the helper that asks PAM, and the octets that it is asked by. PAMBackEnd writes it, PAMConnection
// reads it.

internal import SlimtaHelper

/// Is this password right? By which service it is asked, slimta.conf says, which the helper reads itself.
///
/// As octets: the length of what follows (4 octets, most significant first), a version, then the fields, each behind its
/// length.
package struct PAMQuestion: Hashable, Sendable {
    /// The user's name, 1 to 255 octets.
    package let login: String
    /// 1 to 512 octets; whoever has it overwrites it.
    package var password: [UInt8]
    /// The client's address; nil: it has none.
    package let host: String?

    private static let version: UInt8 = 1
    /// Octets of the longest password: PAM_MAX_RESP_SIZE.
    private static let longestPassword = 512
    /// The most octets of a question.
    package static let limit = 2048

    /// nil: nobody has such a name or password. Modules make names of files of names.
    package init?(login: String, password: [UInt8], host: String?) {
        guard (1...255).contains(login.utf8.count), (1...Self.longestPassword).contains(password.count),
            !password.contains(0), !login.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F || $0 == UInt8(ascii: "/") })
        else { return nil }
        (self.login, self.password, self.host) = (login, password, host)
    }

    /// As octets; whoever has them overwrites them.
    package var octets: [UInt8] {
        var writer = OctetWriter()
        // At once, so that there is no copy that nobody overwrites.
        writer.octets.reserveCapacity(Self.limit)
        writer.octets.append(Self.version)
        writer.text(login)
        writer.text(host ?? "")
        writer.field(password)
        defer { writer.octets.wipe() }
        return writer.frame
    }

    /// What octets say that have come so far.
    package enum Reading: Hashable, Sendable {
        /// Not all of it.
        case more
        /// All of it.
        case question(PAMQuestion)
        /// What is no question.
        case malformed
    }

    /// Reads what has come of a question.
    package static func read(_ octets: [UInt8]) -> Reading {
        var reader: OctetReader
        switch Frame(octets, limit: limit) {
        case .more: return .more
        case .malformed: return .malformed
        case .whole(let whole): reader = whole
        }
        guard reader.octet() == version, let login = reader.text(), let host = reader.text(),
            let password = reader.field(), reader.isAtEnd,
            let question = PAMQuestion(login: login, password: Array(password), host: host.isEmpty ? nil : host)
        else { return .malformed }
        return .question(question)
    }
}
