// What SMTPServerMachine tells a client, but for texts that name something of the session.

package import SlimtaMail

extension Reply {
    static let badSequence = Reply(503, .init(5, 5, 1), "Bad sequence of commands")
    /// RFC 5321 section 4.2.4: a command that is known, and not ours.
    static let notImplemented = Reply(502, .init(5, 5, 1), "Command not implemented")
    /// RFC 5321 section 4.1.1.11: a parameter that is none, or of an extension that was not offered; as much of its name as fits.
    static func unknownParameter(_ name: String) -> Reply {
        Reply(555, .init(5, 5, 4), "Parameter \(name.prefix(64)) not recognized or not implemented")
    }
    static let invalidResponse = Reply(501, .init(5, 5, 2), "Invalid auth response")
    /// RFC 4954 section 4: 12,288 octets are the most.
    static let exchangeLineTooLong = Reply(500, .init(5, 5, 6), "Authentication exchange line is too long")
    /// RFC 5321 section 4.2.3.
    package static let unanswered = Reply(451, .init(4, 3, 0), "Requested action aborted: error in processing")
    /// What MAIL is told of who is neither authenticated nor trusted (RFC 4954 section 6). Where no AUTH is offered there is
    /// nothing that would help.
    ///
    /// - Parameter mayStartTLS: STARTTLS is still to come.
    package static func unknownClient(
        _ authentication: SMTPServerConfiguration.Authentication, mayStartTLS: Bool
    ) -> Reply {
        switch authentication {
        case .none: Reply(550, .init(5, 7, 1), "Your network may not send mail here")
        case .required, .optional:
            Reply(530, .init(5, 7, 0), "Authentication required" + (mayStartTLS ? ", after STARTTLS" : ""))
        }
    }
    /// What AUTH is told that cannot be right (RFC 4954 section 6).
    package static let credentialsInvalid = Reply(535, .init(5, 7, 8), "Authentication credentials invalid")
    /// Whether they are right cannot be found out now (RFC 4954 section 6).
    package static let credentialsUnchecked = Reply(454, .init(4, 7, 0), "Temporary authentication failure")
    /// Who has guessed too much is to come another time.
    package static let tooManyFailedLogins = Reply(421, .init(4, 7, 0), "Too many failed logins")
    /// RFC 5321 section 3.3: none of the recipients was accepted.
    package static let noValidRecipients = Reply(554, .init(5, 5, 1), "No valid recipients")
    /// The same where nobody was named.
    static let noRecipients = Reply(503, .init(5, 5, 1), "No recipients given")
}

extension DataReader.Fault {
    /// What the client is told.
    var reply: Reply {
        switch self {
        case .tooLarge: Reply(552, .init(5, 3, 4), "Message exceeded size limit")
        case .bareLineEnd:
            Reply(554, .init(5, 6, 0), "Message has a bare CR, a bare LF or a NUL; lines must end with CRLF")
        }
    }
}

extension SMTPSyntaxError {
    /// What the client is told.
    package var reply: Reply {
        switch self {
        case .unrecognized: Reply(500, .init(5, 5, 2), "Syntax error, command unrecognized")
        case .badArgument: Reply(501, .init(5, 5, 4), "Syntax error in parameters or arguments")
        case .badSender: Reply(501, .init(5, 1, 7), "Bad sender address syntax")
        case .badRecipient: Reply(501, .init(5, 1, 3), "Bad recipient address syntax")
        case .unknownParameter(let name): .unknownParameter(name)
        case .badChunk: Reply(501, .init(5, 5, 4), "Syntax error: BDAT has a number of octets, and LAST or nothing")
        case .badParameter: Reply(501, .init(5, 5, 4), "Syntax error in parameters or arguments")
        case .needsSMTPUTF8: Reply(553, .init(5, 6, 7), "Non-ASCII address needs SMTPUTF8")
        }
    }
}
