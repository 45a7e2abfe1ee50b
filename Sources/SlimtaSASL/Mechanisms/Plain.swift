// PLAIN (RFC 4616), both sides: login and password as they are, inside TLS. SASLServer and SASLClient run it.

internal import SlimtaMail

/// The server's side: `[authzid] NUL authcid NUL passwd`.
struct PlainServer: ServerExchange {
    private(set) var login: String?

    mutating func received(_ response: [UInt8]) -> SASLStep {
        let parts = response.split(separator: 0, omittingEmptySubsequences: false)
        guard parts.count == 3 else { return .malformed }
        do throws(SASLFault) {
            let login = try LoginName.normalized(parts[1])
            self.login = login
            let credentials = try Credentials(login: login, typed: parts[2])
            if !parts[0].isEmpty, try LoginName.normalized(parts[0]) != login { throw .otherIdentity }
            return .ask(.password(credentials))
        } catch {
            return .refused(error)
        }
    }

    mutating func answered(_ answer: SASLAnswer) -> SASLStep { .verdict(answer) }
}

/// The client's side.
struct PlainClient: ClientExchange {
    let username: String
    let password: String

    func begin() -> [UInt8]? { Array("\0\(username)\0\(password)".utf8) }

    func respond(to challenge: [UInt8]) -> [UInt8]? { nil }
}
