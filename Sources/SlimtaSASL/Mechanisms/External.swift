// EXTERNAL (RFC 4422 appendix A), both sides: who the client is, its certificate says. SASLServer and SASLClient run it.

/// The server's side: the client may say who it wants to be. Whom the certificate is for, and which name that makes, the
/// back end knows.
struct ExternalServer: ServerExchange {
    private(set) var login: String?

    mutating func received(_ response: [UInt8]) -> SASLStep {
        do throws(SASLFault) {
            login = response.isEmpty ? nil : try LoginName.normalized(response)
            return .ask(.certificate(authorization: login))
        } catch {
            return .refused(error)
        }
    }

    mutating func answered(_ answer: SASLAnswer) -> SASLStep { .verdict(answer) }
}

/// The client's side. Without a name the server takes that of the certificate.
struct ExternalClient: ClientExchange {
    let username: String

    func begin() -> [UInt8]? { Array(username.utf8) }

    func respond(to challenge: [UInt8]) -> [UInt8]? { nil }
}
