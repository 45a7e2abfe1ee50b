// What a client may say: the commands of RFC 5321 section 4.1 and of its extensions, and how a line becomes one.
// Called by SMTPServerMachine with one line at a time, without its CRLF.

package import SlimtaMail
package import SlimtaSASL

/// A command of a client, its arguments checked by the grammar.
package enum SMTPCommand: Equatable, Sendable {
    case ehlo(String)
    case helo(String)
    case startTLS
    /// RFC 4954 section 4: the mechanism's name in upper case, and the initial response if there was one.
    case auth(mechanism: String, initialResponse: InitialResponse?)
    case mail(MailCommand)
    case rcpt(RecipientPath)
    case data
    case bdat(ChunkCommand)
    case rset
    case noop
    case vrfy
    case expn
    case help
    case quit
}

/// The initial response of AUTH, as it came. It may hold a password, and is never printed.
package struct InitialResponse: Equatable, Sendable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// What should be base64, or "=".
    package let base64: SecretOctets

    /// Copies the octets.
    package init(base64: some Collection<UInt8>) { self.base64 = SecretOctets(base64) }

    /// Nothing of what it holds; nor do the two that follow.
    package var description: String { "initial response" }
    /// As `description`.
    package var debugDescription: String { description }
    /// Empty.
    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// BDAT (RFC 3030 section 2): how many octets of the message come behind the command, and whether they are the last.
package struct ChunkCommand: Equatable, Sendable {
    package var size: Int
    package var isLast: Bool

    /// - Parameter size: not negative.
    package init(size: Int, isLast: Bool) {
        self.size = size
        self.isLast = isLast
    }
}

/// MAIL with its parameters.
package struct MailCommand: Equatable, Sendable {
    /// nil is the null reverse-path.
    package var sender: Mailbox?
    /// RFC 1870 section 3; `Int.max` for any number that is larger.
    package var size: Int?
    /// RFC 6152 section 2.
    package var body: BodyType = .sevenBit
    /// RFC 6531 section 3.4.
    package var smtpUTF8 = false
    /// AUTH= without its encoding, a mailbox or empty for `<>` (RFC 4954 section 5); nil: it was not given. Not to be
    /// believed: it is told to policy services and the log alone.
    package var submitter: String?
    /// Whose parameters there were, whatever they said.
    package var extensions: Set<ServiceExtension> = []

    /// MAIL as an edge of another kind says it; nil is the null reverse-path.
    package init(
        sender: Mailbox?, size: Int? = nil, body: BodyType = .sevenBit, smtpUTF8: Bool = false,
        submitter: String? = nil, extensions: Set<ServiceExtension> = []
    ) {
        self.sender = sender
        self.size = size
        self.body = body
        self.smtpUTF8 = smtpUTF8
        self.submitter = submitter
        self.extensions = extensions
    }
}

/// The forward-path of RCPT.
package enum RecipientPath: Equatable, Sendable {
    case mailbox(Mailbox)
    /// `<Postmaster>` without a domain (RFC 5321 section 4.1.1.3), as it was spelled.
    case postmaster(String)
}

/// Why a line is no command.
package enum SMTPSyntaxError: Error, Equatable, Sendable {
    /// The verb is not one of ours.
    case unrecognized
    /// An argument is missing, malformed, or was given where none is allowed.
    case badArgument
    /// MAIL's path is not in the grammar.
    case badSender
    /// RCPT's path is not in the grammar.
    case badRecipient
    /// A MAIL or RCPT parameter that is none of ours; its name is in upper case.
    case unknownParameter(String)
    /// A MAIL or RCPT parameter that was offered, with a value that it cannot have, or twice.
    case badParameter
    /// BDAT without a size that is a number: where its octets end is not known.
    case badChunk
    /// An address with octets above 127 without SMTPUTF8.
    case needsSMTPUTF8
}

extension SMTPCommand {
    /// Parses `line`, which is without CRLF.
    /// - Parameter lenientPaths: whether an address without "<" and ">" is taken in MAIL and RCPT.
    package init(parsing line: Span<UInt8>, lenientPaths: Bool = false) throws(SMTPSyntaxError) {
        var end = line.count
        // Trailing blanks are no argument (RFC 5321 section 4.1.1 asks servers to tolerate them).
        while end > 0, line[end - 1] == UInt8(ascii: " ") || line[end - 1] == UInt8(ascii: "\t") { end -= 1 }
        var verbEnd = 0
        while verbEnd < end, line[verbEnd] != UInt8(ascii: " ") { verbEnd += 1 }
        var start = verbEnd
        while start < end, line[start] == UInt8(ascii: " ") { start += 1 }
        let argument = line.extracting(start..<end)

        switch Verb(folding: line.extracting(0..<verbEnd)) {
        case .ehlo: self = .ehlo(try SMTPCommand.name(argument))
        case .helo: self = .helo(try SMTPCommand.name(argument))
        case .mail: self = .mail(try MailCommand(parsing: argument, isLenient: lenientPaths))
        case .rcpt: self = .rcpt(try RecipientPath(parsing: argument, isLenient: lenientPaths))
        case .auth: self = try SMTPCommand.auth(argument)
        // Sections 4.1.1.4, 4.1.1.5 and 4.1.1.10; STARTTLS: RFC 3207 section 4.
        case .data: self = try SMTPCommand.data.without(argument)
        case .bdat: self = .bdat(try SMTPCommand.chunk(argument))
        case .rset: self = try SMTPCommand.rset.without(argument)
        case .quit: self = try SMTPCommand.quit.without(argument)
        case .starttls: self = try SMTPCommand.startTLS.without(argument)
        // Sections 4.1.1.8 and 4.1.1.9: there may be an argument, which says nothing.
        case .noop: self = .noop
        case .help: self = .help
        // Section 4.1.1.6.
        case .vrfy:
            guard !argument.isEmpty else { throw .badArgument }
            self = .vrfy
        case .expn: self = .expn
        case nil: throw .unrecognized
        }
    }

    private func without(_ argument: Span<UInt8>) throws(SMTPSyntaxError) -> SMTPCommand {
        guard argument.isEmpty else { throw .badArgument }
        return self
    }

    /// The client's name for itself: any text but control characters. RFC 5321 section 4.1.1.1 wants a domain; clients on
    /// desks are called what their owners call them, and who refuses that (section 4.1.4 forbids it) shuts them out. Where
    /// the name is shown it is made harmless (`asClientName`).
    private static func name(_ argument: Span<UInt8>) throws(SMTPSyntaxError) -> String {
        guard (1...255).contains(argument.count) else { throw .badArgument }
        var hasWord = false
        for index in argument.indices {
            if argument[index].isASCIIControl { throw .badArgument }
            if argument[index].isASCIILetterOrDigit { hasWord = true }
        }
        let name: String
        if let text = String(validating: argument) {
            name = text
        } else {
            // A name in the desktop's own character set, whichever that is; nothing but such octets is none.
            guard hasWord else { throw .badArgument }
            var octets: [UInt8] = []
            for index in argument.indices { octets.append(argument[index]) }
            name = String(decoding: octets, as: UTF8.self)
        }
        guard !name.hasControls else { throw .badArgument }
        return name
    }

    /// RFC 3030 section 2: `BDAT SP chunk-size [SP "LAST"]`.
    private static func chunk(_ argument: Span<UInt8>) throws(SMTPSyntaxError) -> ChunkCommand {
        var end = 0
        while end < argument.count, argument[end] != UInt8(ascii: " ") { end += 1 }
        var start = end
        while start < argument.count, argument[start] == UInt8(ascii: " ") { start += 1 }
        // More than fits into an Int is more than anybody waits for.
        guard let digits = String(validating: argument.extracting(0..<end)), digits.utf8.allSatisfy(\.isASCIIDigit),
            let size = Int(digits)
        else { throw .badChunk }
        guard start < argument.count else { return ChunkCommand(size: size, isLast: false) }
        let word = String(validating: argument.extracting(start..<argument.count))
        guard word?.asciiLowercased() == "last" else { throw .badChunk }
        return ChunkCommand(size: size, isLast: true)
    }

    /// RFC 4954 section 4: `AUTH SP mechanism [SP initial-response]`.
    private static func auth(_ argument: Span<UInt8>) throws(SMTPSyntaxError) -> SMTPCommand {
        var end = 0
        while end < argument.count, argument[end] != UInt8(ascii: " ") { end += 1 }
        // The name of a mechanism: RFC 4422 section 3.1.
        guard (1...20).contains(end) else { throw .badArgument }
        var mechanism = ""
        for index in 0..<end {
            switch argument[index] {
            case UInt8(ascii: "a")...UInt8(ascii: "z"): mechanism.unicodeScalars.append(.init(argument[index] - 32))
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
                UInt8(ascii: "_"):
                mechanism.unicodeScalars.append(.init(argument[index]))
            default: throw .badArgument
            }
        }
        guard end < argument.count else { return .auth(mechanism: mechanism, initialResponse: nil) }
        var response: [UInt8] = []
        for index in (end + 1)..<argument.count {
            guard argument[index] != UInt8(ascii: " ") else { throw .badArgument }
            response.append(argument[index])
        }
        return .auth(mechanism: mechanism, initialResponse: InitialResponse(base64: response))
    }
}

/// The verbs, for a comparison on octets.
private enum Verb: String, CaseIterable {
    case ehlo, helo, starttls, auth, mail, rcpt, data, bdat, rset, noop, vrfy, expn, help, quit

    /// The verb that `octets` spell in any case.
    init?(folding octets: Span<UInt8>) {
        guard (4...8).contains(octets.count) else { return nil }
        var word: UInt64 = 0
        for index in octets.indices { word = word << 8 | UInt64(octets[index] | 0x20) }
        guard let verb = Verb.byWord[word] else { return nil }
        // Folding by a bit also maps octets that are no letters; only letters are verbs.
        for index in octets.indices {
            guard octets[index].asciiLowercased().isASCIILowercase else { return nil }
        }
        self = verb
    }

    private static let byWord = Dictionary(
        uniqueKeysWithValues: allCases.map { verb in
            (verb.rawValue.utf8.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }, verb)
        })
}
