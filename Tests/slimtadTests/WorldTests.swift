// Worlds beside each other: each is built whole or not at all, and ends when the last who has it lets go.

import Glibc
import Logging
import NIOCore
import SlimtaConfiguration
import SlimtaDNS
import SlimtaEdge
import SlimtaSystem
import SlimtaTLS
import TestKit
import Testing

@testable import slimtad

@Suite(.timeLimit(.minutes(2))) struct WorldTests {
    private let folder: Folder
    private let ground: Ground

    init() throws {
        folder = try Folder()
        // In the daemon the queue, opened before, has made it.
        mkdir("\(folder.path)/state", 0o700)
        let logger = Logger(label: "world") { _ in SwiftLogNoOpLogHandler() }
        ground = Ground(
            budget: FileBudget(limit: 1 << 16), level: SharedLogLevel(.info),
            quotas: QuotaKeeper(in: "\(folder.path)/state", logger),
            signing: DKIMKeeper(in: "\(folder.path)/state", logger),
            tlsMemory: TLSMemoryKeeper(in: "\(folder.path)/state", logger),
            sts: STSKeeper(in: "\(folder.path)/state", logger),
            sites: SiteKeeper(in: "\(folder.path)/state", logger),
            tlsReports: TLSReportKeeper(in: "\(folder.path)/state", logger), logger: logger)
    }

    /// What slimta.conf may name, the network takes.
    @Test func theLongestPathOfASocket() throws {
        let path = "/" + String(repeating: "x", count: 102)
        #expect(try #require(ServiceAddress("unix:\(path)")).socketAddress.pathname == path)
        #expect(ServiceAddress("unix:\(path)x") == nil)
    }

    private func build(_ conf: Conf = Conf(), after previous: World? = nil) async throws -> World {
        try folder.write(conf.text(folder), to: "slimta.conf")
        let file = try ConfigurationFile.parse("\(folder.path)/slimta.conf")
        return try await World.build(file, Secrets.load(file), inUse: 100, after: previous, on: ground)
    }

    /// Runs what ends worlds while `body` runs.
    private func withEndings(_ body: () async throws -> Void) async throws {
        let endings = Task { [ground] in await ground.endings.run() }
        try await body()
        endings.cancel()
        await ground.end()
    }

    /// Thirty worlds, each with an attempt that still has its relays: none ends before its attempt, and all end with it.
    @Test func endsWithTheLastAttempt() async throws {
        try await withEndings {
            var now = try await build()
            var attempts: [RelaySet] = []
            var resolvers = [now.resolver]
            for _ in 0..<30 {
                attempts.append(now.relays)
                now = try await build(after: now)
                resolvers.append(now.resolver)
            }
            try await Task.sleep(for: .milliseconds(50))
            #expect(resolvers.allSatisfy { !$0.isClosing })
            #expect(attempts.first?.destination(for: "y.example") == now.relays.destination(for: "y.example"))
            while !attempts.isEmpty {
                attempts.removeLast()
                try await wait("end of a world") { resolvers[attempts.count].isClosing }
                #expect(resolvers[..<attempts.count].allSatisfy { !$0.isClosing })
            }
            #expect(!now.resolver.isClosing)
            await now.relays.end()
            #expect(now.resolver.isClosing)
        }
    }

    /// What was begun for a world that cannot be built ends; the one in use is as it was.
    @Test func aMistakeLeavesNothing() async throws {
        try await withEndings {
            let old = try await build()
            let few = Ground(
                budget: FileBudget(limit: 20), level: ground.level, quotas: ground.quotas, signing: ground.signing,
                tlsMemory: ground.tlsMemory, sts: ground.sts, sites: ground.sites, tlsReports: ground.tlsReports,
                logger: ground.logger)
            await #expect(throws: Failure.self) {
                try await World.build(old.file, old.secrets, inUse: 10, on: few)
            }
            await few.end()
            #expect(!old.resolver.isClosing)
            await old.relays.end()
        }
    }

    /// What cannot be made is told as what it is.
    @Test func faultsHaveTheirNames() async throws {
        try await withEndings {
            var conf = Conf()
            conf.more = """
                [auth]
                backends = ["oauth"]
                mechanisms = ["OAUTHBEARER"]
                [auth.oauth]
                issuer = "https://issuer.test"
                audience = "slimtad"
                jwks_url = "https://issuer.test/keys"
                trust_file = "\(folder.path)/none.pem"
                """
            let failure = try await #require(throws: Failure.self) { _ = try await build(conf) }
            #expect(failure.message.hasPrefix("auth.oauth: "))
        }
    }

    /// A users file is read when it has changed and rested; one that cannot be used keeps the users, and is told once.
    @Test func usersAreRenewed() async throws {
        try await withEndings {
            func write(_ users: [String], mode: mode_t = 0o600) throws {
                let hash = "$6$salt$" + String(repeating: "a", count: 86)
                try folder.write(users.map { "\($0):\(hash)\n" }.joined(), to: "users")
                chmod("\(folder.path)/users", mode)
            }
            var conf = Conf()
            conf.access = "tls = \"none\"\nplaintext_auth = true"
            conf.more = "[auth]\nusers = \"\(folder.path)/users\""
            try write(["one"])
            var world = try await build(conf)
            func look() -> Bool { world.renewUsers(ground.logger) }
            func names() -> [String] { world.secrets.users?.users.keys.sorted() ?? [] }
            #expect(!look() && !look())
            #expect(names() == ["one"])
            try write(["one", "two"])
            #expect(!look(), "it may still be written")
            #expect(look())
            #expect(names() == ["one", "two"])
            #expect(!look())
            // Everybody may read it.
            try write(["three"], mode: 0o644)
            #expect(!look())
            #expect(look())
            #expect(names() == ["one", "two"] && world.secrets.complaints.count == 1)
            #expect(!look() && !look())
            try write(["three"])
            #expect(!look())
            #expect(look())
            #expect(names() == ["three"] && world.secrets.complaints.isEmpty)
            await world.relays.end()
        }
    }

    /// Renewed certificates are taken, bad ones keep the old.
    @Test func certificatesAreRenewed() async throws {
        try await withEndings {
            let certificates = try TestKit.Certificates()
            let files = ["certificate", "key"].map { "\(folder.path)/\($0).pem" }
            func install(_ pair: TestKit.Certificates.Pair, key: TestKit.Certificates.Pair? = nil) throws {
                try folder.write(String(decoding: pair.certificatePEM, as: UTF8.self), to: "certificate.pem")
                try folder.write(String(decoding: (key ?? pair).keyPEM, as: UTF8.self), to: "key.pem")
                chmod(files[1], 0o600)
            }
            let (first, second) = (try certificates.selfSigned("one"), try certificates.selfSigned("two"))
            try install(first)
            var conf = Conf()
            conf.access = "tls = \"starttls\""
            conf.more = "[tls]\ncertificate = \"\(files[0])\"\nkey = \"\(files[1])\"\n"
            conf.more += "[auth]\nusers = \"\(folder.path)/none\""
            var world = try await build(conf)
            let before = world.secrets.tls
            func look() -> Bool { world.renewCertificates(ground.logger) }
            #expect(!look())
            try install(second, key: first)
            #expect(!look())
            #expect(world.secrets.tls === before && world.secrets.complaints.contains { $0.isOfCertificate })
            try install(second)
            #expect(look())
            #expect(world.secrets.tls !== before && !world.secrets.complaints.contains { $0.isOfCertificate })
            await world.relays.end()
        }
    }
}
