// [[edge]] of type "directory": its keys, their defaults, and what is a mistake.

import SlimtaMail
import Testing

@testable import SlimtaConfiguration

@Suite struct DirectoryEdgeTests {
    static func pickup(_ keys: String, name: String = "pickup") -> String {
        "[[edge]]\nname = \"\(name)\"\ntype = \"directory\"\n\(keys)\n"
    }

    @Test func defaultsAndKeys() throws {
        var edge = try #require(try Configuration.parse(Self.pickup("path = \"/var/p\""), file: "f").edges.first)
        #expect(edge.type == .directory(.init(path: "/var/p")) && edge.listen.isEmpty && edge.places == ["/var/p"])
        #expect(edge.hasLogins && edge.trust.isEmpty)
        let keys = "path = \"/var/p\"\nowner_login = false\nsettle = \"10s\""
        edge = try #require(try Configuration.parse(Self.pickup(keys), file: "f").edges.first)
        #expect(edge.type == .directory(.init(path: "/var/p", ownerLogin: false, settle: .seconds(10))))
        #expect(!edge.hasLogins && edge.trust.allows(.unix))
        let users = "path = \"/var/p\"\ntrusted_users = [\"root\", \"www-data\"]"
        edge = try #require(try Configuration.parse(Self.pickup(users), file: "f").edges.first)
        #expect(edge.type == .directory(.init(path: "/var/p", trustedUsers: ["root", "www-data"])))
    }

    @Test(arguments: ["p", "/", "/a/", "/a//b", "/a/./b", "/../a", ""]) func paths(_ path: String) {
        let found = mistakes(Self.pickup("path = \"\(path)\""))
        #expect(found.count == 1 && found.first?.contains("absolute path") == true, "\(found)")
    }

    @Test func mistakesAreNamed() {
        #expect(mistakes(Self.pickup("")).first?.contains("edge[0].path: missing") == true)
        #expect(mistakes(Self.pickup("path = \"/p\"\nlisten = [\"127.0.0.1:25\"]")).first?.contains("listen") == true)
        #expect(mistakes(Self.pickup("path = \"/p\"\nsettle = \"2h\"")).count == 1)
        let trusted = "path = \"/p\"\nowner_login = false\ntrusted_users = [\"root\"]"
        #expect(mistakes(Self.pickup(trusted)).first?.contains("trusted_users") == true)
        let twice = Self.pickup("path = \"/p\"") + Self.pickup("path = \"/p\"", name: "other")
        #expect(mistakes(twice).first?.contains("each folder once") == true)
    }
}
