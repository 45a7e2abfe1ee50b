// What a SASL exchange says to whoever runs it, and what it is told: the words that all mechanisms share. The driver in
// SlimtaEdge/Credentials puts the questions to the back ends; SMTP's machine carries challenges and responses.

/// What follows from a response or an answer.
package enum SASLStep: Equatable, Sendable {
    /// Send this, and give the next response to ``SASLServer/received(_:)``. Also what SCRAM says with its success and
    /// OAuth with its failure, since SMTP has no room for them in 235 and 535 (RFC 4954 section 4).
    case challenge([UInt8])
    /// Find out, and give it to ``SASLServer/answered(_:)``.
    case ask(SASLQuestion)
    /// The client is this one: the name is the back end's, or the login where it gave none.
    case success(login: String)
    /// It can be read, and is not right: 535.
    case refused(SASLFault)
    /// It cannot be read: 501.
    case malformed
    /// It could not be found out: 454.
    case unavailable
}

/// What an exchange cannot know. The two kinds of them: "is this secret right?", and "what is this user's secret?".
package enum SASLQuestion: Equatable, Sendable {
    /// Is this password right? Fits ``SASLAnswer/right(login:)``, ``SASLAnswer/wrong``.
    case password(Credentials)
    /// Is this token good, and whose is it? `login` is who the client says it is; nil: it does not. The answer is as for
    /// a password.
    case token(login: String?, SecretOctets)
    /// Whose is the certificate of this connection? `authorization` is who the client wants to be; nil: it does not say.
    /// The answer is as for a password.
    case certificate(authorization: String?)
    /// What are this user's keys? Fits ``SASLAnswer/keys(_:)``.
    case keys(login: String, SCRAMHash)
    /// What is this user's password in clear? Fits ``SASLAnswer/secret(_:)``.
    case secret(login: String)
}

/// What is known of a question. One that does not fit it makes ``SASLStep/unavailable``: nobody is let in by a mistake.
package enum SASLAnswer: Equatable, Sendable {
    /// Yes, and this is the user's name as the back end has it.
    case right(login: String)
    case wrong
    /// nil: there is no such user, or none with such keys. The exchange then goes on with invented ones, and fails where a
    /// wrong password would.
    case keys(SCRAMKeys?)
    /// As for keys.
    case secret(SecretOctets?)
    /// It could not be found out now.
    case unavailable
}

extension SASLStep {
    /// What follows from the answer to whether something is right.
    static func verdict(_ answer: SASLAnswer) -> SASLStep {
        switch answer {
        case .right(let login): .success(login: login)
        case .wrong: .refused(.invalidCredentials)
        case .keys, .secret, .unavailable: .unavailable
        }
    }
}
