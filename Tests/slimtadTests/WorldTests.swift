// Worlds beside each other: each is built whole or not at all, and ends when the last who has it lets go.

import Logging
import SlimtaDNS
import SlimtaSystem
import TestKit
import Testing

@testable import slimtad

@Suite(.timeLimit(.minutes(2))) struct WorldTests {
    private let folder: Folder
    private let ground: Ground

    init() throws {
        folder = try Folder()
        ground = Ground(
            budget: FileBudget(limit: 1 << 16), level: SharedLogLevel(.info),
            logger: Logger(label: "world") { _ in SwiftLogNoOpLogHandler() })
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
            let few = Ground(budget: FileBudget(limit: 20), level: ground.level, logger: ground.logger)
            await #expect(throws: Failure.self) {
                try await World.build(old.file, old.secrets, inUse: 10, on: few)
            }
            await few.end()
            #expect(!old.resolver.isClosing)
            await old.relays.end()
        }
    }
}
