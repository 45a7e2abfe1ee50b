// What a server keeps of a password for SCRAM (RFC 5802 section 3), and the texts in which files have it. `slimtad passwd` makes
// them, credential back ends read them, SCRAMServer compares with them.

package import SlimtaCrypto
internal import SlimtaMail

/// The hash of a SCRAM mechanism. The raw value is the scheme's name in RFC 5803, with and without -PLUS.
package enum SCRAMHash: String, CaseIterable, Sendable {
    case sha1 = "SCRAM-SHA-1"
    case sha256 = "SCRAM-SHA-256"
    case sha512 = "SCRAM-SHA-512"

    /// What it is for SlimtaCrypto.
    package var function: HashFunction {
        switch self {
        case .sha1: .sha1
        case .sha256: .sha256
        case .sha512: .sha512
        }
    }
}

/// A user's keys for one hash. Whoever has them can guess the password at the price of PBKDF2 a try, and can play the server:
/// never printed.
package struct SCRAMKeys: Hashable, Sendable, CustomStringConvertible, CustomReflectable {
    /// The iterations of new keys. The client pays for them at every login, and telephones are clients.
    package static let defaultIterations = 100_000
    /// What keys may have: the floor is RFC 5802's (section 5.1), and more would hang a client.
    package static let iterations = 4096...5_000_000
    /// Octets of a salt that is made here.
    package static let saltSize = 16
    /// Octets of the longest salt.
    static let longestSalt = 1024

    /// Which mechanisms they are for.
    package let hash: SCRAMHash
    /// Shown to everybody who asks.
    package let salt: [UInt8]
    /// How often PBKDF2 goes round.
    package let iterationCount: Int
    /// H(ClientKey): proves the client.
    let storedKey: [UInt8]
    /// Proves the server.
    let serverKey: [UInt8]

    private init(_ hash: SCRAMHash, _ salt: [UInt8], _ iterations: Int, storedKey: [UInt8], serverKey: [UInt8]) {
        (self.hash, self.salt, iterationCount) = (hash, salt, iterations)
        (self.storedKey, self.serverKey) = (storedKey, serverKey)
    }

    /// Derives the keys of a password. Slow on purpose: never on an event loop.
    ///
    /// - Parameters:
    ///   - password: as it was typed. It is prepared by SASLprep here; one that SASLprep refuses is taken as it is, for then the
    ///     clients that can use it at all are those that prepare nothing.
    ///   - salt: another one for each user; the default is made of random octets.
    package init(
        password: some Collection<UInt8>, _ hash: SCRAMHash, iterations: Int = Self.defaultIterations,
        salt: [UInt8] = RandomOctets.visible(Self.saltSize)
    ) {
        var salted = SCRAMProof.salted(password, hash, salt: salt, iterations: iterations)
        defer { salted.wipe() }
        self.init(salted: salted, hash, salt: salt, iterations: iterations)
    }

    /// From SaltedPassword.
    init(salted: [UInt8], _ hash: SCRAMHash, salt: [UInt8], iterations: Int) {
        self.init(
            hash, salt, iterations, storedKey: SCRAMProof.storedKey(salted, hash),
            serverKey: SCRAMProof.serverKey(salted, hash))
    }

    /// Keys that no password has, for a user who does not exist or has none: a client sees the same salt whenever it asks,
    /// and another one for another name.
    ///
    /// - Parameter secret: without it nobody can tell these from real ones; the same on all machines with these users.
    static func invented(
        for login: String, _ hash: SCRAMHash, iterations: Int, secret: some Collection<UInt8>
    ) -> SCRAMKeys {
        let salt = HashFunction.sha256.hmac("salt\(hash.rawValue)\0\(login)".utf8, key: secret).prefix(saltSize)
        let size = hash.function.size
        return SCRAMKeys(
            hash, Array(salt), iterations, storedKey: RandomOctets.visible(size), serverKey: RandomOctets.visible(size))
    }

    /// Whether they are of this password: how such a line serves PLAIN too. Slow, as deriving them is.
    package func matches(_ password: some Collection<UInt8>) -> Bool {
        let other = SCRAMKeys(password: password, hash, iterations: iterationCount, salt: salt)
        return ConstantTime.areEqual(other.storedKey, storedKey)
    }

    // MARK: Texts

    /// `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY` (RFC 5803 section 2), as PostgreSQL has it too, or
    /// `{SCRAM-SHA-256}ITERATIONS,SALT,STOREDKEY,SERVERKEY`, as Dovecot has it. Nil: neither, or out of bounds.
    package init?(_ text: some StringProtocol) {
        let text = text.utf8
        let isDovecots = text.first == UInt8(ascii: "{")
        guard
            let end = text.firstIndex(of: UInt8(ascii: isDovecots ? "}" : "$")),
            let hash = SCRAMHash(rawValue: String(decoding: text[..<end].dropFirst(isDovecots ? 1 : 0), as: UTF8.self))
        else { return nil }
        let rest = text[text.index(after: end)...]
        guard !isDovecots else {
            self.init(hash, fields: rest.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false))
            return
        }
        let halves = rest.split(separator: UInt8(ascii: "$"), omittingEmptySubsequences: false)
            .map { $0.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false) }
        guard halves.count == 2, halves.allSatisfy({ $0.count == 2 }) else { return nil }
        self.init(hash, fields: halves[0] + halves[1])
    }

    /// From what stands behind the name in Dovecot's form: `ITERATIONS,SALT,STOREDKEY,SERVERKEY`, which has neither colon
    /// nor dollar in it.
    package init?(_ hash: SCRAMHash, commaSeparated text: some StringProtocol) {
        self.init(hash, fields: text.utf8.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false))
    }

    private init?(_ hash: SCRAMHash, fields: [some Collection<UInt8>]) {
        guard fields.count == 4, let iterations = Decimal.value(of: fields[0]), Self.iterations.contains(iterations),
            let salt = Base64.decode(fields[1]), (1...Self.longestSalt).contains(salt.count),
            let storedKey = Base64.decode(fields[2]), storedKey.count == hash.function.size,
            let serverKey = Base64.decode(fields[3]), serverKey.count == hash.function.size
        else { return nil }
        self.init(hash, salt, iterations, storedKey: storedKey, serverKey: serverKey)
    }

    /// What ``init(_:commaSeparated:)`` reads.
    package var commaSeparated: String {
        "\(iterationCount)," + [salt, storedKey, serverKey].map { Base64.encode($0) }.joined(separator: ",")
    }

    /// As RFC 5803 has it.
    package var rfc5803Text: String {
        "\(hash.rawValue)$\(iterationCount):\(Base64.encode(salt))$\(Base64.encode(storedKey)):\(Base64.encode(serverKey))"
    }

    /// The hash and the iterations alone.
    package var description: String { "\(hash.rawValue) keys of \(iterationCount) iterations" }
    /// As `description`.
    package var customMirror: Mirror { Mirror(self, children: ["hash": hash, "iterations": iterationCount]) }
}

/// The computations of RFC 5802 section 3, for both sides.
enum SCRAMProof {
    /// SaltedPassword: Hi(Normalize(password), salt, i). As secret as the password.
    static func salted(
        _ password: some Collection<UInt8>, _ hash: SCRAMHash, salt: [UInt8], iterations: Int
    ) -> [UInt8] {
        var prepared = SASLprep.prepare(password) ?? Array(password)
        defer { prepared.wipe() }
        return hash.function.pbkdf2(prepared, salt: salt, iterations: iterations, count: hash.function.size)
    }

    /// ClientKey.
    static func clientKey(_ salted: [UInt8], _ hash: SCRAMHash) -> [UInt8] {
        hash.function.hmac("Client Key".utf8, key: salted)
    }

    /// StoredKey: H(ClientKey).
    static func storedKey(_ salted: [UInt8], _ hash: SCRAMHash) -> [UInt8] {
        hash.function.digest(clientKey(salted, hash))
    }

    /// ServerKey.
    static func serverKey(_ salted: [UInt8], _ hash: SCRAMHash) -> [UInt8] {
        hash.function.hmac("Server Key".utf8, key: salted)
    }

    /// ClientKey XOR ClientSignature: the proof, or out of the proof the key again.
    static func masked(_ key: [UInt8], _ storedKey: [UInt8], _ hash: SCRAMHash, message: [UInt8]) -> [UInt8] {
        zip(key, hash.function.hmac(message, key: storedKey)).map { $0 ^ $1 }
    }
}

/// Decimal numbers as SCRAM's texts have them.
enum Decimal {
    /// The number that digits make: one to nine of them, without a zero in front (posit-number of RFC 5802 section 7).
    static func value(of digits: some Collection<UInt8>) -> Int? {
        guard (1...9).contains(digits.count), digits.first != UInt8(ascii: "0"), digits.allSatisfy(\.isASCIIDigit)
        else { return nil }
        return digits.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
    }
}

/// Nonces of both sides.
enum RandomNonce {
    /// 18 random octets in base64: 24 characters without padding, comma or blank.
    static func make() -> String { Base64.encode(RandomOctets.visible(18)) }
}
