// Files of refresh tokens: one for each that was configured, and what is said of one that cannot be read.

import Foundation
import SlimtaRelay
import Testing

@testable import slimtad

@Suite struct RefreshTokensTests {
    private static func settings(_ configured: String) -> TokenSettings {
        TokenSettings(
            endpoint: .init(host: "login.test", port: 443, target: "/token"), username: "a@b.test", clientID: "me",
            proof: .none, grant: .refreshToken(configured))
    }

    @Test func files() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tokens-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let tokens = RefreshTokens()
        let store = try #require(tokens.store(of: Self.settings("one"), in: folder))
        #expect(try store.read() == nil)
        let kept = try #require(StoredRefreshToken(Array(#"{"token":"new","origin":"x","used":1}"#.utf8)))
        #expect(store.write(kept) == nil)
        #expect(try store.read() == kept)
        // Another configured token has its own, with the one before still in use.
        let other = try #require(tokens.store(of: Self.settings("two"), in: folder))
        #expect(try other.read() == nil)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder)
        #expect(names.count == 1)
        let path = "\(folder)/\(names[0])"

        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
        #expect(throws: TokenSource.Unavailable.self) { try store.read() }
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
        try Data("damaged".utf8).write(to: URL(fileURLWithPath: path))
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
        #expect(throws: TokenSource.Unavailable.self) { try store.read() }
    }
}
