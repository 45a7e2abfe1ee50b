// A login and its password, as PLAIN, LOGIN and HTTP's Basic bring them. A credential back end is asked whether they are
// right.

/// A login and a password to be checked. Never printed.
package struct Credentials: Equatable, Sendable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// The authentication identity.
    package let login: String
    /// The octets of the password, valid UTF-8 without NUL.
    package let password: SecretOctets

    /// Copies the octets of the password.
    package init(login: String, password: some Collection<UInt8>) {
        self.login = login
        self.password = SecretOctets(password)
    }

    /// A password as a client sent it: 1 to 1024 octets of UTF-8 without NUL.
    package init(login: String, typed password: ArraySlice<UInt8>) throws(SASLFault) {
        guard !password.isEmpty, password.count <= Self.longestPassword else { throw .noCredentials }
        // Found out where it is: a String would be a copy of the password, and not be overwritten.
        guard !password.contains(0), (try? UTF8Span(validating: password.span)) != nil else { throw .invalidEncoding }
        self.init(login: login, password: password)
    }

    /// Octets of the longest password: more would make a hash of it take long.
    package static let longestPassword = 1024

    /// The password in the form of RFC 8265 section 4.2, where that is another one: what it was set with may have been typed
    /// elsewhere. To be tried second, for what hashes there are were made of what was typed.
    package var preparedPassword: SecretOctets? {
        guard !password.allSatisfy({ $0 < 0x80 }), var prepared = PRECIS.opaqueString(password) else { return nil }
        defer { prepared.wipe() }
        return prepared.elementsEqual(password) ? nil : SecretOctets(prepared)
    }

    /// The login alone.
    package var description: String { "credentials of \(login)" }
    /// As `description`.
    package var debugDescription: String { description }
    /// The login alone.
    package var customMirror: Mirror { Mirror(self, children: ["login": login]) }
}
