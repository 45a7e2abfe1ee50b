// Keys of the operator, which a keeper reads and does not make: files, names, an open gate.

import Glibc
import Logging
import SlimtaConfiguration
import SlimtaControl
import SlimtaDKIM
import SlimtaMail
import SlimtaPolicy
import SlimtaSystem
import Testing

@testable import slimtad

@Suite struct OperatorKeyTests {
    private let keys: KeeperWorld

    init() throws { keys = try KeeperWorld() }

    @Test func filesOfTheOperator() throws {
        let key = try DKIMSigningKey.generate(.ed25519SHA256)
        let path = "\(keys.folder.path)/key.pem"
        func write(_ mode: mode_t = 0o600) throws {
            try keys.folder.write(String(decoding: try key.pem, as: UTF8.self), to: "key.pem")
            chmod(path, mode)
        }
        func table(_ algorithm: String) -> String {
            "[[dkim]]\ndomains = [\"example.com\"]\nselector = \"s1\"\nkey_file = \"\(path)\"\nalgorithm = \"\(algorithm)\"\n"
        }
        func refusal() throws -> String? {
            let file = try keys.file
            do throws(Failure) { _ = try Secrets.load(file) } catch {
                #expect(error.status == .configuration)
                return error.message
            }
            return nil
        }
        keys.configuration = table("ed25519-sha256")
        #expect(try refusal()?.contains("key.pem") == true)
        try write(0o644)
        #expect(try refusal()?.contains("mode 0644") == true)
        try write(0o620)
        #expect(try refusal()?.contains("mode 0620") == true)
        try write()
        #expect(try refusal() == nil)
        keys.configuration = table("rsa-sha256")
        #expect(try refusal()?.contains("has a key for ed25519-sha256, and algorithm is \"rsa-sha256\"") == true)
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            try keys.folder.write(text, to: "key.pem")
            chmod(path, 0o600)
            #expect(try refusal()?.contains("no private key") == true)
        }
        keys.configuration = table("ed25519-sha256")
        try write()
        try keys.configure()
        #expect(keys.states == ["s1": "made"])
        #expect(keys.keeper.report().keys[0].isOurs == false)
    }

    /// Another key in the file, under the same selector: DNS has shown the old one, and that is no help to the new one.
    @Test(arguments: [false, true]) func anotherKeyInTheFile(restarting: Bool) throws {
        let path = "\(keys.folder.path)/key.pem"
        func write() throws -> DKIMPublicKey {
            let key = try DKIMSigningKey.generate(.rsaSHA256)
            try keys.folder.write(String(decoding: try key.pem, as: UTF8.self), to: "key.pem")
            chmod(path, 0o600)
            return key.publicKey
        }
        keys.configuration =
            "[[dkim]]\ndomains = [\"example.com\"]\nselector = \"s1\"\nkey_file = \"\(path)\"\n"
        let first = try write()
        try keys.configure()
        keys.zone["s1._domainkey.example.com"] = .records([Array(first.record.utf8)])
        keys.live(KeeperWorld.hour * 3)
        #expect(keys.signers == ["s1"])
        // The same key: nothing changes.
        try restarting ? keys.restart() : keys.configure()
        #expect(keys.signers == ["s1"])
        let second = try write()
        try restarting ? keys.restart() : keys.configure()
        #expect(keys.signers == nil && keys.states == ["s1": "made"])
        keys.live(KeeperWorld.hour * 3)
        #expect(keys.signers == nil)
        keys.zone["s1._domainkey.example.com"] = .records([Array(second.record.utf8)])
        keys.live(KeeperWorld.hour * 3)
        #expect(keys.signers == ["s1"])
    }

    /// A key whose file is gone: its name is not given again, for DNS may still have its record.
    @Test func aNameIsNotGivenAgain() throws {
        let first = try keys.make()
        try keys.configure()
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        keys.configuration = ""
        try keys.configure()
        unlink("\(keys.folder.path)/state/dkim/keys/example.com/\(first.selector).pem")
        try keys.restart()
        #expect(throws: SigningKeyRefusal.self) { try keys.make(selector: first.selector) }
        let second = try keys.make()
        #expect(second.selector > first.selector)
        keys.configuration = KeeperWorld.table
        try keys.configure()
        #expect(keys.signers == nil && keys.states == [second.selector: "made"])
    }

    @Test func anOpenGateSignsWithTheFirstKey() throws {
        let first = try keys.make()
        keys.configuration = KeeperWorld.table + "gate = \"open\"\n"
        try keys.configure()
        #expect(keys.signers == [first.selector])
        #expect(keys.log.lines("mail of a domain is signed before DNS has its key").count == 1)
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        #expect(keys.log.lines("mail of a domain is signed again").count == 1)
        keys.zone = [:]
        keys.live(KeeperWorld.hour * 3)
        #expect(keys.signers == nil)
    }
}
