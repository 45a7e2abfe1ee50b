// What has to be done to a message so that it can go to a host without 8BITMIME. Made by ConversionPlanner, carried out by
// SevenBitConverter, and kept between them: it is the same for all recipients.

internal import SlimtaMail

/// How a message becomes 7-bit, part by part.
package struct ConversionPlan: Hashable, Sendable {
    /// What is done to one part.
    struct Change: Hashable, Sendable {
        /// What Content-Transfer-Encoding is to say; nil: what it says.
        var encoding: String?
        /// What is done to the content; nil: nothing.
        var body: BodyChange?
        /// The charset of the Content-Type that it gets, having none; nil: it gets none.
        var charset: String?
        /// Whether it gets a MIME-Version.
        var getsVersion = false
        /// Whether fields of its header are written anew.
        var encodesHeader = false
        var dropsPreamble = false
        var dropsEpilogue = false
    }

    /// Of parts that are changed, by their numbers.
    var changes: [Int: Change] = [:]

    /// Whether octets of contents or headers change, and not only what is said of them: no signature of the body lasts.
    package var changesContent: Bool {
        changes.values.contains { $0.body != nil || $0.encodesHeader || $0.dropsPreamble || $0.dropsEpilogue }
    }
}

/// What came of looking at a message.
package enum ConversionAnswer: Hashable, Sendable {
    /// It is fit to go as it is.
    case unchanged
    /// It is fit when this is done.
    case convert(ConversionPlan)
    /// There is no honest way.
    case impossible(ConversionObstacle)
}

/// Why a message cannot be made 7-bit.
package struct ConversionObstacle: Error, Hashable, Sendable, CustomStringConvertible {
    /// What stands in the way.
    package enum Reason: Hashable, Sendable {
        /// The part is signed or encrypted, or in one that is: it may not be changed (RFC 1847, RFC 8551 section 3.1).
        case protected
        /// The part is of a type that may not be encoded (RFC 2045 section 6.4, RFC 2046 section 5.2).
        case composite
        /// Which parts there are in it, or how it is encoded, depends on the client: it says several things of itself.
        case ambiguous
        /// The multipart has no boundary, or none that lines could have.
        case boundary
        /// The part says that it is encoded, and is not: what it means is not known.
        case mislabelled
        /// A header of it cannot be in ASCII.
        case header(FieldFault)
        /// What stands around its content has a CR without LF, a LF without CR, or a NUL; or it is not 7-bit where it has no
        /// meaning and must stay.
        case brokenHeader
        /// There are too many parts, too deep in each other, or a header is too large.
        case limits
    }

    /// The number of the part, in the order in which they begin; 0: the message itself.
    package let part: Int
    /// Its type.
    package let type: String
    /// What stands in the way.
    package let reason: Reason

    /// In words that follow "it cannot be converted to 7 bits: ".
    package var description: String {
        let part = part == 0 ? "the message (\(type.visibleASCII))" : "part \(part) (\(type.visibleASCII))"
        return switch reason {
        case .protected: "\(part) is signed or encrypted and has 8-bit octets or long lines"
        case .composite: "\(part) has 8-bit octets or long lines and must not be encoded"
        case .ambiguous: "mail programs do not agree on what \(part) is"
        case .boundary: "\(part) has 8-bit octets or long lines and no valid boundary"
        case .mislabelled: "\(part) is not in the encoding that it says it is in"
        case .header(let fault): "\(fault), in \(part)"
        case .brokenHeader: "\(part) has, around its content, a line that is not 7-bit or has no CRLF"
        case .limits: "it has too many parts, too deeply nested, or with too large headers"
        }
    }
}
