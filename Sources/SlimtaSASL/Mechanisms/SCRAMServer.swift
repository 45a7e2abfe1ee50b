// The server's side of SCRAM (RFC 5802, RFC 7677): the password is never sent, the client proves that it knows it, and we
// that we know of it. SASLServer runs it.

internal import SlimtaCrypto
internal import SlimtaMail

/// SCRAM with any of its hashes, with -PLUS or without.
///
///     client-first ──▶ keys? ──▶ server-first ──client-final──▶ v= ──empty──▶ success
///
/// Whether there is such a user shows at no place but the last: one who is none has invented keys.
struct SCRAMServer: ServerExchange {
    private enum State {
        case first
        case keys(Opening)
        case proof(Opening, SCRAMKeys, isKnown: Bool, serverFirst: [UInt8])
        /// The proof was right, and v= is sent: the client owes an empty response (RFC 4954 section 4).
        case verified
    }

    /// What the first message said.
    private struct Opening {
        /// Ends with the octets that bind the exchange: what c= has to be.
        let binding: [UInt8]
        /// client-first-message-bare.
        let bare: [UInt8]
        let nonce: [UInt8]
        /// Whether the client wants to be nobody else.
        let isForItself: Bool
    }

    private let hash: SCRAMHash
    private let bindsChannel: Bool
    private let context: SASLContext
    private let nonce: String
    private var state = State.first
    private(set) var login: String?

    init(_ mechanism: SASLMechanism, context: SASLContext, nonce: String) {
        hash = mechanism.scram ?? .sha256
        bindsChannel = mechanism.bindsChannel
        self.context = context
        self.nonce = nonce
    }

    var isTried: Bool {
        switch state {
        case .first, .keys: false
        case .proof, .verified: true
        }
    }

    mutating func received(_ response: [UInt8]) -> SASLStep {
        switch state {
        case .first:
            do throws(SASLFault) {
                let opening = try open(response)
                state = .keys(opening)
                return .ask(.keys(login: login ?? "", hash))
            } catch {
                return .refused(error)
            }
        case .proof(let opening, let keys, let isKnown, let serverFirst):
            do throws(SASLFault) {
                let signature = try prove(response, opening, keys, serverFirst)
                guard isKnown else { throw .invalidProof }
                guard opening.isForItself else { throw .otherIdentity }
                state = .verified
                return .challenge(Array("v=\(Base64.encode(signature))".utf8))
            } catch {
                return .refused(error)
            }
        case .verified: return response.isEmpty ? .success(login: login ?? "") : .malformed
        case .keys: return .unavailable
        }
    }

    mutating func answered(_ answer: SASLAnswer) -> SASLStep {
        guard case .keys(let opening) = state, case .keys(let found) = answer, found?.hash ?? hash == hash else {
            return .unavailable
        }
        // Also for a user who exists: else it would show in time who does not.
        let name = login ?? ""
        let invented = SCRAMKeys.invented(
            for: context.foldsCase ? name.lowercased() : name, hash, iterations: context.iterations,
            secret: context.inventing)
        let keys = found ?? invented
        let serverFirst = Array(
            "r=\(String(decoding: opening.nonce, as: UTF8.self)),s=\(Base64.encode(keys.salt)),i=\(keys.iterationCount)"
                .utf8)
        state = .proof(opening, keys, isKnown: found != nil, serverFirst: serverFirst)
        return .challenge(serverFirst)
    }

    /// client-first-message.
    private mutating func open(_ message: [UInt8]) throws(SASLFault) -> Opening {
        guard let header = GS2Header(message), var attributes = SCRAMAttributes(header.rest) else {
            throw .invalidEncoding
        }
        guard !attributes.hasMandatoryExtension else { throw .extensionsNotSupported }
        let binding = Array(header.octets) + (try octets(of: header.binding))
        guard let name = attributes.take("n").flatMap({ SASLName.decode($0) }),
            let nonce = attributes.take("r"), SCRAMNonce.isOne(nonce)
        else { throw .invalidEncoding }
        let login = try Self.login(name)
        self.login = login
        return Opening(
            binding: binding, bare: Array(header.rest), nonce: Array(nonce) + self.nonce.utf8,
            isForItself: try header.authorization.map { name throws(SASLFault) in try Self.login(name) } ?? login
                == login)
    }

    /// What binds the exchange to its channel, for what the client says of it (RFC 5802 section 6).
    private func octets(of binding: GS2Header.Binding) throws(SASLFault) -> [UInt8] {
        switch binding {
        case .none where !bindsChannel: return []
        // Somebody between us has taken -PLUS out of the list; or the client names one mechanism and speaks another.
        case .notOffered where !bindsChannel && !context.listed.contains(where: \.bindsChannel): return []
        case .none, .notOffered: throw .serverDoesSupportChannelBinding
        case .of where !bindsChannel: throw .channelBindingNotSupported
        case .of(let type):
            guard let octets = ChannelBinding(rawValue: type).flatMap({ context.bindings[$0] }) else {
                throw .unsupportedChannelBindingType
            }
            return octets
        }
    }

    private static func login(_ name: [UInt8]) throws(SASLFault) -> String {
        guard let prepared = SASLprep.prepare(name) else { throw .invalidUsernameEncoding }
        return try LoginName.normalized(prepared)
    }

    /// client-final-message; gives ServerSignature.
    private func prove(
        _ message: [UInt8], _ opening: Opening, _ keys: SCRAMKeys, _ serverFirst: [UInt8]
    ) throws(SASLFault) -> [UInt8] {
        let comma = UInt8(ascii: ",")
        guard let end = message.lastIndex(of: comma), var attributes = SCRAMAttributes(message[..<end]),
            var last = SCRAMAttributes(message[(end + 1)...])
        else { throw .invalidEncoding }
        guard !attributes.hasMandatoryExtension else { throw .extensionsNotSupported }
        guard let binding = attributes.take("c").flatMap({ Base64.decode($0) }), let nonce = attributes.take("r"),
            let proof = last.take("p").flatMap({ Base64.decode($0) }), proof.count == hash.function.size,
            nonce.elementsEqual(opening.nonce)
        else { throw .invalidEncoding }
        guard ConstantTime.areEqual(binding, opening.binding) else { throw .channelBindingsDontMatch }
        let signed = opening.bare + [comma] + serverFirst + [comma] + message[..<end]
        let clientKey = SCRAMProof.masked(proof, keys.storedKey, hash, message: signed)
        let signature = hash.function.hmac(signed, key: keys.serverKey)
        guard ConstantTime.areEqual(hash.function.digest(clientKey), keys.storedKey) else { throw .invalidProof }
        return signature
    }
}
