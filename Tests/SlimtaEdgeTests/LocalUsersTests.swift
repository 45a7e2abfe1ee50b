// Users of this machine: who is one, and as whom it may send.

import Glibc
import SlimtaMail
import Testing

@testable import SlimtaEdge
@testable import SlimtaSMTP

@Suite struct LocalUsersTests {
    private let users = LocalUsers(hostname: "Host.example", trusted: ["root", "www-data"]) { uid in
        [
            0: "root", 33: "www-data", 1000: "alice", 1001: "corp\\bob", 1002: "carol@corp.example", 1003: "",
            1004: "dave\n", 65534: "nobody", .max: "nobody",
        ][uid]
    }

    static let table: [(uid: UInt32, login: String?, senders: [String], others: [String])] = [
        (0, "root", ["root@host.example", "anybody@example.com"], []), (33, "www-data", ["shop@example.com"], []),
        (
            1000, "alice",
            [
                "alice@host.example", "Alice@HOST.example", "alice+list@host.example", "alice++@host.example",
                "\"alice\"@host.example",
            ],
            [
                "bob@host.example", "alice@example.com", "alicex@host.example", "alice+x@example.com",
                "x+alice@host.example",
                "root@host.example", "alice@host.example.com", "\"alice@x\"@host.example",
            ]
        ),
        (
            1001, "corp\\bob", ["\"corp\\\\bob\"@host.example", "\"corp\\\\bob+x\"@host.example"],
            ["bob@host.example", "corp@host.example", "\"corp\\\\bobx\"@host.example"]
        ),
        (
            1002, "carol@corp.example", ["\"carol@corp.example\"@host.example"],
            ["carol@corp.example", "x@host.example"]
        ),
        (1003, nil, [], []), (1004, "dave\n", [], ["dave@host.example", "x@y"]), (999, nil, [], []),
        (65534, nil, [], []),
        (.max, nil, [], []),
    ]

    @Test(arguments: table)
    func maySend(_ uid: UInt32, _ login: String?, _ senders: [String], _ others: [String]) async throws {
        let user = await users.user(uid)
        #expect(user?.login == login)
        for sender in senders { #expect(try maySend(user, as: sender), "\(sender)") }
        for sender in others { #expect(try !maySend(user, as: sender), "\(sender)") }
    }

    private func maySend(_ user: AuthenticatedUser?, as sender: String) throws -> Bool {
        try #require(user?.rights).allow(try #require(Mailbox(parsing: sender)), SenderMatching())
    }

    /// Only local users have extensions: those of a users file have what it says.
    @Test func extensionsAreGiven() throws {
        #expect(try !maySend(AuthenticatedUser(login: "a", senders: ["a@b"]), as: "a+x@b"))
        let user = AuthenticatedUser(login: "a", senders: ["@c", "a@b"], isLocal: true)
        #expect(try maySend(user, as: "a+x@b"))
        #expect(try maySend(user, as: "x@c"))
        #expect(try !maySend(user, as: "+x@d"))
    }
}
