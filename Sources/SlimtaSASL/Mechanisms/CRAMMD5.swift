// CRAM-MD5 (RFC 2195), both sides: the client answers a challenge with HMAC-MD5 under its password, which the server has to
// keep in clear for that. Off unless it is wanted. SASLServer and SASLClient run it.

internal import SlimtaCrypto
internal import SlimtaMail

/// The server's side: `login BLANK digest`, the digest in hexadecimal.
struct CRAMMD5Server: ServerExchange {
    let greeting: [UInt8]
    private(set) var login: String?
    private var digest: [UInt8] = []

    /// - Parameter challenge: `<random@host>`, another one each time.
    init(challenge: String) { greeting = Array(challenge.utf8) }

    mutating func received(_ response: [UInt8]) -> SASLStep {
        guard let blank = response.lastIndex(of: 0x20) else { return .malformed }
        digest = response[(blank + 1)...].map { $0.asciiLowercased() }
        guard digest.count == 2 * HashFunction.md5.size, digest.allSatisfy({ $0.hexadecimalValue != nil }) else {
            return .malformed
        }
        do throws(SASLFault) {
            let login = try LoginName.normalized(response[..<blank])
            self.login = login
            return .ask(.secret(login: login))
        } catch {
            return .refused(error)
        }
    }

    mutating func answered(_ answer: SASLAnswer) -> SASLStep {
        guard case .secret(let secret) = answer, HashFunction.md5.isThere else { return .unavailable }
        // The same work for a user who does not exist.
        let expected = Self.digest(of: greeting, secret ?? SecretOctets(RandomOctets.secret(16)))
        let isRight = ConstantTime.areEqual(digest, expected) && secret != nil
        return isRight ? .success(login: login ?? "") : .refused(.invalidProof)
    }

    /// HMAC-MD5 of a challenge, in hexadecimal.
    static func digest(of challenge: [UInt8], _ secret: some Collection<UInt8>) -> [UInt8] {
        HashFunction.md5.hmac(challenge, key: secret)
            .flatMap { [UInt8(hexadecimalDigit: $0 >> 4), UInt8(hexadecimalDigit: $0)] }
    }
}

/// The client's side.
struct CRAMMD5Client: ClientExchange {
    let username: String
    let password: String
    private var isOver = false

    init(username: String, password: String) {
        self.username = username
        self.password = password
    }

    func begin() -> [UInt8]? { nil }

    mutating func respond(to challenge: [UInt8]) -> [UInt8]? {
        guard !isOver, HashFunction.md5.isThere else { return nil }
        isOver = true
        return "\(username) ".utf8 + CRAMMD5Server.digest(of: challenge, password.utf8)
    }
}
