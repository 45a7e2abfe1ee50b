// Signatures against the vectors of the RFCs, and against the openssl command in both directions.

import Foundation
import Synchronization
import TestKit
import Testing

@testable import SlimtaCrypto

@Suite struct SignatureVectors {
    /// RFC 8032 section 7.1: secret key, public key, message, signature. The last message is a digest, as in DKIM.
    @Test(arguments: [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595b"
                + "be24655141438e7a100b"
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb430"
                + "2aeeb00d291612bb0c00"
        ),
        (
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643c"
                + "e80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138a"
                + "c17ad9bef1177331a704"
        ),
    ])
    func ed25519(_ secret: String, _ known: String, _ message: String, _ signature: String) throws {
        let key = try PrivateKey(ed25519: octets(secret))
        let publicKey = try PublicKey(ed25519: octets(known))
        #expect(key.scheme == .ed25519 && publicKey.scheme == .ed25519)
        #expect(hex(try key.sign(octets(message))) == signature)
        #expect(publicKey.isSignature(octets(signature), of: octets(message)))
        #expect(try key.publicKey.subjectPublicKeyInfo == publicKey.subjectPublicKeyInfo)
        expectNoOther(octets(signature), of: octets(message), publicKey)
    }

    /// RFC 8037 appendix A.4.
    @Test func edDSA() throws {
        let key = try PrivateKey(ed25519: base64("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
        #expect(
            try key.sign("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".utf8)
                == base64(
                    "hgyY0il/MGCjP0JzlnLWG1PPOt7+09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr/MuM0KAg=="))
    }

    /// RFC 7515 appendices A.2 and A.3; the JWKs' numbers stand in SubjectPublicKeyInfo.
    @Test func jws() throws {
        let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        let rsa = try PublicKey(
            subjectPublicKeyInfo: base64(
                "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPd"
                    + "dxHmfHQp+Vaw+4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo9wGz"
                    + "jb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qC"
                    + "o5ZwKh9kG4LT6/I5IhlJH7aGhyxXFvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQID"
                    + "AQAB"))
        #expect(rsa.scheme == .rsaSHA256 && rsa.bits == 2048)
        let rs256 = base64(
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB//dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh+0Qc/lF5YKt/O8W2Fp5jujGbds9uJdb"
                + "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB++f/nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB/eSN"
                + "9383LcOLn6/dO++xi12jzDwusC+eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5A"
                + "XLIhWkWywlVmtVrBp0igcN/IoypGlUPQGe77Rw==")
        #expect(rsa.isSignature(rs256, of: "eyJhbGciOiJSUzI1NiJ9.\(payload)".utf8))
        expectNoOther(rs256, of: Array("eyJhbGciOiJSUzI1NiJ9.\(payload)".utf8), rsa)

        let ec = try PublicKey(
            subjectPublicKeyInfo: base64(
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ld"
                    + "bqkLJK2KRiMohYjlrQ=="))
        #expect(ec.scheme == .ecdsaP256)
        let es256 = base64("DtEhU3ljbEg8L38VWAfUAqOyKAM6+Xx+F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3+Kg6NU1Q==")
        #expect(ec.isSignature(es256, of: "eyJhbGciOiJFUzI1NiJ9.\(payload)".utf8))
        expectNoOther(es256, of: Array("eyJhbGciOiJFUzI1NiJ9.\(payload)".utf8), ec)
    }

    /// Of another message, changed, cut, longer, empty, of zeros: never.
    private func expectNoOther(_ signature: [UInt8], of message: [UInt8], _ key: PublicKey) {
        #expect(!key.isSignature(signature, of: message + [0]))
        for place in [0, signature.count / 2, signature.count - 1] {
            var other = signature
            other[place] ^= 1
            #expect(!key.isSignature(other, of: message))
        }
        let others: [[UInt8]] = [
            signature.dropLast(), signature + [0], [], Array(repeating: 0, count: signature.count),
        ]
        for other in others {
            #expect(!key.isSignature(other, of: message))
        }
    }

    /// RFC 7515 appendix A.2's modulus as in its JWK, A.3's point, and what is none.
    @Test func numbers() throws {
        let n = base64(
            "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL+yRT+SFd2lZS+"
                + "pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB"
                + "EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxXFvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs"
                + "91kzk2PAcDTW9gb54h4FRWyuXpoQ==")
        let rsa = try PublicKey(rsaModulus: n, exponent: [1, 0, 1])
        #expect(rsa.scheme == .rsaSHA256 && rsa.bits == 2048 && rsa.allows(.rsaPSS) && !rsa.allows(.ed25519))
        #expect(
            try PublicKey(rsaModulus: [0] + n, exponent: [0, 1, 0, 1]).subjectPublicKeyInfo == rsa.subjectPublicKeyInfo)
        let short = try PublicKey(rsaModulus: [0x7F, 1], exponent: [3])
        #expect(short.bits == 15)
        for (modulus, exponent) in [
            ([], [3]), (n, []), (n, [0]), (n, [1]), (n, [2]), (n.dropLast() + [0], [1, 0, 1]),
            ([UInt8](repeating: 1, count: 1025), [3]), (n, [UInt8](repeating: 1, count: 9)),
        ] as [([UInt8], [UInt8])] {
            #expect(throws: CryptoError.self) { try PublicKey(rsaModulus: modulus, exponent: exponent) }
        }
        let (x, y) = (
            octets("7fcdce2770f6c45d4183cbee6fdb4b7b580733357be9ef13bacf6e3c7bd15445"),
            octets("c7f144cd1bbd9b7e872cdfedb9eeb9f4b3695d6ea90b24ad8a4623288588e5ad")
        )
        let point = try PublicKey(p256: x, y)
        #expect(point.scheme == .ecdsaP256 && Array(point.subjectPublicKeyInfo.suffix(64)) == x + y)
        let zero = [UInt8](repeating: 0, count: 32)
        for (x, y) in [(y, x), (x, x), (zero, zero), (x, y.dropLast()), (x + [0], y), ([], [])] as [([UInt8], [UInt8])]
        {
            #expect(throws: CryptoError.self) { try PublicKey(p256: x, y) }
        }
    }

    @Test(arguments: [[], [0x30], [UInt8](repeating: 0x30, count: 300)])
    func notKeys(_ octets: [UInt8]) {
        #expect(throws: CryptoError.self) { try PublicKey(subjectPublicKeyInfo: octets) }
        #expect(throws: CryptoError.self) { try PublicKey(pem: octets) }
        #expect(throws: CryptoError.self) { try PublicKey(ed25519: octets) }
        #expect(throws: CryptoError.self) { try PrivateKey(pem: octets) }
        #expect(throws: CryptoError.self) { try PrivateKey(ed25519: octets) }
    }
}

@Suite struct OpenSSLSignatureTests {
    static let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    static let p256 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    static let ed25519 = ["-algorithm", "ED25519"]

    /// Signed by one, checked by the other.
    @Test(arguments: [(rsa, SignatureScheme.rsaSHA256), (p256, .ecdsaP256), (ed25519, .ed25519)])
    func bothWays(_ kind: [String], _ scheme: SignatureScheme) throws {
        let folder = try Folder()
        try folder.openSSL(["genpkey", "-out", "key"] + kind)
        try folder.openSSL(["pkey", "-in", "key", "-pubout", "-out", "public"])
        let key = try PrivateKey(pem: folder.read("key"))
        let publicKey = try PublicKey(pem: folder.read("public"))
        #expect(key.scheme == scheme && publicKey.scheme == scheme)
        let der = try key.publicKey.subjectPublicKeyInfo
        #expect(der == publicKey.subjectPublicKeyInfo)
        #expect(throws: CryptoError.self) { try PublicKey(subjectPublicKeyInfo: der + [0]) }
        for size in [1, 100, 100_000] {
            let message = RandomOctets.visible(size)
            let signature = try key.sign(message)
            #expect(publicKey.isSignature(signature, of: message))
            try folder.write("message", message)
            // OpenSSL's form of ECDSA's is another.
            if scheme != .ecdsaP256 {
                try folder.write("signature", signature)
                try folder.openSSL(folder.verify(scheme))
                try folder.openSSL(folder.sign(scheme))
                #expect(publicKey.isSignature(try folder.read("signature"), of: message))
            }
        }
    }

    /// One key, two ways to sign: neither is taken for the other, and the openssl command agrees.
    @Test func pss() throws {
        let folder = try Folder()
        try folder.openSSL(["genpkey", "-out", "key"] + Self.rsa)
        try folder.openSSL(["pkey", "-in", "key", "-pubout", "-out", "public"])
        let key = try PrivateKey(pem: folder.read("key"))
        let publicKey = try key.publicKey
        let message = RandomOctets.visible(1000)
        let signature = try key.sign(message, by: .rsaPSS)
        #expect(publicKey.isSignature(signature, of: message, by: .rsaPSS))
        #expect(!publicKey.isSignature(signature, of: message + [0], by: .rsaPSS))
        #expect(!publicKey.isSignature(signature, of: message))
        #expect(!publicKey.isSignature(try key.sign(message), of: message, by: .rsaPSS))
        #expect(!publicKey.isSignature(signature, of: message, by: .ecdsaP256))
        #expect(throws: CryptoError.self) { try key.sign(message, by: .ed25519) }
        try folder.write("message", message)
        try folder.write("signature", signature)
        func options(_ salt: Int) -> [String] {
            ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:\(salt)"]
        }
        try folder.openSSL(options(32).inserted(into: folder.verify(.rsaPSS)))
        try folder.openSSL(options(32).inserted(into: folder.sign(.rsaPSS)))
        #expect(publicKey.isSignature(try folder.read("signature"), of: message, by: .rsaPSS))
        // RFC 7518 section 3.5: the salt is as long as the digest.
        try folder.openSSL(options(20).inserted(into: folder.sign(.rsaPSS)))
        #expect(!publicKey.isSignature(try folder.read("signature"), of: message, by: .rsaPSS))
        #expect(throws: CryptoError.self) {
            try PrivateKey(ed25519: Array(repeating: 1, count: 32)).sign(message, by: .rsaPSS)
        }
    }

    /// ECDSA's numbers, and not only those that fill their 32 octets.
    @Test func shortNumbers() throws {
        let folder = try Folder()
        try folder.openSSL(["genpkey", "-out", "key"] + Self.p256)
        let key = try PrivateKey(pem: folder.read("key"))
        let publicKey = try key.publicKey
        var hasShort = false
        for number in 0..<2000 where !hasShort {
            let message = Array("\(number)".utf8)
            let signature = try key.sign(message)
            #expect(signature.count == 64 && publicKey.isSignature(signature, of: message))
            hasShort = signature[0] == 0
        }
        #expect(hasShort)
    }

    /// Kinds that nobody signs mail with, and a key that somebody would have to be asked for.
    @Test(arguments: [
        ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], ["-algorithm", "ED448"], ["-algorithm", "X25519"],
        ["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"], rsa + ["-aes256", "-pass", "pass:secret"],
    ])
    func refused(_ kind: [String]) throws {
        let folder = try Folder()
        try folder.openSSL(["genpkey", "-out", "key"] + kind)
        #expect(throws: CryptoError.self) { try PrivateKey(pem: folder.read("key")) }
    }

    /// Many threads with one key.
    @Test(arguments: [rsa, p256, ed25519])
    func threads(_ kind: [String]) async throws {
        let folder = try Folder()
        try folder.openSSL(["genpkey", "-out", "key"] + kind)
        let key = try PrivateKey(pem: folder.read("key"))
        let publicKey = try key.publicKey
        let good = try await withThrowingTaskGroup(of: Int.self) { tasks in
            for task in 0..<8 {
                tasks.addTask {
                    try (0..<20).count { number in
                        let message = Array("\(task) \(number)".utf8)
                        return try publicKey.isSignature(key.sign(message), of: message)
                    }
                }
            }
            return try await tasks.reduce(0, +)
        }
        #expect(good == 160)
    }
}

/// A folder that the openssl command works in.
private final class Folder {
    private let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory.appendingPathComponent("crypto-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func read(_ name: String) throws -> [UInt8] { try Array(Data(contentsOf: url.appendingPathComponent(name))) }

    func write(_ name: String, _ octets: [UInt8]) throws {
        try Data(octets).write(to: url.appendingPathComponent(name))
    }

    func verify(_ scheme: SignatureScheme) -> [String] {
        scheme == .ed25519
            ? ["pkeyutl", "-verify", "-pubin", "-inkey", "public", "-rawin", "-in", "message", "-sigfile", "signature"]
            : ["dgst", "-sha256", "-verify", "public", "-signature", "signature", "message"]
    }

    func sign(_ scheme: SignatureScheme) -> [String] {
        scheme == .ed25519
            ? ["pkeyutl", "-sign", "-inkey", "key", "-rawin", "-in", "message", "-out", "signature"]
            : ["dgst", "-sha256", "-sign", "key", "-out", "signature", "message"]
    }

    /// Throws if it says no.
    func openSSL(_ arguments: [String]) throws { try runOpenSSL(arguments, in: url.path) }
}

extension [String] {
    /// Options of `openssl dgst` before the file that it works on, which comes last.
    fileprivate func inserted(into command: [String]) -> [String] { command.dropLast() + self + command.suffix(1) }
}

private func octets(_ hex: String) -> [UInt8] {
    stride(from: 0, to: hex.count, by: 2).map { place in
        UInt8(hex[hex.index(hex.startIndex, offsetBy: place)...].prefix(2), radix: 16) ?? 0
    }
}

private func base64(_ text: String) -> [UInt8] { Array(Data(base64Encoded: text) ?? Data()) }
