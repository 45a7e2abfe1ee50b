// Digests, HMAC and PBKDF2 against the vectors of the RFCs, and what secrets are compared and made with.

import Testing

@testable import SlimtaCrypto

@Suite struct HashFunctionTests {
    /// FIPS 180-4's examples, and nothing at all.
    @Test(arguments: [
        (HashFunction.sha1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (.sha1, "", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (.sha256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (.sha256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            .sha512, "abc",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                + "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
    ])
    func digest(_ function: HashFunction, _ text: String, _ expected: String) {
        #expect(hex(function.digest(text.utf8)) == expected)
        #expect(function.digest(text.utf8).count == function.size)
    }

    /// However the octets are cut.
    @Test(arguments: HashFunction.allCases)
    func incremental(_ function: HashFunction) {
        let octets = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        for size in [1, 63, 64, 65, 999, 1000] {
            var digest = IncrementalDigest(function)
            for start in stride(from: 0, to: octets.count, by: size) {
                digest.update(octets[start..<min(start + size, octets.count)])
                digest.update([])
            }
            #expect(digest.finish() == function.digest(octets))
        }
        #expect(IncrementalDigest(function).finish() == function.digest([]))
    }

    private struct Vector: Sendable {
        let key: [UInt8]
        let message: [UInt8]
        let sha1: String
        let sha256: String
        let sha512: String

        init(_ key: [UInt8], _ message: [UInt8], _ sha1: String, _ sha256: String, _ sha512: String) {
            (self.key, self.message) = (key, message)
            (self.sha1, self.sha256, self.sha512) = (sha1, sha256, sha512)
        }
    }

    /// RFC 4231, all but the truncated one; SHA-1's for the same inputs are those of Python's hmac.
    private static let vectors = [
        Vector(
            [UInt8](repeating: 0x0B, count: 20), Array("Hi There".utf8),
            "b617318655057264e28bc0b6fb378c8ef146be00",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61"
                + "f1702e696c203a126854"
        ),
        Vector(
            Array("Jefe".utf8), Array("what do ya want for nothing?".utf8),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a"
                + "6b4b636e070a38bce737"
        ),
        Vector(
            [UInt8](repeating: 0xAA, count: 20), [UInt8](repeating: 0xDD, count: 50),
            "125d7342b9ac11cd91a39af48aa17b4f63f175d3",
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67c807b946a337bee8"
                + "942674278859e13292fb"
        ),
        Vector(
            Array(1...25), [UInt8](repeating: 0xCD, count: 50),
            "4c9007f4026250c6bc8414f9bf50c86c2d7235da",
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc5788063a5f19741120c"
                + "4f2de2adebeb10a298dd"
        ),
        Vector(
            [UInt8](repeating: 0xAA, count: 131), Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
            "90d0dace1c1bdc957339307803160335bde6df2b",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f"
                + "0aec8b915a985d786598"
        ),
    ]

    @Test func hmac() {
        for vector in Self.vectors {
            #expect(hex(HashFunction.sha1.hmac(vector.message, key: vector.key)) == vector.sha1)
            #expect(hex(HashFunction.sha256.hmac(vector.message, key: vector.key)) == vector.sha256)
            #expect(hex(HashFunction.sha512.hmac(vector.message, key: vector.key)) == vector.sha512)
        }
    }

    /// An empty key is one (RFC 2104 section 2 pads it), and so is an empty message.
    @Test func hmacOfNothing() {
        #expect(
            hex(HashFunction.sha256.hmac([], key: []))
                == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
    }

    /// RFC 6070; RFC 7914 section 11.
    @Test(arguments: [
        (HashFunction.sha1, "password", "salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
        (.sha1, "password", "salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
        (.sha1, "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"),
        (
            .sha1, "passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096,
            "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038"
        ),
        (.sha1, "pass\0word", "sa\0lt", 4096, "56fa6aa75548099dcc37d7f03425e0c3"),
        (
            .sha256, "passwd", "salt", 1,
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e3"
                + "0bd509112041d3a19783"
        ),
        (
            .sha256, "Password", "NaCl", 80000,
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56a1d425a1225833549adb841b51c9b3176a272bdebba1"
                + "d078478f62b397f33c8d"
        ),
    ])
    func pbkdf2(_ function: HashFunction, _ password: String, _ salt: String, _ iterations: Int, _ expected: String) {
        let key = function.pbkdf2(
            password.utf8, salt: Array(salt.utf8), iterations: iterations, count: expected.utf8.count / 2)
        #expect(hex(key) == expected)
    }
}

@Suite struct OctetsTests {
    @Test(arguments: [
        ("", "", true), ("a", "a", true), ("a", "b", false), ("", "a", false), ("ab", "a", false),
        ("abc", "abd", false),
    ])
    func areEqual(_ a: String, _ b: String, _ expected: Bool) {
        #expect(ConstantTime.areEqual(a.utf8, Array(b.utf8)) == expected)
        // What has no octets in one piece is copied.
        #expect(ConstantTime.areEqual(a.utf8.reversed(), b.utf8.reversed()) == expected)
    }

    @Test func random() {
        for make in [RandomOctets.visible, RandomOctets.secret] {
            #expect(make(0) == [])
            #expect(Set((0..<100).map { _ in make(16) }).count == 100)
            // Each octet is a random one.
            let all = make(4096)
            #expect(all.count == 4096 && Set(all).count == 256)
        }
    }

    @Test func overwrite() {
        var octets: [UInt8] = [1, 2, 3]
        octets.overwrite()
        #expect(octets == [0, 0, 0])
    }

    @Test func keyedDigest() {
        let (a, b) = (KeyedDigest(), KeyedDigest())
        #expect(a(Array("x".utf8)) == a(Array("x".utf8)))
        #expect(a(Array("x".utf8)).prefix == a(Array("x".utf8)).prefix)
        #expect(!(a(Array("x".utf8)) == a(Array("y".utf8))))
        #expect(!(a(Array("x".utf8)) == b(Array("x".utf8))))
    }
}

/// In lower case.
func hex(_ octets: [UInt8]) -> String {
    octets.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
