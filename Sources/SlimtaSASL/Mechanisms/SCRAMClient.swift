// The client's side of SCRAM (RFC 5802, RFC 7677): proves that it knows the password, and believes no server that does not
// know of it. SASLClient runs it.

internal import SlimtaCrypto
internal import SlimtaMail

/// SCRAM with any of its hashes, with -PLUS or without.
struct SCRAMClient: ClientExchange {
    private enum State {
        case first
        /// client-first-message-bare is sent.
        case challenge(bare: [UInt8])
        /// The proof is sent; v= has to be this.
        case proof(signature: [UInt8])
        case verified
        case failed
    }

    private let hash: SCRAMHash
    private let username: String
    private let password: String
    private let nonce: String
    /// gs2-header.
    private let header: [UInt8]
    /// The octets of the channel, behind the header in c=.
    private let binding: [UInt8]
    private var state = State.first

    /// - Parameters:
    ///   - bindings: not empty for -PLUS.
    ///   - offersBinding: whether the server has listed any -PLUS.
    init(
        _ mechanism: SASLMechanism, username: String, password: String, bindings: [ChannelBinding: [UInt8]],
        offersBinding: Bool, nonce: String
    ) {
        hash = mechanism.scram ?? .sha256
        self.username = username
        self.password = password
        self.nonce = nonce
        // The exporter is of this session alone; who has the certificate's key can be in more than one.
        let type = ChannelBinding.allCases.first { bindings[$0] != nil }
        if mechanism.bindsChannel, let type {
            header = Array("p=\(type.rawValue),,".utf8)
            binding = bindings[type] ?? []
        } else {
            header = Array((type != nil && !offersBinding ? "y,," : "n,,").utf8)
            binding = []
        }
    }

    var isProven: Bool {
        if case .verified = state { true } else { false }
    }

    mutating func begin() -> [UInt8]? {
        let name = SASLprep.prepare(username.utf8) ?? Array(username.utf8)
        let bare = "n=".utf8 + SASLName.encode(name) + ",r=\(nonce)".utf8
        state = .challenge(bare: bare)
        return header + bare
    }

    mutating func respond(to challenge: [UInt8]) -> [UInt8]? {
        switch state {
        case .challenge(let bare): return prove(challenge, bare)
        case .proof(let signature):
            let isRight =
                challenge.starts(with: "v=".utf8)
                && Base64.decode(challenge.dropFirst(2).prefix { $0 != UInt8(ascii: ",") })
                    .map { ConstantTime.areEqual($0, signature) } == true
            state = isRight ? .verified : .failed
            return isRight ? [] : nil
        case .first, .verified, .failed: return nil
        }
    }

    /// client-final-message for server-first-message. What a server may ask for has bounds: it could hang us, or have us give
    /// out what is cheap to guess by (RFC 5802 section 5.1).
    private mutating func prove(_ serverFirst: [UInt8], _ bare: [UInt8]) -> [UInt8]? {
        state = .failed
        guard var attributes = SCRAMAttributes(serverFirst[...]), !attributes.hasMandatoryExtension,
            let both = attributes.take("r"), both.starts(with: nonce.utf8),
            SCRAMNonce.isOne(both.dropFirst(nonce.utf8.count)),
            let salt = attributes.take("s").flatMap({ Base64.decode($0) }),
            (1...SCRAMKeys.longestSalt).contains(salt.count),
            let iterations = attributes.take("i").flatMap({ Decimal.value(of: $0) }),
            SCRAMKeys.iterations.contains(iterations)
        else { return nil }
        var salted = SCRAMProof.salted(password.utf8, hash, salt: salt, iterations: iterations)
        defer { salted.wipe() }
        var final = Array("c=\(Base64.encode(header + binding)),r=".utf8) + both
        let signed = bare + ",".utf8 + serverFirst + ",".utf8 + final
        let proof = SCRAMProof.masked(
            SCRAMProof.clientKey(salted, hash), SCRAMProof.storedKey(salted, hash), hash, message: signed)
        final += ",p=\(Base64.encode(proof))".utf8
        state = .proof(signature: hash.function.hmac(signed, key: SCRAMProof.serverKey(salted, hash)))
        return final
    }
}
