// The pickup folder on a real disk, and the directory edge with a storage that says what it is told to: files become
// messages once, and are where they belong behind that.

import Foundation
import Glibc
import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaQueue
import SlimtaRules
import SlimtaSMTP
import Testing

@testable import SlimtaEdge

@Suite struct DirectoryEdgeTests {
    /// A folder that goes with the object.
    final class Folder: Sendable {
        let path: String

        init() throws {
            path = FileManager.default.temporaryDirectory.appending(path: "slimtad-\(UUID())").path
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        }

        deinit { try? FileManager.default.removeItem(atPath: path) }

        func write(_ name: String, _ text: String) throws {
            try Data(text.utf8).write(to: URL(filePath: "\(path)/\(name)"))
        }

        func names(_ inside: String = "") -> [String] {
            ((try? FileManager.default.contentsOfDirectory(atPath: "\(path)/\(inside)")) ?? []).sorted()
        }

        /// Whether this process has a watch of inotify on it.
        var isWatched: Bool {
            var status = stat()
            guard stat(path, &status) == 0,
                let open = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")
            else { return false }
            return open.contains { number in
                (try? String(contentsOfFile: "/proc/self/fdinfo/\(number)", encoding: .utf8))?
                    .contains(" ino:\(String(status.st_ino, radix: 16)) ") ?? false
            }
        }

        func text(_ name: String) -> String {
            (try? String(contentsOfFile: "\(path)/\(name)", encoding: .utf8)) ?? ""
        }

        func file(_ name: String, _ folder: PickupFolder) throws -> PickupFile {
            let name = PickupName(name.utf8)
            return PickupFile(name: name, facts: try #require(folder.facts(of: name)))
        }
    }

    static let mail = "From: a@x.test\nTo: b@y.test\nSubject: s\n\nx\n"

    // MARK: The folder

    @Test func whatIsInIt() throws {
        let place = try Folder()
        for name in ["b", "a", ".c", "d.tmp"] { try place.write(name, "x") }
        mkfifo("\(place.path)/fifo", 0o600)
        symlink("\(place.path)/a", "\(place.path)/link")
        link("\(place.path)/a", "\(place.path)/a2")
        let folder = try PickupFolder(place.path)
        var content = try folder.content(limit: 10, leavesLinked: false)
        #expect(content.files.map(\.name.description).sorted() == ["a", "a2", "b"])
        #expect(content.isAll && content.isThere && content.taken.isEmpty && content.failedCount == 0)
        #expect(try folder.content(limit: 10, leavesLinked: true).files.map(\.name.description) == ["b"])
        content = try folder.content(limit: 1, leavesLinked: false)
        #expect(content.files.count == 1 && !content.isAll)
        try FileManager.default.moveItem(atPath: place.path, toPath: place.path + "-away")
        #expect(try !folder.content(limit: 1, leavesLinked: false).isThere)
        try FileManager.default.moveItem(atPath: place.path + "-away", toPath: place.path)
    }

    /// However many files somebody has, and whatever their age: those of others are among what is known.
    @Test(.enabled(if: geteuid() == 0, "files are given away")) func whoHasManyFilesKeepsOutNobody() throws {
        let place = try Folder()
        func give(_ name: String, to owner: uid_t, modified: Int) throws {
            try place.write(name, "x")
            let path = "\(place.path)/\(name)"
            #expect(chown(path, owner, owner) == 0)
            let times = [timeval(tv_sec: modified, tv_usec: 0), timeval(tv_sec: modified, tv_usec: 0)]
            #expect(utimes(path, times) == 0)
        }
        for number in 0..<50 { try give("many\(number)", to: 1001, modified: number) }
        for number in 0..<20 { try place.write("empty\(number)", "") }
        for number in 0..<3 { try give("few\(number)", to: 1002, modified: 2000 + number) }
        let content = try PickupFolder(place.path).content(limit: 8, leavesLinked: false)
        #expect(
            content.files.map(\.name.description) == [
                "many0", "many1", "many2", "many3", "many4", "few0", "few1", "few2",
            ])
        #expect(!content.isAll)
    }

    @Test func oneOwnerAtATime() throws {
        let place = try Folder()
        var folder: PickupFolder? = try PickupFolder(place.path)
        #expect(throws: PickupFolder.Problem("\(place.path) is in use by another edge")) {
            try PickupFolder(place.path)
        }
        withExtendedLifetime(folder) {}
        folder = nil
        _ = try PickupFolder(place.path)
        #expect(place.names() == ["failed", "taken"])
        chmod("\(place.path)/taken", 0o777)
        #expect(throws: PickupFolder.Problem.self) { try PickupFolder(place.path) }
        #expect(throws: PickupFolder.Problem.self) { try PickupFolder(place.path + "/nowhere") }
    }

    @Test func takenReadAndRemoved() throws {
        let place = try Folder()
        let odd = "odd\n\u{E9}"
        for name in ["a", "b", odd] { try place.write(name, Self.mail) }
        let folder = try PickupFolder(place.path)
        let files = try ["a", "b", odd].map { (file: try place.file($0, folder), id: QueueID(at: .now())) }
        try place.write("b", Self.mail + "more")
        unlink("\(place.path)/a")
        let takings = folder.take(files)
        #expect(takings[0].taking == .not && takings[0].problem == nil)
        guard case .changed(let facts) = takings[1].taking else { return record("\(takings[1])") }
        #expect(facts.size == Int64(Self.mail.utf8.count + 4))
        var taken = TakenFile(id: files[2].id, name: PickupName(odd.utf8))
        taken.owner = getuid()
        #expect(takings[2].taking == .taken(taken))
        #expect(try folder.content(limit: 10, leavesLinked: false).taken == [taken])
        let reader = try #require(try folder.open(taken))
        #expect(try String(buffer: reader.read(at: 0)) == Self.mail)
        #expect(try reader.read(at: Int64(Self.mail.utf8.count)).readableBytes == 0)
        try folder.remove([taken])
        #expect(try folder.open(taken) == nil && place.names("taken").isEmpty)
        try folder.remove([taken])
    }

    @Test func setAsideWithTheReason() throws {
        let place = try Folder()
        let folder = try PickupFolder(place.path)
        var ids: [QueueID] = []
        for text in ["first", "second"] {
            try place.write("a", text)
            let id = QueueID(at: .now())
            ids.append(id)
            _ = folder.take([(file: try place.file("a", folder), id: id)])
            _ = try folder.setAside(TakenFile(id: id, name: PickupName("a".utf8)), reason: "no \(text)")
        }
        #expect(place.text("failed/a") == "first" && place.text("failed/a.reason") == "no first")
        #expect(place.text("failed/\(ids[1])~a") == "second" && place.text("failed/\(ids[1])~a.reason") == "no second")
        #expect(place.names("taken").isEmpty && place.names("failed").count == 4)
        #expect(try folder.content(limit: 1, leavesLinked: false).failedCount == 2)
    }

    // MARK: The edge

    /// An edge that runs; it ends with ``end()``.
    struct Running {
        let place: Folder
        let storage = AcceptingStorage()
        let edge: DirectoryEdge

        init(_ place: Folder, messageSize: Int = 10_000, users: LocalUsers? = nil, gate: Gate? = nil) async {
            self.place = place
            let submission = SubmissionSettings(
                name: "pickup", hostname: "here.test",
                rules: TransactionRules(authentication: .none, messageSize: messageSize),
                trust: ClientTrust(networks: [], allowsThisMachine: users == nil), gate: gate)
            edge = DirectoryEdge(
                settings: DirectoryEdgeSettings(
                    submission: submission, path: place.path, owners: users, settle: .zero, expire: .seconds(432_000)),
                submissions: storage, group: MultiThreadedEventLoopGroup.singleton,
                threads: NIOThreadPool.singleton, logger: Logger(label: "test") { _ in KeptLog() })
        }

        /// As mv does it.
        func drop(_ name: String, _ text: String) throws {
            try place.write(".\(name)", text)
            rename("\(place.path)/.\(name)", "\(place.path)/\(name)")
        }

        func end() async {
            await edge.drain()
            await until { edge.sessionCount == 0 }
            await edge.closeSessions()
        }

        func until(_ condition: () -> Bool, _ location: SourceLocation = #_sourceLocation) async {
            for _ in 0..<2000 {
                if condition() { return }
                try? await Task.sleep(for: .milliseconds(10))
            }
            Issue.record("waited in vain; \(place.names()), \(place.names("taken"))", sourceLocation: location)
        }
    }

    @Test func filesBecomeMessages() async throws {
        let running = await Running(try Folder())
        await running.edge.start()
        // A start gives a busy disk up to wait for; the folder is found all the same.
        await running.until { running.place.names() == ["failed", "taken"] && running.place.isWatched }
        for number in 0..<40 { try running.drop("\(number)", Self.mail) }
        await running.until { running.storage.count == 40 && running.place.names("taken").isEmpty }
        #expect(running.place.names() == ["failed", "taken"] && running.edge.complaints.isEmpty)
        await running.end()
        try running.drop("late", Self.mail)
        #expect(running.place.names().contains("late"))
    }

    /// A start does not wait for a folder that is not there; it is found when it is.
    @Test func theFolderComesLater() async throws {
        let running = await Running(try Folder())
        try FileManager.default.removeItem(atPath: running.place.path)
        await running.edge.start()
        await running.until { running.edge.complaints.first?.contains("takes no files") == true }
        #expect(!running.place.isWatched)
        try FileManager.default.createDirectory(atPath: running.place.path, withIntermediateDirectories: false)
        await running.until { running.place.isWatched }
        await running.end()
    }

    @Test func whatIsStoredAlreadyIsOnlyRemoved() async throws {
        let place = try Folder()
        let running = await Running(place)
        let id = QueueID(at: .now())
        running.storage.reply = .repeated
        mkdir("\(place.path)/taken", 0o700)
        try place.write("taken/\(id)~a", Self.mail)
        await running.edge.start()
        await running.until { place.names("taken").isEmpty }
        #expect(place.names("failed").isEmpty)
        await running.end()
    }

    @Test func whatIsRefusedLiesAside() async throws {
        let running = await Running(try Folder(), messageSize: 100)
        await running.edge.start()
        try running.drop("large", Self.mail + String(repeating: "x\n", count: 60))
        try running.drop("nobody", "Subject: x\n\nx\n")
        await running.until { running.place.names("failed").count == 4 }
        #expect(running.place.text("failed/large.reason").contains("552 5.3.4"))
        #expect(running.place.text("failed/nobody.reason").contains("No recipients"))
        await running.until { running.edge.complaints.first?.contains("2 refused") == true }
        #expect(running.storage.count == 0)
        await running.end()
    }

    @Test func theOwnerHasToBeSomebody() async throws {
        let users = LocalUsers(hostname: "here.test", trusted: []) { $0 == getuid() ? nil : "somebody" }
        let running = await Running(try Folder(), users: users)
        await running.edge.start()
        try running.drop("a", Self.mail)
        await running.until { running.place.names("failed").count == 2 }
        #expect(running.place.text("failed/a.reason").contains("is nobody here"))
        await running.end()
    }

    /// What a policy has in hand may take minutes: an end does not.
    @Test(.timeLimit(.minutes(1))) func anEndWaitsForNoPolicy() async throws {
        let running = await Running(try Folder())
        await running.edge.start()
        running.storage.isSlow = true
        try running.drop("a", Self.mail)
        await running.until { running.storage.count == 1 }
        await running.edge.drain()
        await running.edge.closeSessions()
        #expect(running.place.names("taken").count == 1)
        running.storage.answer()
    }

    @Test(.timeLimit(.minutes(1))) func anEndWaitsForNoDelay() async throws {
        let rule = Rule("slow", at: .rcpt, [], .delay(.seconds(3600)))
        let running = await Running(
            try Folder(), gate: Gate(rules: RuleSet([rule]), spf: nil, lookups: nil, rates: nil))
        running.storage.isFar = true
        await running.edge.start()
        try running.drop("a", Self.mail)
        // Whether there is room is asked before it is taken, and before its recipients are looked at.
        for _ in 0..<2 {
            await running.until { running.storage.askingCount == 1 }
            running.storage.answerRoom(nil)
        }
        await running.end()
        #expect(running.storage.count == 1 && running.place.names("taken").isEmpty)
    }

    /// What waits for another try is told; and it does not wait without end.
    @Test func whatIsPutOffIsToldAndEnds() async throws {
        let running = await Running(try Folder())
        running.storage.reply = Reply(450, .init(4, 7, 1), "not now")
        await running.edge.start()
        try running.drop("a", Self.mail)
        await running.until {
            running.edge.complaints == ["edge pickup: 1 not taken yet, such as a: 450 4.7.1 not now"]
        }
        await running.end()
        let id = QueueID(at: Timestamp(milliseconds: 1_000_000))
        func final(_ outcome: DirectoryMachine.Outcome, _ seconds: Int) -> DirectoryMachine.Outcome {
            DirectorySubmission.final(outcome, id: id, expire: .seconds(100), id.time + .seconds(seconds))
        }
        let (later, trouble) = (Reply(450, .init(4, 7, 1), "x"), Reply(451, .init(4, 3, 0), "x"))
        #expect(final(.later(later), 99) == .later(later))
        #expect(final(.later(trouble), 1000) == .later(trouble) && final(.stored, 1000) == .stored)
        #expect(
            final(.later(later), 100)
                == .refused(Reply(554, .init(5, 4, 7), "Tried for too long, and in the end: 450 4.7.1 x")))
    }

    @Test func aFullDiskLeavesFilesWhereTheyAre() async throws {
        let running = await Running(try Folder())
        running.storage.full = Reply(452, .init(4, 3, 1), "full")
        await running.edge.start()
        try running.drop("a", Self.mail)
        await running.until { !running.edge.complaints.isEmpty }
        #expect(running.place.names().contains("a") && running.storage.count == 0)
        await running.end()
    }
}
