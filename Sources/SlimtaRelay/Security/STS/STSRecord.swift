// What a domain says in DNS of its MTA-STS policy (RFC 8461 section 3.1): that there is one, and which. Read by STSCheck.

import SlimtaMail

/// The TXT record at `_mta-sts.` of a domain.
struct STSRecord: Hashable, Sendable {
    /// What a policy is told apart by from the one before it: 1 to 32 letters and digits.
    let id: String

    /// What the TXT records of the name come to.
    enum Finding: Hashable, Sendable {
        case record(STSRecord)
        /// None is of MTA-STS.
        case absent
        /// There is one too many, or the one is broken: as if there were none.
        case unusable(Fault)
    }

    enum Fault: Error, Hashable, Sendable, CustomStringConvertible {
        case several(Int)
        case noID
        case badID

        var description: String {
            switch self {
            case .several(let count): "\(count) records begin with v=STSv1"
            case .noID: "the record has no id"
            case .badID: "the record's id is not 1 to 32 letters and digits"
            }
        }
    }

    private static let version = Array("v=STSv1;".utf8)

    /// Of all TXT records of the name, the strings of each joined without anything between them: what does not begin with the
    /// version is about something else, and exactly one must be left.
    static func finding(among records: [[UInt8]]) -> Finding {
        let ours = records.filter { $0.starts(with: version) }
        guard let first = ours.first else { return .absent }
        guard ours.count == 1 else { return .unusable(.several(ours.count)) }
        do throws(Fault) { return .record(try STSRecord(parsing: first)) } catch { return .unusable(error) }
    }

    init(id: String) { self.id = id }

    /// Reads one record that begins with the version. Fields that nobody knows are skipped, whatever is in them; of several
    /// ids the first counts.
    private init(parsing text: [UInt8]) throws(Fault) {
        let fields = text.dropFirst(Self.version.count).split(separator: UInt8(ascii: ";"))
        let name = Array("id=".utf8)
        guard let field = fields.lazy.map(Self.trimmed).first(where: { $0.starts(with: name) }) else { throw .noID }
        let id = field.dropFirst(name.count)
        guard (1...32).contains(id.count), id.allSatisfy(\.isASCIILetterOrDigit) else { throw .badID }
        self.id = String(decoding: id, as: UTF8.self)
    }

    /// Without the blanks around it (WSP of RFC 5234).
    private static func trimmed(_ octets: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var octets = octets.drop(while: \.isBlank)
        while octets.last?.isBlank == true { octets.removeLast() }
        return octets
    }
}

extension UInt8 {
    /// A blank or a tab.
    fileprivate var isBlank: Bool { self == UInt8(ascii: " ") || self == UInt8(ascii: "\t") }
}
