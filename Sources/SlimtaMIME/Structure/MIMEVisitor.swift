// Who looks at the parts of a message while they come: facts for rules, the plan of a conversion, the conversion. MIMEWalker
// calls it.

/// Where octets of a message stand that belong to no header.
package enum MIMEPlace: Hashable, Sendable {
    /// The content of a part.
    case body
    /// Before the first part of a multipart (RFC 2046 section 5.1.1).
    case preamble
    /// Behind the last one.
    case epilogue
    /// The line between two parts, with the line end before it, which belongs to it, and the one behind it unless it is the
    /// last such line.
    case delimiter
}

/// Sees all octets of a message, each once, in their order: those of headers (with
/// ``MIMEEntity/mailboxLines``) in ``begin(_:)``, all others in ``take(_:as:)``.
package protocol MIMEVisitor {
    /// The header of a part is over.
    mutating func begin(_ entity: MIMEEntity)
    /// Octets of the part that was begun last and has not ended. How they are cut says nothing.
    mutating func take(_ octets: UnsafeRawBufferPointer, as place: MIMEPlace)
    /// The part that was begun last ends; `isAtEnd`: because the message does, not by a delimiter.
    mutating func end(_ index: Int, isAtEnd: Bool)
}

/// How much of a message is looked at.
package struct MIMELimits: Hashable, Sendable {
    /// What was too much. What is beyond is content of the part where that showed.
    package struct Exceeded: OptionSet, Hashable, Sendable {
        /// A bit for each.
        package let rawValue: UInt8

        /// Those whose bits are set.
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Parts are in each other too deeply.
        package static let depth = Exceeded(rawValue: 1)
        /// There are more parts.
        package static let parts = Exceeded(rawValue: 2)
        /// The header of a part is larger, or there are more boundaries that it may mean.
        package static let header = Exceeded(rawValue: 4)
    }

    /// How many parts another one may be in.
    package var depth = 20
    /// Parts, without the message itself.
    package var parts = 1000
    /// Octets of one header.
    package var header = 262_144

    /// How many boundaries one multipart may have, for one client or another.
    static let boundaries = 8

    /// Those of the daemon.
    package init() {}
}
