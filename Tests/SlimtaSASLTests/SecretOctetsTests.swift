// Passwords are overwritten when nobody holds them, and are in no text.

import Testing

@testable import SlimtaSASL

@Suite struct SecretOctetsTests {
    @Test func theyAreInNoText() {
        let secret = SecretOctets("hunter2".utf8)
        for text in ["\(secret)", String(reflecting: secret), "\(Credentials(login: "u", password: "hunter2".utf8))"] {
            #expect(!text.contains("hunter2"))
        }
        var dumped = ""
        dump(secret, to: &dumped)
        #expect(!dumped.contains("hunter2"))
        #expect(secret.elementsEqual("hunter2".utf8))
        #expect(SecretOctets([]).isEmpty)
    }

    @Test func wipingEmptiesTheArray() {
        var octets = Array("hunter2".utf8)
        octets.wipe()
        #expect(octets.isEmpty)
        var empty: [UInt8] = []
        empty.wipe()
        #expect(empty.isEmpty)
    }
}
