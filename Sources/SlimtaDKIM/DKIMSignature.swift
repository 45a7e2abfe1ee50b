// What a DKIM-Signature field says (RFC 6376 section 3.5), and its strict reader: ours is read back with it before anybody
// gets it. Writing is in DKIMSignature+Field.swift.

import SlimtaMail

/// The tags of a signature.
package struct DKIMSignature: Hashable, Sendable {
    /// `a=`
    package var algorithm: DKIMAlgorithm
    /// `c=`
    package var canonicalizations: Canonicalizations
    /// `d=`: who answers for the message. In lower case.
    package var domain: String
    /// `s=`: which of its keys. In lower case.
    package var selector: String
    /// `t=`: when it was made, in seconds since 1970.
    package var time: Int64?
    /// `x=`: when it ends to count.
    package var expiration: Int64?
    /// `h=`: the names of the signed fields in lower case, one for each mention.
    package var names: [String]
    /// `bh=`
    package var bodyHash: [UInt8]
    /// `b=`; empty as long as there is none.
    package var signature: [UInt8] = []
    /// The domain of `i=`, in lower case; without one that is ``domain``.
    package var identityDomain: String?
    /// `l=`: so many octets of the body are all that is signed. We never do that.
    package var bodyLength: Int64?

    /// The longest number in `t=` and `x=` (RFC 6376 section 3.5 has "at least 12 digits"; x= has 12).
    static let latest: Int64 = 999_999_999_999
}

extension DKIMSignature {
    /// Why a field is no signature that could be verified (RFC 6376 section 6.1.1).
    package enum Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// No list of tags.
        case syntax(String)
        /// A tag that has to be there is not.
        case missing(String)
        /// A tag says what it may not, or what we cannot do.
        case value(String)

        /// In words.
        package var description: String {
            switch self {
            case .syntax(let what): what
            case .missing(let tag): "no \(tag)="
            case .value(let tag): "\(tag)= says what it may not"
            }
        }
    }

    /// Reads a field from its name to its last line end.
    package init(parsing field: [UInt8]) throws(Fault) {
        try self.init(Self.tags(of: field))
    }

    /// The tags of a field.
    static func tags(of field: [UInt8]) throws(Fault) -> TagList {
        guard let colon = field.firstIndex(of: UInt8(ascii: ":")) else { throw .syntax("no field") }
        var value = field[(colon + 1)...]
        if value.suffix(2) == [UInt8(ascii: "\r"), UInt8(ascii: "\n")] { value = value.dropLast(2) }
        do throws(TagList.Fault) { return try TagList(parsing: Array(value)) } catch {
            throw .syntax(error.description)
        }
    }

    init(_ tags: TagList) throws(Fault) {
        func value(_ name: String) throws(Fault) -> String {
            guard let text = tags.text(name), !text.isEmpty else { throw .missing(name) }
            return text
        }
        guard try value("v") == "1" else { throw .value("v") }
        guard let algorithm = try DKIMAlgorithm(rawValue: value("a")) else { throw .value("a") }
        self.algorithm = algorithm
        canonicalizations = try Self.canonicalizations(tags.text("c"))
        domain = try value("d").asciiLowercased()
        guard Self.isName(domain), domain.utf8.contains(UInt8(ascii: ".")) else { throw .value("d") }
        selector = try value("s").asciiLowercased()
        guard Self.isName(selector) else { throw .value("s") }
        time = try Self.number(tags, "t")
        expiration = try Self.number(tags, "x")
        if let time, let expiration, expiration <= time { throw .value("x") }
        names = try Self.names(tags)
        bodyHash = try Self.octets(tags, "bh")
        guard bodyHash.count == 32 else { throw .value("bh") }
        signature = try Self.octets(tags, "b")
        identityDomain = try Self.identityDomain(tags, of: domain)
        if let methods = tags.parts("q"), !methods.contains("dns/txt") { throw .value("q") }
        guard let length = tags.text("l") else { return }
        guard !length.isEmpty, length.utf8.count <= 76, length.utf8.allSatisfy(\.isASCIIDigit) else {
            throw .value("l")
        }
        bodyLength = Int64(length) ?? .max
    }

    /// `c=`: without one, and without its second half, that is simple.
    private static func canonicalizations(_ text: String?) throws(Fault) -> Canonicalizations {
        let parts = (text ?? "simple").split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let header = Canonicalization(rawValue: String(parts[0])),
            let body = Canonicalization(rawValue: parts.count == 2 ? String(parts[1]) : "simple")
        else { throw .value("c") }
        return Canonicalizations(header: header, body: body)
    }

    private static func number(_ tags: TagList, _ name: String) throws(Fault) -> Int64? {
        guard let text = tags.text(name) else { return nil }
        guard (1...12).contains(text.utf8.count), text.utf8.allSatisfy(\.isASCIIDigit), let number = Int64(text) else {
            throw .value(name)
        }
        return number
    }

    private static func octets(_ tags: TagList, _ name: String) throws(Fault) -> [UInt8] {
        guard let text = tags.withoutSpace(name), !text.isEmpty else { throw .missing(name) }
        guard let octets = Base64.decode(text) else { throw .value(name) }
        return octets
    }

    /// The names of the fields that a signature is about, in lower case, by the value of its field: also of one by algorithms
    /// that we do not know. None of what no verifier can read.
    package static func signedNames(in value: some Sequence<UInt8>) -> [String] {
        let tags = try? TagList(parsing: Array(value))
        return tags?.parts("h")?.map { $0.asciiLowercased() } ?? []
    }

    /// `h=`: names as fields have them, From among them.
    private static func names(_ tags: TagList) throws(Fault) -> [String] {
        guard let names = tags.parts("h")?.map({ $0.asciiLowercased() }) else { throw .missing("h") }
        guard names.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (33...126).contains($0) } }),
            names.contains("from")
        else { throw .value("h") }
        return names
    }

    /// `i=`: an address, of which all but the "@" and the domain may be missing. The domain is that of `d=` or below it.
    private static func identityDomain(_ tags: TagList, of domain: String) throws(Fault) -> String? {
        guard let text = tags.text("i") else { return nil }
        guard let at = text.utf8.lastIndex(of: UInt8(ascii: "@")) else { throw .value("i") }
        let identity = String(text[text.utf8.index(after: at)...]).asciiLowercased()
        guard isName(identity), identity == domain || identity.hasSuffix("." + domain) else { throw .value("i") }
        return identity
    }

    /// Labels of letters, digits, hyphens and underscores, as DNS is asked for them; none of them empty.
    static func isName(_ name: String) -> Bool {
        name.utf8.count <= 253
            && name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
                (1...63).contains(label.count) && label.allSatisfy { $0.isASCIILetterOrDigit || "-_".utf8.contains($0) }
            }
    }
}
