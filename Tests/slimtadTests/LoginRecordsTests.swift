// What is kept between runs: that what cannot be used is told and not lost, and that writers are not in each other's way.

import Foundation
import Logging
import SlimtaEdge
import SlimtaMail
import Testing

@testable import slimtad

@Suite struct LoginRecordsTests {
    private let folder: Folder
    private let log = KeptLog()
    private let logger: Logger

    init() throws {
        folder = try Folder()
        logger = Logger(label: "records") { [log] _ in log }
    }

    private func path(_ name: String) -> String { "\(folder.path)/\(name)" }

    private func write(_ octets: [UInt8], to name: String, mode: Int = 0o600) throws {
        try Data(octets).write(to: URL(filePath: path(name)))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path(name))
    }

    private func content(_ name: String) -> [UInt8]? {
        FileManager.default.contents(atPath: path(name)).map { Array($0) }
    }

    /// Reads all of it, as at a start.
    private func start() -> LoginRecords {
        _ = QuotaKeeper(in: folder.path, logger)
        return LoginRecords(folder.path, GuessWatch(logger), logger)
    }

    /// The file beside `name` that holds what was in it.
    private func kept(_ name: String) throws -> String {
        try #require(folder.names(".").first { $0.hasPrefix("\(name).unusable-") })
    }

    @Test(arguments: [
        ("guesses", "failed logins begin anew"), ("app-passwords", "last uses of passwords begin anew"),
        ("quotas", "quotas begin anew"),
    ])
    func whatCannotBeUsedIsSetAside(_ name: String, _ message: String) throws {
        let broken = Array("nothing of ours\n".utf8) + [0xFF]
        try write(broken, to: name)
        _ = start()
        let kept = try kept(name)
        #expect(log.lines(message).count == 1)
        #expect(log.lines(message).allSatisfy { $0.contains("the file is damaged") })
        #expect(log.lines(message).allSatisfy { $0.contains("kept=\(path(kept))") })
        #expect(content(kept) == broken && content(name) != broken)
        // Once.
        _ = start()
        #expect(log.lines(message).count == 1)
    }

    /// One that cannot be read at all, whoever asks.
    @Test(arguments: ["guesses", "app-passwords", "quotas"]) func whatCannotBeReadIsSetAside(_ name: String) throws {
        try FileManager.default.createDirectory(atPath: path(name), withIntermediateDirectories: false)
        _ = start()
        #expect(log.lines("").count { $0.contains("is not a regular file") } == 1)
        #expect(try !kept(name).isEmpty)
    }

    /// What can be understood of a file holds on.
    @Test func whatIsUnderstoodHolds() throws {
        let line = "alice:phone=2026-01-02T03:04:05.000Z"
        try write(Array("\(line)\n?\n".utf8), to: "app-passwords")
        _ = start()
        #expect(AppPasswordUses.look(in: folder.path).keys.sorted() == ["alice:phone"])
        #expect(content(try kept("app-passwords")) == Array("\(line)\n?\n".utf8))
        let familiar = "login 198.51.100.7/32 \(Timestamp.now().seconds) alice\n"
        try write(Array("\(familiar)?\n".utf8), to: "guesses")
        let watch = GuessWatch(logger)
        LoginRecords(folder.path, watch, logger).keep(of: watch)
        #expect(content("guesses") == Array(familiar.utf8))
    }

    /// Logins go on without the secret that there should be; which is told, for then names can be tried.
    @Test(arguments: [(0o600, 31), (0o644, 32)]) func aSecretThatCannotBeUsed(_ mode: Int, _ count: Int) throws {
        let octets = [UInt8](repeating: 7, count: count)
        try write(octets, to: "scram-secret", mode: mode)
        let (first, second) = (start().inventing, start().inventing)
        #expect(Array(first) != octets && Array(first) != Array(second) && first.count == 32)
        #expect(log.lines("SCRAM secret cannot be used, another holds until the end").count == 2)
        // Who can mend it finds it.
        #expect(content("scram-secret") == octets)
    }

    @Test func theSecretStays() throws {
        let first = start().inventing
        #expect(Array(start().inventing) == Array(first) && content("scram-secret") == Array(first))
        #expect(log.lines("").isEmpty)
    }

    /// Many at once: no writer fails for another, and in the end all of it is there.
    @Test func allUsesAreKept() async throws {
        let uses = AppPasswordUses(in: folder.path, logger)
        await withTaskGroup(of: Void.self) { group in
            for user in 0..<8 {
                group.addTask {
                    for app in 0..<60 {
                        uses.used("u\(user)", "a\(app)")
                        if app % 3 == 0 { await Task.yield() }
                    }
                }
            }
            for _ in 0..<4 { group.addTask { for _ in 0..<10 { uses.write() } } }
        }
        uses.write()
        #expect(AppPasswordUses.look(in: folder.path).count == 480)
        #expect(log.lines("").isEmpty)
        #expect(folder.names(".") == ["app-passwords"])
    }
}
