// LOGIN, which has no RFC, both sides: the name, then the password, each behind a challenge. SASLServer and SASLClient run it.

/// The server's side. The name may be the initial response.
struct LoginServer: ServerExchange {
    // Clients compare these texts with what they look for.
    let greeting = Array("Username:".utf8)
    private(set) var login: String?

    mutating func received(_ response: [UInt8]) -> SASLStep {
        do throws(SASLFault) {
            guard let login else {
                login = try LoginName.normalized(response)
                return .challenge(Array("Password:".utf8))
            }
            return .ask(.password(try Credentials(login: login, typed: response[...])))
        } catch {
            return .refused(error)
        }
    }

    mutating func answered(_ answer: SASLAnswer) -> SASLStep { .verdict(answer) }
}

/// The client's side. Servers ask for the name, then for the password, in words of their own.
struct LoginClient: ClientExchange {
    private var responses: [String]

    init(username: String, password: String) { responses = [password, username] }

    func begin() -> [UInt8]? { nil }

    mutating func respond(to challenge: [UInt8]) -> [UInt8]? { responses.popLast().map { Array($0.utf8) } }
}
