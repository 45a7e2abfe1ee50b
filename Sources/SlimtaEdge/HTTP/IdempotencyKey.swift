// The field Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07): what is one, and the digests that a submission is
// known by. The HTTP edge reads it of every submission, raw and JSON.

import SlimtaCrypto
package import SlimtaQueue

/// The name that a client gives to a submission, so that it can make it again and nothing happens twice.
package struct IdempotencyKey: Hashable, Sendable {
    /// 1 to 255 visible ASCII characters: the value of a structured field String (RFC 8941 section 3.3.3), or the field's
    /// whole text, which is what almost everybody sends. The same text is the same key.
    package let text: String

    /// What is wrong with the field, as the client is told.
    package struct Mistake: Error, Hashable, Sendable {
        /// A sentence without a full stop.
        package let text: String
    }

    /// The most characters of a key.
    static let limit = 255

    /// Of all fields with the name in a request; nil: there is none.
    package init?(fields: [String]) throws(Mistake) {
        guard let field = fields.first else { return nil }
        guard fields.count == 1 else { throw Mistake(text: "Idempotency-Key is there \(fields.count) times") }
        // Blanks around it are not part of a field's value (RFC 9110 section 5.5).
        let isBlank = { (octet: UInt8) in octet == 0x20 || octet == 0x09 }
        let value = Array(Array(field.utf8.drop(while: isBlank)).reversed().drop(while: isBlank).reversed())
        let key = value.first == UInt8(ascii: "\"") ? try Self.unquoted(value) : value
        guard !key.isEmpty else { throw Mistake(text: "Idempotency-Key is empty") }
        guard key.count <= Self.limit else {
            throw Mistake(text: "Idempotency-Key has \(key.count) characters, at most \(Self.limit) are allowed")
        }
        guard key.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw Mistake(text: "Idempotency-Key may only have visible ASCII characters, without blanks")
        }
        text = String(decoding: key, as: UTF8.self)
    }

    /// What is between the quotes (RFC 8941 section 4.2.5).
    private static func unquoted(_ value: [UInt8]) throws(Mistake) -> [UInt8] {
        var key: [UInt8] = []
        var place = 1
        while place < value.count {
            switch value[place] {
            case UInt8(ascii: "\""):
                guard place == value.count - 1 else {
                    throw Mistake(text: "Idempotency-Key has something behind its closing quote")
                }
                return key
            case UInt8(ascii: "\\"):
                place += 1
                guard place < value.count, [UInt8(ascii: "\""), UInt8(ascii: "\\")].contains(value[place]) else {
                    throw Mistake(text: "Idempotency-Key has a backslash before neither a quote nor a backslash")
                }
                key.append(value[place])
            default: key.append(value[place])
            }
            place += 1
        }
        throw Mistake(text: "Idempotency-Key has no closing quote")
    }
}

/// Whose submissions are told apart.
package enum Submitter: Hashable, Sendable {
    /// Who logged in, by name.
    case login(String)
    /// A user of this machine, whom the kernel vouches for, by name: not the same as who logs in with that name.
    case localUser(String)
    /// Nobody who is known: a client's network at an edge.
    case client(edge: String, network: String)

    /// As receipts have it. Those without a key are an account of their own: however many there are, no key goes for them.
    package func owner(hasKey: Bool) -> Receipt.Owner { Receipt.Owner(digest(hasKey ? "key" : "message")) }

    /// What it can ask for: all of its receipts.
    package var owners: [Receipt.Owner] { [owner(hasKey: true), owner(hasKey: false)] }

    /// The key of a submission with an idempotency key: the same key means another submission to somebody else, by another
    /// method and at another path.
    package func digest(_ key: IdempotencyKey, method: String, path: String) -> Receipt.Digest {
        digest("submission", method, path, key.text)
    }

    private func digest(_ more: String...) -> Receipt.Digest {
        var digest = SubmissionDigest()
        switch self {
        case .login(let name): digest.add(["login", name])
        case .localUser(let name): digest.add(["user", name])
        case .client(let edge, let network): digest.add(["client", edge, network])
        }
        digest.add(more)
        return digest.finish()
    }
}

/// A digest of texts and octets, one after the other: each with its length, so that nothing can be moved from one to the next.
package struct SubmissionDigest: ~Copyable {
    private var digest = IncrementalDigest(.sha256)

    /// Of nothing yet.
    package init() {}

    /// Adds a list of texts.
    package mutating func add(_ texts: [String]) {
        add(length: texts.count)
        for text in texts { add(Array(text.utf8)) }
    }

    /// Adds octets with their length.
    package mutating func add(_ octets: [UInt8]) {
        add(length: octets.count)
        digest.update(octets)
    }

    /// Adds a piece of the content, which comes last and in whatever pieces: it has no length.
    package mutating func addContent(_ octets: some Collection<UInt8>) { digest.update(octets) }

    private mutating func add(length: Int) {
        digest.update((0..<8).map { UInt8(truncatingIfNeeded: UInt64(length) >> (8 * $0)) })
    }

    /// The digest of all that was added.
    package consuming func finish() -> Receipt.Digest { Receipt.Digest(digest.finish()) }
}
