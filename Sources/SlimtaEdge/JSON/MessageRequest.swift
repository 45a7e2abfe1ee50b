// A message as JSON: what POST /v1/messages takes. MessageRequestReader reads it, the resource submits it.

package import SlimtaMail
package import SlimtaNet

/// What a request asks for.
package struct MessageRequest: Sendable {
    /// The message itself.
    package var draft: MailDraft
    /// To, Cc and Bcc, each address once.
    package var recipients: [Mailbox]
    /// When the first attempt is to be made; nil: at once.
    package var sendAt: Timestamp?
    /// What the client wants to be told again: names and texts.
    package var metadata: [JSON.Member]

    /// How large and how many things may be. `/openapi.json` tells the same.
    package enum Limits {
        /// How far ahead ``MessageRequest/sendAt`` may be.
        package static let ahead = Duration.seconds(30 * 86_400)
        /// Octets of a name and of a subject.
        package static let name = 255
        package static let subject = 2000
        /// Attachments.
        package static let attachments = 100
        /// Octets of a file name as it is given; recipients get the end of it.
        package static let fileName = 1024
        /// Fields in `headers`, octets of a field's name and value, and of a word of it that cannot be folded.
        package static let headers = 100
        package static let headerName = 76
        package static let headerValue = 8000
        package static let headerWord = 900
        /// Members of `metadata`, and octets of their names and values.
        package static let metadata = 50
        package static let metadataName = 64
        package static let metadataValue = 500
        /// How many mistakes are told at once.
        package static let faults = 100
        /// Arrays and objects within each other: more than a request can need.
        package static let depth = 8

        /// Values in the whole of a request, and octets of all that names recipients: more than can be needed for so many.
        /// Who sends megabytes of what nobody can mean is not to be read for minutes.
        package static func values(recipients: Int) -> Int { 20_000 + 10 * min(recipients, 1 << 32) }
        package static func addresses(recipients: Int) -> Int { (64 << 10) + 600 * min(recipients, 1 << 32) }
    }
}

/// A mistake in a request.
package struct RequestFault: Error, Hashable, Sendable {
    /// Which value it is about: a JSON pointer as a fragment (RFC 6901 section 6), "#/to/1".
    package let pointer: String
    /// What is wrong, and what would be right; nothing of what the client sent.
    package let detail: String

    init(_ place: JSONPlace, _ detail: String) {
        pointer = place.pointer
        self.detail = detail
    }
}

/// Where a value is in a document.
package struct JSONPlace: Sendable {
    /// As a fragment.
    let pointer: String

    /// The document itself.
    static let root = JSONPlace(pointer: "#")

    /// A member of an object.
    subscript(name: String) -> JSONPlace {
        let token = name.cut(toOctets: 200).utf8.flatMap { octet -> [UInt8] in
            switch octet {
            case UInt8(ascii: "~"): Array("~0".utf8)
            case UInt8(ascii: "/"): Array("~1".utf8)
            default: [octet]
            }
        }
        // What a fragment has as it is (RFC 3986 section 3.5).
        return JSONPlace(pointer: "\(pointer)/\(token.percentEncoded(except: "-._~!$&'()*+,;=:@?"))")
    }

    /// An element of an array.
    subscript(index: Int) -> JSONPlace { JSONPlace(pointer: "\(pointer)/\(index)") }
}
