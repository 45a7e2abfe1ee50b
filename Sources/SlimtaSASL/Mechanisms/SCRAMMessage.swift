// The messages of SCRAM (RFC 5802 section 7), read closely: what was signed are the octets as they came, so these are kept.

internal import SlimtaMail

/// The attributes of a message: `a=value`, comma, `b=value`. A value has no comma, and may have any other octet but NUL.
struct SCRAMAttributes {
    /// Letter and value.
    typealias Attribute = (name: UInt8, value: ArraySlice<UInt8>)
    private var rest: ArraySlice<Attribute>

    /// Nil: what stands between two commas is no attribute.
    init?(_ message: ArraySlice<UInt8>) {
        var found: [Attribute] = []
        for part in message.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
            guard part.count >= 2, let name = part.first, name.isASCIILowercase || name.isASCIIUppercase,
                part[part.startIndex + 1] == UInt8(ascii: "="), !part.contains(0)
            else { return nil }
            found.append((name, part.dropFirst(2)))
        }
        rest = found[...]
    }

    /// The value of the next attribute, which has to be this one.
    mutating func take(_ name: Character) -> ArraySlice<UInt8>? {
        guard let first = rest.first, first.name == name.asciiValue else { return nil }
        rest = rest.dropFirst()
        return first.value
    }

    /// Whether one of those left is `m=`: an extension that must be understood, and none is (RFC 5802 section 5.1).
    var hasMandatoryExtension: Bool { rest.contains { $0.name == UInt8(ascii: "m") } }
}

/// A name in which `,` is `=2C` and `=` is `=3D`: saslname of RFC 5802 section 7.
enum SASLName {
    /// Nil: it has another `=`, or a comma.
    static func decode(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        var (name, rest) = ([UInt8](), text)
        name.reserveCapacity(text.count)
        while let octet = rest.popFirst() {
            guard octet == UInt8(ascii: "=") else {
                guard octet != UInt8(ascii: ",") else { return nil }
                name.append(octet)
                continue
            }
            if rest.starts(with: "2C".utf8) {
                name.append(UInt8(ascii: ","))
            } else if rest.starts(with: "3D".utf8) {
                name.append(UInt8(ascii: "="))
            } else {
                return nil
            }
            rest = rest.dropFirst(2)
        }
        return name
    }

    /// The name as it stands in a message.
    static func encode(_ name: some Collection<UInt8>) -> [UInt8] {
        name.flatMap { octet -> [UInt8] in
            switch octet {
            case UInt8(ascii: ","): Array("=2C".utf8)
            case UInt8(ascii: "="): Array("=3D".utf8)
            default: [octet]
            }
        }
    }
}

/// The head of a client's first message, of SCRAM and OAUTHBEARER: gs2-header of RFC 5801 section 4.
struct GS2Header {
    /// What the client says of channel binding.
    enum Binding: Equatable {
        /// `n`: it cannot, or will not.
        case none
        /// `y`: it can, and believes that we cannot.
        case notOffered
        /// `p=TYPE`: it does.
        case of(type: String)
    }

    let binding: Binding
    /// Decoded; nil: none, or an empty one.
    let authorization: [UInt8]?
    /// The header as it came.
    let octets: ArraySlice<UInt8>
    /// What stands behind it.
    let rest: ArraySlice<UInt8>

    /// Nil: `message` does not begin with one.
    init?(_ message: [UInt8]) {
        let comma = UInt8(ascii: ",")
        guard let first = message.firstIndex(of: comma), let second = message[(first + 1)...].firstIndex(of: comma)
        else { return nil }
        let flag = message[..<first]
        if flag.elementsEqual("n".utf8) {
            binding = .none
        } else if flag.elementsEqual("y".utf8) {
            binding = .notOffered
        } else if flag.starts(with: "p=".utf8), flag.count > 2,
            flag.dropFirst(2).allSatisfy({ $0.isASCIILetterOrDigit || "-.".utf8.contains($0) })
        {
            binding = .of(type: String(decoding: flag.dropFirst(2), as: UTF8.self))
        } else {
            return nil
        }
        let identity = message[(first + 1)..<second]
        guard identity.isEmpty || identity.starts(with: "a=".utf8), let name = SASLName.decode(identity.dropFirst(2))
        else { return nil }
        authorization = name.isEmpty ? nil : name
        octets = message[...second]
        rest = message[(second + 1)...]
    }
}

/// A nonce: printable, and without a comma (RFC 5802 section 7).
enum SCRAMNonce {
    /// Octets of the longest part of it that is taken.
    static let longest = 512

    /// Whether it can be one.
    static func isOne(_ octets: some Collection<UInt8>, upTo limit: Int = longest) -> Bool {
        (1...limit).contains(octets.count)
            && octets.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: ",") }
    }
}
