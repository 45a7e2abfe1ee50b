// SCRAM: the examples of its RFCs, other people's conversations, and what each side refuses of the other.

import SlimtaCrypto
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaSASL

/// A conversation in which everything is given.
private struct Conversation: Decodable, Sendable, CustomTestStringConvertible {
    let label, digest, user, pass, salt64, clientNonce, serverNonce: String
    let skipSASLprep: Bool
    let iters: Int
    let valid: Bool
    let steps: [String]

    var testDescription: String { label }
    var mechanism: SASLMechanism { SASLMechanism(rawValue: "SCRAM-\(digest)") ?? .plain }
    var hash: SCRAMHash { SCRAMHash(rawValue: "SCRAM-\(digest)") ?? .sha1 }
    var salt: [UInt8] { Base64.decode(salt64.utf8.filter { $0 > 0x20 }) ?? [] }

    /// The keys of its user; where nothing is prepared, of the password as it is.
    var keys: SCRAMKeys {
        guard skipSASLprep else { return SCRAMKeys(password: pass.utf8, hash, iterations: iters, salt: salt) }
        let salted = hash.function.pbkdf2(pass.utf8, salt: salt, iterations: iters, count: hash.function.size)
        return SCRAMKeys(salted: salted, hash, salt: salt, iterations: iters)
    }

    func server(listed: Set<SASLMechanism>? = nil) -> SASLServer {
        SASLServer(mechanism, context: .test(listed: listed ?? [mechanism]), nonce: serverNonce)
    }
}

private let examples = [
    Conversation(
        label: "RFC 5802 section 5", digest: "SHA-1", user: "user", pass: "pencil", salt64: "QSXCR+Q6sek8bf92",
        clientNonce: "fyko+d2lbbFgONRv9qkxdawL", serverNonce: "3rfcNHYJY1ZVvWVs7j", skipSASLprep: false, iters: 4096,
        valid: true,
        steps: [
            "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "",
        ]),
    Conversation(
        label: "RFC 7677 section 3", digest: "SHA-256", user: "user", pass: "pencil",
        salt64: "W22ZaJ0SNY7soEsUEjb6gQ==", clientNonce: "rOprNGfwEbeRWgbNEkqO",
        serverNonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", skipSASLprep: false, iters: 4096, valid: true,
        steps: [
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "",
        ]),
]

@Suite struct SCRAMConversationTests {
    @Test(arguments: examples) fileprivate func example(_ example: Conversation) throws {
        try runServer(example)
        try runClient(example)
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func vectors() throws {
        let good = [
            "rfc5802", "rfc7677", "sha-1-ascii", "sha-1-ascii-pass", "sha-1-ascii-user", "sha-1-no-saslprep",
            "sha-1-saslprep-non-normal", "sha-1-saslprep-normal", "sha-256-ascii", "sha-256-ascii-pass",
            "sha-256-ascii-user", "sha-256-no-saslprep", "sha-256-saslprep-non-normal", "sha-256-saslprep-normal",
            "sha-512-ascii",
        ].map { "good/\($0)" }
        let bad = ["client/bad-user", "client/rfc5802-bad-proof", "client/rfc7677-bad-proof"].map { "bad-\($0)" }
        for name in good + bad {
            let conversation = try SharedFiles.vector(Conversation.self, "sasl/scram/\(name).json")
            try runServer(conversation)
            // Our client prepares what it sends.
            if conversation.valid && !conversation.skipSASLprep { try runClient(conversation) }
        }
        for name in ["rfc5802-bad-validator", "rfc7677-bad-validator"] {
            try runClient(SharedFiles.vector(Conversation.self, "sasl/scram/bad-server/\(name).json"))
        }
    }

    /// The client's steps come in, the server's have to come out.
    private func runServer(_ conversation: Conversation) throws {
        let steps = conversation.steps
        var server = conversation.server()
        let name = try #require(
            SASLprep.prepare(steps[0].split(separator: ",")[1].dropFirst(2).utf8)
                .map { String(decoding: $0, as: UTF8.self) })
        #expect(server.received(steps[0].octets) == .ask(.keys(login: name, conversation.hash)))
        let isKnown = !steps[1].hasPrefix("e=")
        let first = server.answered(.keys(isKnown ? conversation.keys : nil))
        guard isKnown else {
            // Unlike the server of this conversation, ours does not say so.
            guard case .challenge(let challenge) = first else {
                Issue.record("\(first)")
                return
            }
            #expect(challenge.starts(with: "r=\(conversation.clientNonce)\(conversation.serverNonce),s=".utf8))
            return
        }
        #expect(first == .text(steps[1]))
        guard conversation.valid else {
            #expect(server.received(steps[2].octets) == .refused(.invalidProof))
            return
        }
        #expect(server.received(steps[2].octets) == .text(steps[3]))
        #expect(server.received(steps[4].octets) == .success(login: name))
    }

    /// The server's steps come in, the client's have to come out.
    private func runClient(_ conversation: Conversation) throws {
        let steps = conversation.steps
        var client = try #require(
            SASLClient(
                offered: [conversation.mechanism],
                credentials: .init(username: conversation.user, password: conversation.pass), bindings: [:],
                nonce: conversation.clientNonce))
        #expect(client.begin() == steps[0].octets)
        #expect(client.respond(to: steps[1].octets) == steps[2].octets)
        #expect(!client.isProven)
        #expect(client.respond(to: steps[3].octets) == (conversation.valid ? [] : nil))
        #expect(client.isProven == conversation.valid)
    }
}

@Suite struct SCRAMServerTests {
    private static let keys = SCRAMKeys(password: "pencil".utf8, .sha256, iterations: 4096, salt: Array(1...16))

    private func opened(
        _ message: String, _ mechanism: SASLMechanism = .scramSHA256, listed: Set<SASLMechanism> = [.scramSHA256],
        bindings: [ChannelBinding: [UInt8]] = [.exporter: [1, 2], .endPoint: [3]]
    ) -> SASLStep {
        var server = SASLServer(mechanism, context: .test(listed: listed, bindings: bindings), nonce: "N")
        return server.received(message.octets)
    }

    @Test(arguments: [
        ("n,,n=user,r=x", "user"), ("n,a=user,n=user,r=x", "user"), ("n,a=,n=user,r=x", "user"),
        ("y,,n=user,r=x", "user"), ("n,,n=a=2Cb=3Dc,r=x", "a,b=c"), ("n,,n=ram\u{F5}n,r=x", "ram\u{F5}n"),
        ("n,,n=I\u{AD}X,r=x", "IX"), ("n,,n= u ,r=x", "u"), ("n,,n=user,r=x,z=1,q=", "user"),
        ("n,a=other,n=user,r=x", "user"), ("n,,n=user,r=!~=", "user"),
    ])
    func clientFirst(_ message: String, _ login: String) {
        #expect(opened(message) == .ask(.keys(login: login, .sha256)))
    }

    @Test(
        arguments: [
            ("", .invalidEncoding), ("n", .invalidEncoding), ("n,", .invalidEncoding), ("n,,", .invalidEncoding),
            ("n,,n=user", .invalidEncoding), ("n,,r=x,n=user", .invalidEncoding), ("n,,n=user,r=", .invalidEncoding),
            ("n,,n=user,r=a b", .invalidEncoding), ("n,,n=user,r=\u{E9}", .invalidEncoding),
            ("n,,n=user,r=x,", .invalidEncoding), ("n,,n=user,r=x,1=y", .invalidEncoding),
            ("n,,n=us=er,r=x", .invalidEncoding),
            ("n,,n=us=2cer,r=x", .invalidEncoding), ("n,,n=us=,r=x", .invalidEncoding),
            ("n,b=user,n=user,r=x", .invalidEncoding),
            ("n,a=u=1,n=user,r=x", .invalidEncoding), ("N,,n=user,r=x", .invalidEncoding),
            ("p=,,n=user,r=x", .invalidEncoding),
            ("p=a_b,,n=user,r=x", .invalidEncoding), ("n,,n=us\0er,r=x", .invalidEncoding),
            ("n,,m=x,n=user,r=x", .extensionsNotSupported), ("n,,n=user,r=x,m=x", .extensionsNotSupported),
            ("n,,n=,r=x", .noCredentials), ("n,,n=\u{AD},r=x", .noCredentials),
            ("n,,n=\u{7},r=x", .invalidUsernameEncoding),
            ("n,,n=\u{627}1,r=x", .invalidUsernameEncoding),
            ("p=tls-exporter,,n=user,r=x", .channelBindingNotSupported),
        ] as [(String, SASLFault)])
    func clientFirstRefused(_ message: String, _ fault: SASLFault) {
        #expect(opened(message) == .refused(fault))
    }

    @Test func nonces() {
        let longest = String(repeating: "x", count: 512)
        #expect(opened("n,,n=user,r=\(longest)") == .ask(.keys(login: "user", .sha256)))
        #expect(opened("n,,n=user,r=\(longest)x") == .refused(.invalidEncoding))
        var server = SASLServer(.scramSHA256, context: .test(listed: []), nonce: "N")
        #expect(
            server.received([0x6E, 0x2C, 0x2C, 0x6E, 0x3D, 0xFF, 0x2C, 0x72, 0x3D, 0x78])
                == .refused(.invalidUsernameEncoding))
    }

    /// RFC 5802 section 6: each flag in each mechanism, on each kind of connection.
    @Test func channelBinding() {
        let plus: Set<SASLMechanism> = [.scramSHA1Plus, .scramSHA256]
        let asks = SASLStep.ask(.keys(login: "u", .sha256))
        #expect(opened("n,,n=u,r=x", listed: plus) == asks)
        #expect(opened("y,,n=u,r=x", listed: [.scramSHA256, .plain]) == asks)
        // Somebody has taken -PLUS out of the list, even if that of another hash.
        #expect(opened("y,,n=u,r=x", listed: plus) == .refused(.serverDoesSupportChannelBinding))
        for flag in ["n", "y"] {
            #expect(
                opened("\(flag),,n=u,r=x", .scramSHA256Plus, listed: plus) == .refused(.serverDoesSupportChannelBinding)
            )
        }
        for type in ["tls-exporter", "tls-server-end-point"] {
            #expect(opened("p=\(type),,n=u,r=x", .scramSHA256Plus, listed: plus) == asks)
            #expect(opened("p=\(type),,n=u,r=x", listed: plus) == .refused(.channelBindingNotSupported))
        }
        for type in ["tls-unique", "TLS-EXPORTER", "x"] {
            #expect(
                opened("p=\(type),,n=u,r=x", .scramSHA256Plus, listed: plus) == .refused(.unsupportedChannelBindingType)
            )
        }
        // A certificate by Ed25519 has no end point.
        #expect(
            opened("p=tls-server-end-point,,n=u,r=x", .scramSHA256Plus, listed: plus, bindings: [.exporter: [1]])
                == .refused(.unsupportedChannelBindingType))
    }

    /// The last message of a client that knows the password, with one thing in it changed.
    private func final(
        first: String = "n,,n=user,r=C", binding: [UInt8]? = nil, nonce: String = "CN", extensions: String = "",
        mechanism: SASLMechanism = .scramSHA256, keys: SCRAMKeys? = Self.keys, change: (inout String) -> Void = { _ in }
    ) -> SASLStep {
        var server = SASLServer(mechanism, context: .test(listed: [.scramSHA256]), nonce: "N")
        _ = server.received(first.octets)
        guard case .challenge(let serverFirst) = server.answered(.keys(keys)) else { return .unavailable }
        let header = first.prefix(through: first.firstIndex(of: ",") ?? first.startIndex)
        let bare = first.dropFirst(header.count).drop { $0 != "," }.dropFirst()
        let gs2 = String(first.dropLast(bare.count))
        let withoutProof = "c=\(Base64.encode(binding ?? gs2.octets)),r=\(nonce)\(extensions)"
        let salted = SCRAMProof.salted("pencil".utf8, .sha256, salt: Array(1...16), iterations: 4096)
        let proof = SCRAMProof.masked(
            SCRAMProof.clientKey(salted, .sha256), SCRAMProof.storedKey(salted, .sha256), .sha256,
            message: Array(bare.utf8) + ",".utf8 + serverFirst + ",".utf8 + withoutProof.utf8)
        var message = "\(withoutProof),p=\(Base64.encode(proof))"
        change(&message)
        #expect(server.isTried)
        return server.received(message.octets)
    }

    @Test func clientFinal() {
        func isRight(_ step: SASLStep) -> Bool { if case .challenge = step { true } else { false } }
        #expect(isRight(final()))
        #expect(isRight(final(first: "n,a=user,n=user,r=C")))
        #expect(isRight(final(first: "n,,n=user,r=C,x=y", extensions: ",z=1")), "unknown attributes are signed")
        #expect(
            isRight(
                final(
                    first: "p=tls-exporter,,n=user,r=C", binding: "p=tls-exporter,,".octets + Array(0..<32),
                    mechanism: .scramSHA256Plus)))
        #expect(
            isRight(
                final(
                    first: "p=tls-server-end-point,,n=user,r=C",
                    binding: "p=tls-server-end-point,,".octets + Array(32..<64), mechanism: .scramSHA256Plus)))

        #expect(final(first: "n,a=other,n=user,r=C") == .refused(.otherIdentity))
        #expect(final(keys: nil) == .refused(.invalidProof))
        #expect(final(keys: SCRAMKeys(password: "other".utf8, .sha256, iterations: 4096)) == .refused(.invalidProof))
        for binding in ["y,,", "n,a=user,", "", "n,,x", "p=tls-exporter,,"] {
            #expect(final(binding: binding.octets) == .refused(.channelBindingsDontMatch), "\(binding)")
        }
        for wrong in [[], Array(32..<64), Array(0..<31), Array(1..<33)] as [[UInt8]] {
            #expect(
                final(
                    first: "p=tls-exporter,,n=user,r=C", binding: "p=tls-exporter,,".octets + wrong,
                    mechanism: .scramSHA256Plus) == .refused(.channelBindingsDontMatch))
        }
        for nonce in ["C", "N", "CNx", "cN", ""] {
            #expect(final(nonce: nonce) == .refused(.invalidEncoding), "\(nonce)")
        }
        #expect(final(extensions: ",m=1") == .refused(.extensionsNotSupported))
    }

    @Test(arguments: [
        "", "x", "p=AAAA", "c=biws,r=CN", "r=CN,c=biws,p=AAAA", "c=biws,r=CN,p=AAAA", "c=biws,r=CN,p=",
        "c=biws,r=CN,p=!",
        "c=biws,r=CN,v=AAAA", "c=biw,r=CN,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "c=biws,r=CN,",
    ])
    func clientFinalMalformed(_ message: String) {
        #expect(final { $0 = message } == .refused(.invalidEncoding))
    }

    /// What is behind the proof, and a proof that is not all right.
    @Test func proofs() {
        #expect(final { $0 += ",x=1" } == .refused(.invalidEncoding))
        #expect(final { $0 += ",p=AAAA" } == .refused(.invalidEncoding))
        for place in [0, 15, 31] {
            let step = final { message in
                let start = message.range(of: ",p=")
                var proof = Base64.decode(message[start.upperBound...].utf8) ?? []
                proof[place] ^= 1
                message = message[..<start.upperBound] + Base64.encode(proof)
            }
            #expect(step == .refused(.invalidProof))
        }
    }

    @Test func afterTheProof() {
        for (response, step) in [("", SASLStep.success(login: "user")), ("x", .malformed)] {
            var server = examples[0].server()
            _ = server.received(examples[0].steps[0].octets)
            _ = server.answered(.keys(examples[0].keys))
            #expect(server.received(examples[0].steps[2].octets) == .text(examples[0].steps[3]))
            #expect(server.isTried)
            #expect(server.received(response.octets) == step)
            #expect(server.received([]) == .unavailable)
        }
    }

    /// Who does not exist is answered as who does: the same at each try, other users otherwise, and nobody's proof is right.
    @Test func inventedKeys() throws {
        func salt(
            _ login: String, _ mechanism: SASLMechanism = .scramSHA256, foldsCase: Bool = false
        ) throws -> String {
            var context = SASLContext.test(listed: [mechanism])
            context.foldsCase = foldsCase
            var server = SASLServer.begin(mechanism, context: context)
            _ = server.received("n,,n=\(login),r=x".octets)
            guard case .challenge(let challenge) = server.answered(.keys(nil)) else { return "" }
            let parts = String(decoding: challenge, as: UTF8.self).split(separator: ",")
            #expect(parts.count == 3 && parts[2] == "i=4096")
            #expect(parts[0].hasPrefix("r=x") && parts[0].utf8.count == 27)
            let salt = String(parts[1])
            #expect(Base64.decode(salt.dropFirst(2).utf8)?.count == SCRAMKeys.saltSize)
            return salt
        }
        #expect(try salt("nobody") == salt("nobody"))
        #expect(try salt("nobody") == salt(" nobody "), "one form of a name, before everything")
        #expect(try salt("nobody") != salt("noone"))
        #expect(try salt("nobody") != salt("nobody", .scramSHA1))
        #expect(try salt("nobody") != salt("Nobody"))
        #expect(try salt("nobody", foldsCase: true) == salt("NoBody", foldsCase: true), "as of who exists")
        let invented = SCRAMKeys.invented(for: "u", .sha256, iterations: 4096, secret: "s".utf8)
        #expect(invented.salt != SCRAMKeys.invented(for: "u", .sha256, iterations: 4096, secret: "t".utf8).salt)
        #expect(!invented.matches("".utf8) && !invented.matches("pencil".utf8))
    }

    /// Keys for another hash would be another's.
    @Test func otherHash() {
        var server = examples[0].server()
        _ = server.received(examples[0].steps[0].octets)
        #expect(server.answered(.keys(Self.keys)) == .unavailable)
    }
}

extension String {
    /// Where `part` is; the end, if it is nowhere.
    fileprivate func range(of part: String) -> Range<String.Index> {
        firstRange(of: part) ?? endIndex..<endIndex
    }
}

@Suite struct SCRAMClientTests {
    private func client(
        _ offered: Set<SASLMechanism> = [.scramSHA1], _ bindings: [ChannelBinding: [UInt8]] = [:]
    ) throws -> SASLClient {
        try #require(
            SASLClient(
                offered: offered, credentials: .init(username: "user", password: "pencil"), bindings: bindings,
                nonce: "abc"))
    }

    @Test func flags() throws {
        func flag(_ offered: Set<SASLMechanism>, _ bindings: [ChannelBinding: [UInt8]]) throws -> String {
            var client = try client(offered, bindings)
            return String(decoding: client.begin() ?? [], as: UTF8.self)
        }
        let both: [ChannelBinding: [UInt8]] = [.exporter: [1], .endPoint: [2]]
        #expect(try flag([.scramSHA1], [:]) == "n,,n=user,r=abc")
        #expect(try flag([.scramSHA1, .scramSHA1Plus], [:]) == "n,,n=user,r=abc")
        #expect(try flag([.scramSHA1], both) == "y,,n=user,r=abc")
        #expect(try flag([.scramSHA1, .scramSHA1Plus], both) == "p=tls-exporter,,n=user,r=abc")
        #expect(try flag([.scramSHA1Plus], [.endPoint: [2]]) == "p=tls-server-end-point,,n=user,r=abc")
    }

    /// What a server may ask for has bounds, and its nonce begins with ours (RFC 5802 section 5.1).
    @Test(arguments: [
        "r=abc,s=QSXCR+Q6sek8bf92,i=4096", "r=abx1,s=QSXCR+Q6sek8bf92,i=4096", "r=abc1,s=,i=4096", "r=abc1,s=!,i=4096",
        "r=abc1,s=QSXCR+Q6sek8bf92,i=4095", "r=abc1,s=QSXCR+Q6sek8bf92,i=5000001", "r=abc1,s=QSXCR+Q6sek8bf92,i=04096",
        "r=abc1,s=QSXCR+Q6sek8bf92,i=-4096", "r=abc1,s=QSXCR+Q6sek8bf92,i=99999999999999999999",
        "r=abc1,s=QSXCR+Q6sek8bf92", "s=QSXCR+Q6sek8bf92,r=abc1,i=4096", "m=x,r=abc1,s=QSXCR+Q6sek8bf92,i=4096",
        "r=abc1,s=QSXCR+Q6sek8bf92,i=4096,m=x", "e=other-error", "",
        "r=abc1,s=" + Base64.encode([UInt8](repeating: 1, count: 1025)) + ",i=4096",
    ])
    func serverFirstRefused(_ challenge: String) throws {
        var client = try client()
        _ = client.begin()
        #expect(client.respond(to: challenge.octets) == nil)
        #expect(!client.isProven)
    }

    @Test(arguments: ["v=AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "v=", "v=!", "", "e=invalid-proof", "x=1"])
    func serverFinalRefused(_ challenge: String) throws {
        var client = try client()
        _ = client.begin()
        #expect(client.respond(to: "r=abc1,s=QSXCR+Q6sek8bf92,i=4096,x=1".octets) != nil)
        #expect(client.respond(to: challenge.octets) == nil)
        #expect(!client.isProven)
        #expect(client.respond(to: []) == nil)
    }
}

@Suite struct SCRAMKeysTests {
    /// RFC 5803's form of the key of RFC 7677's example, as PostgreSQL has it, and Dovecot's: the same with other signs.
    @Test func texts() throws {
        let keys = SCRAMKeys(password: "pencil".utf8, .sha256, iterations: 4096, salt: examples[1].salt)
        let text =
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        #expect(keys.rfc5803Text == text)
        #expect(SCRAMKeys(text) == keys)
        let commas =
            "4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        #expect(keys.commaSeparated == commas && SCRAMKeys("{SCRAM-SHA-256}" + commas) == keys)
        #expect(SCRAMKeys(.sha256, commaSeparated: commas) == keys)
        #expect(SCRAMKeys(.sha1, commaSeparated: commas) == nil, "the sizes of another hash")
    }

    @Test(arguments: SCRAMHash.allCases) func roundTrip(_ hash: SCRAMHash) {
        let keys = SCRAMKeys(password: "p\u{E4}ss".utf8, hash, iterations: 4096)
        #expect(keys.salt.count == 16 && keys.hash == hash && keys.iterationCount == 4096)
        #expect(SCRAMKeys(keys.rfc5803Text) == keys && SCRAMKeys("{\(hash.rawValue)}\(keys.commaSeparated)") == keys)
        #expect(SCRAMKeys(hash, commaSeparated: keys.commaSeparated) == keys)
        #expect(keys.matches("p\u{E4}ss".utf8) && keys.matches("pa\u{308}ss".utf8) && !keys.matches("pass".utf8))
        #expect(SCRAMKeys(password: "p".utf8, hash, iterations: 4096).salt != keys.salt)
    }

    /// What SASLprep refuses is taken as it is.
    @Test func unprepared() {
        for password in [[0xFF, 0x70], "\u{7}p".octets] {
            let keys = SCRAMKeys(password: password, .sha1, iterations: 4096)
            #expect(keys.matches(password) && !keys.matches("p".utf8))
        }
    }

    @Test(arguments: [
        "", "SCRAM-SHA-256", "SCRAM-SHA-256$", "SCRAM-MD5$4096:AAAA$AAAA:AAAA", "{SCRAM-SHA-1}", "{SCRAM-SHA-1",
        "{SCRAM-SHA-1}4096,AAAA,AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "{SCRAM-SHA-1}4095,AAAA,AAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "{SCRAM-SHA-1}5000001,AAAA,AAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "{SCRAM-SHA-1}4096,,AAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "{SCRAM-SHA-1}4096,AAAA,AAAA,AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "{SCRAM-SHA-1}4096,AAAA,AAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAA",
        "{SCRAM-SHA-1}4096,AAAA,AAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAA=,",
        "SCRAM-SHA-1$4096:AAAA:AAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "SCRAM-SHA-1$4096,AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "scram-sha-1$4096:AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ])
    func noKeys(_ text: String) {
        #expect(SCRAMKeys(text) == nil)
    }
}
