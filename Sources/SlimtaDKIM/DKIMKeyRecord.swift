// What a domain says of a key in DNS (RFC 6376 section 3.6.1): read, judged against the key that we sign with, written. Judged
// by what all verifiers take: OpenDKIM, Mail::DKIM and dkimpy differ, and one that refuses is one too many.

import SlimtaMail

/// What DNS answered for a key's name. Whoever asks follows CNAMEs: keys may be kept by somebody else.
package enum DKIMKeyAnswer: Hashable, Sendable {
    /// The TXT records there, the strings of each in one.
    case records([[UInt8]])
    /// No such name, or no TXT record there.
    case absent
    /// Nobody knows: a server failed, none answered, or the answer was forged.
    case failed(String)

    /// The one record there is.
    var record: Result<DKIMKeyRecord, DKIMRecordVerdict> {
        switch self {
        case .failed(let why): return .failure(.unknown(why))
        case .absent: return .failure(.absent)
        case .records(let records):
            guard let first = records.first else { return .failure(.absent) }
            // RFC 6376 section 3.6.2.2 leaves it open which one counts: OpenDKIM says none.
            guard records.count == 1 else { return .failure(.several(records.count)) }
            do throws(DKIMKeyRecord.Fault) {
                let record = try DKIMKeyRecord(parsing: first)
                return record.key.isEmpty ? .failure(.revoked) : .success(record)
            } catch {
                return .failure(.malformed(error))
            }
        }
    }

    /// What that is for mail that is signed with `key`.
    package func judged(for key: DKIMPublicKey) -> DKIMRecordVerdict {
        switch record {
        case .failure(let verdict): verdict
        case .success(let record):
            record.algorithm == key.algorithm && record.key == key.octets
                ? .right(isTesting: record.isTesting) : .otherKey
        }
    }
}

/// Whether verifiers find the key that we sign with.
package enum DKIMRecordVerdict: Error, Hashable, Sendable, CustomStringConvertible {
    /// They do. `isTesting`: and are told that signatures mean nothing yet (`t=y`).
    case right(isTesting: Bool)
    /// There is no record.
    case absent
    /// There are several, of whatever kind: a wildcard's SPF record is enough.
    case several(Int)
    /// One that some verifier does not understand, or understands otherwise.
    case malformed(DKIMKeyRecord.Fault)
    /// The key was taken back (`p=` is empty).
    case revoked
    /// The key there is another.
    case otherKey
    /// DNS does not say.
    case unknown(String)

    /// In words that follow "the record": they go into logs, `status` and `dkim check`.
    package var description: String {
        switch self {
        case .right(isTesting: false): "is right"
        case .right(isTesting: true): "is right, and says t=y: receivers are to treat mail as unsigned"
        case .absent: "is not there"
        case .several(let count): "is one of \(count) TXT records: there may be no other, whatever it is for"
        case .malformed(let fault): "cannot be used: \(fault)"
        case .revoked: "revokes the key"
        case .otherKey: "has another key"
        case .unknown(let why): "is unknown: \(why)"
        }
    }
}

/// The tags of a record.
package struct DKIMKeyRecord: Hashable, Sendable {
    /// `k=`
    package let algorithm: DKIMAlgorithm
    /// `p=`, decoded; empty: revoked.
    package let key: [UInt8]
    /// `t=y`
    package let isTesting: Bool
    /// `t=s`: `i=` has to have the very domain of `d=`.
    package let isStrict: Bool

    /// Why a text is no record, or none for mail that is signed today.
    package enum Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// No list of tags.
        case syntax(String)
        /// No key.
        case missing(String)
        /// A tag that says something else than mail needs.
        case value(String)

        /// In words.
        package var description: String {
            switch self {
            case .syntax(let what): what
            case .missing(let tag): "it has no \(tag)="
            case .value(let tag): "its \(tag)= does not fit"
            }
        }
    }

    /// Reads a record whose strings have been joined. Which parts may be wanting, and in which order they may be, is what all
    /// of three verifiers take.
    package init(parsing text: [UInt8]) throws(Fault) {
        let tags: TagList
        do throws(TagList.Fault) { tags = try TagList(parsing: text) } catch { throw .syntax(error.description) }
        if let version = tags.text("v"), version != "DKIM1" { throw .value("v") }
        let keyType = tags.text("k") ?? "rsa"
        guard let algorithm = DKIMAlgorithm.allCases.first(where: { $0.keyType == keyType }) else { throw .value("k") }
        self.algorithm = algorithm
        if let hashes = tags.parts("h"), !hashes.contains("sha256") { throw .value("h") }
        if let services = tags.parts("s"), !services.contains("*"), !services.contains("email") { throw .value("s") }
        // Of RFC 4871 (section 3.6.1), and gone: who knows it still obeys it.
        if let granularity = tags.text("g"), granularity != "*" { throw .value("g") }
        let flags = tags.parts("t") ?? []
        (isTesting, isStrict) = (flags.contains("y"), flags.contains("s"))
        guard let base64 = tags.withoutSpace("p") else { throw .missing("p") }
        guard let key = Base64.decode(base64) else { throw .value("p") }
        self.key = key
    }
}

extension DKIMPublicKey {
    /// The record that publishes it, as one string.
    package var record: String { "v=DKIM1; k=\(algorithm.keyType); p=\(Base64.encode(octets))" }

    /// The same as a line of a zone file (RFC 1035 section 5.1), in strings of at most 255 octets (section 3.3).
    ///
    /// - Parameter name: whole, without a dot at its end.
    package func zoneLine(_ name: String) -> String {
        var strings: [Substring] = []
        var rest = record[...]
        while !rest.isEmpty {
            strings.append(rest.prefix(255))
            rest = rest.dropFirst(255)
        }
        return "\(name). IN TXT " + strings.map { "\"\($0)\"" }.joined(separator: " ")
    }
}
