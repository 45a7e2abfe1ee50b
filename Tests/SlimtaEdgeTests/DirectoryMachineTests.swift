// Which files of a pickup folder are taken, when, in which order, and what becomes of them: every event, without a disk.

import NIOCore
import SlimtaMail
import SlimtaSMTP
import Testing

@testable import SlimtaEdge

/// An issue, and nothing else to return.
func record(_ text: String, at location: SourceLocation = #_sourceLocation) {
    Issue.record(Comment(rawValue: text), sourceLocation: location)
}

@Suite struct DirectoryMachineTests {
    typealias Machine = DirectoryMachine
    typealias Action = DirectoryMachine.Action

    /// A machine with its clock, and names for files.
    struct Folder {
        var machine: Machine
        private(set) var now: ContinuousClock.Instant

        init(settle: Duration = .zero, isByOwner: Bool = false) {
            now = .now
            machine = Machine(settle: settle, isByOwner: isByOwner, at: now)
        }

        mutating func next() -> Action { machine.next(now) }
        mutating func pass(_ time: Duration) { now += time }

        /// Opens it, with these files in it.
        mutating func open(
            _ files: [PickupFile] = [], taken: [TakenFile] = [], isAll: Bool = true, age: Duration = .seconds(3600)
        ) {
            #expect(next() == .open)
            machine.opened(now)
            scan(files, taken: taken, isAll: isAll, age: age)
        }

        /// - Parameter age: how long ago the files have changed.
        mutating func scan(
            _ files: [PickupFile] = [], taken: [TakenFile] = [], isAll: Bool = true, age: Duration = .seconds(3600)
        ) {
            #expect(next() == .scan)
            let wall = (files.map(\.facts.changed).max() ?? 0) + age.components.seconds * 1_000_000_000
            machine.scanned(files, taken: taken, isAll: isAll, wall: wall, now)
        }

        mutating func see(_ events: (String, FolderChanges.Event)...) {
            var changes = FolderChanges()
            for (name, event) in events { changes.tell(name, event) }
            machine.changed(changes, now)
        }

        /// Answers the look that is wanted.
        mutating func look(_ files: PickupFile...) {
            #expect(next() == .look(files.map(\.name).sorted()))
            machine.looked(files.map { ($0.name, $0.facts.links > 0 ? $0.facts : nil) }, now)
        }

        /// Takes what is to be taken: the names.
        mutating func take() -> [String] {
            guard case .take(let files) = next() else { return [] }
            machine.took(
                files.map { ($0.name, .taken(DirectoryMachineTests.taken("\($0.name)", owner: $0.facts.owner))) }, now)
            return files.map(\.name.description)
        }

        /// The submission that is wanted.
        mutating func submit() -> TakenFile? {
            guard case .submit(let file) = next() else { return nil }
            return file
        }

        /// One has to be.
        mutating func submitted() throws -> TakenFile {
            let file = submit()
            return try #require(file)
        }

        mutating func end(_ file: TakenFile, _ outcome: Machine.Outcome) { machine.submitted(file.id, outcome, now) }
    }

    static func file(
        _ name: String, modified: Int64 = 0, size: Int64 = 10, links: Int = 1, owner: UInt32 = 1000
    ) -> PickupFile {
        PickupFile(
            name: PickupName(name.utf8),
            facts: FileFacts(size: size, modified: modified, changed: 1000, links: links, owner: owner))
    }

    static func taken(_ name: String, owner: UInt32 = 0) -> TakenFile {
        var file = TakenFile(id: QueueID(at: .now()), name: PickupName(name.utf8))
        file.owner = owner
        return file
    }

    // MARK: Owners

    /// As many files of one owner as there may be are put off: those of others are taken, submitted and done all the same.
    @Test func whoHasManyThatArePutOffKeepsOutNobody() throws {
        var folder = Folder()
        let many = (0..<Machine.limit).map { Self.taken("\($0)", owner: 1) }
        folder.open(
            [Self.file("more", modified: 1, owner: 1), Self.file("his", modified: 2, owner: 2)], taken: many)
        for _ in many { folder.end(try folder.submitted(), .later(Reply(450, .init(4, 7, 1), "slow down"))) }
        let putOff = try #require(folder.machine.putOff)
        #expect(putOff.count == Machine.limit && many.contains(putOff.example))
        #expect(folder.take() == ["his"])
        // Those are due again, and take no more than their part of the slots.
        folder.pass(.seconds(31))
        let first = try folder.submitted()
        #expect(first.name.description == "his")
        var again = 0
        while case .submit = folder.next() { again += 1 }
        #expect(again == Machine.slots / 2)
        folder.see(("his too", .moved))
        folder.look(Self.file("his too", owner: 2))
        #expect(folder.take() == ["his too"])
        #expect(try folder.submitted().name.description == "his too")
        guard case .wait(let until) = folder.next() else { return record("\(folder.next())") }
        #expect(until > folder.now)
    }

    /// Times of files are as their owners say.
    @Test func ownersTakeTurns() {
        var folder = Folder()
        let old = (100..<200).map { Self.file("\($0)", modified: -1, owner: 1) }
        folder.open(old + [Self.file("his", modified: 5, owner: 2)])
        #expect(folder.take() == ["100", "his"] + (101..<99 + Machine.slots).map { "\($0)" })
    }

    @Test func shares() {
        var one = DirectoryShares(Array(repeating: 1, count: 50), of: 100)
        #expect(one.hasRoom(1))
        let hasPlace = one.take(2)
        #expect(hasPlace)
        #expect(!one.hasRoom(1) && one.hasRoom(2) && one.hasRoom(3))
        var all = DirectoryShares([], of: 100)
        let places = (0..<100).map { all.take($0) }
        #expect(!places.contains(false))
        #expect(!all.hasRoom(5000))
    }

    // MARK: From the folder to the queue

    @Test func aRenamedFileIsTakenAtOnce() throws {
        var folder = Folder()
        folder.open()
        folder.see(("a", .moved))
        folder.look(Self.file("a"))
        #expect(folder.take() == ["a"])
        let file = try folder.submitted()
        #expect(folder.machine.unfinishedCount == 1)
        folder.end(file, .stored)
        #expect(folder.next() == .remove([file]))
        folder.machine.removed([file], isDone: true, folder.now)
        #expect(folder.machine.unfinishedCount == 0)
        guard case .wait = folder.next() else { return record("\(folder.next())") }
    }

    @Test func theOldestFirst() {
        var folder = Folder()
        folder.open([Self.file("b", modified: 2), Self.file("c", modified: 3), Self.file("a", modified: 2)])
        #expect(folder.take() == ["a", "b", "c"])
    }

    @Test func noMoreAtOnceThanThereAreSlots() throws {
        var folder = Folder()
        let names = (100..<140).map { "\($0)" }
        folder.open(names.map { Self.file($0) })
        #expect(folder.take() == Array(names.prefix(Machine.slots)))
        var files: [TakenFile] = []
        while let file = folder.submit() { files.append(file) }
        #expect(files.count == Machine.slots)
        guard case .wait = folder.next() else { return record("\(folder.next())") }
        folder.end(files[0], .stored)
        folder.end(files[1], .stored)
        guard case .remove(let stored) = folder.next() else { return record("\(folder.next())") }
        #expect(Set(stored) == Set(files.prefix(2)), "together, for one sync")
        folder.machine.removed(stored, isDone: true, folder.now)
        #expect(folder.take() == Array(names[Machine.slots..<Machine.slots + 2]))
    }

    @Test func whatIsRefusedIsSetAside() throws {
        var folder = Folder()
        folder.open([Self.file("a")])
        _ = folder.take()
        let file = try folder.submitted()
        let reply = Reply(554, .init(5, 6, 0), "no")
        folder.end(file, .refused(reply))
        #expect(folder.next() == .setAside(file, reply))
        // The disk may have no room for the reason: then all of it again, later.
        folder.machine.setAside(file, isDone: false, folder.now)
        #expect(folder.submit() == nil)
        // A stop does not wait for that.
        #expect(folder.machine.unfinishedCount == 0)
        folder.pass(.seconds(60))
        #expect(folder.submit() == file)
        folder.end(file, .refused(reply))
        folder.machine.setAside(file, isDone: true, folder.now)
        #expect(folder.machine.unfinishedCount == 0)
    }

    @Test func whatCannotBeTakenNowIsTriedAgain() throws {
        var folder = Folder()
        folder.open([Self.file("a")])
        _ = folder.take()
        let file = try folder.submitted()
        var waited: [Int64] = []
        for _ in 0..<9 {
            folder.end(file, .later(Reply(450, .init(4, 7, 1), "not now")))
            let start = folder.now
            while true {
                let action = folder.next()
                if case .wait(let until) = action {
                    #expect(until > folder.now, "no wait for what is past")
                    folder.pass(until - folder.now)
                } else if action == .scan {
                    folder.scan(taken: [file])
                } else {
                    #expect(action == .submit(file))
                    break
                }
            }
            waited.append((folder.now - start).components.seconds)
        }
        #expect(waited == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600])
    }

    @Test func aNameThatCannotBeRemovedIsNotSubmittedAgain() throws {
        var folder = Folder()
        folder.open([Self.file("a")])
        _ = folder.take()
        let file = try folder.submitted()
        folder.end(file, .stored)
        #expect(folder.next() == .remove([file]))
        folder.machine.removed([file], isDone: false, folder.now)
        guard case .wait(let until) = folder.next() else { return record("\(folder.next())") }
        folder.pass(until - folder.now)
        #expect(folder.next() == .remove([file]))
    }

    @Test func aFullDiskStopsTaking() throws {
        var folder = Folder()
        folder.open([Self.file("a"), Self.file("b")])
        folder.machine.noRoom(folder.now)
        guard case .wait(let until) = folder.next() else { return record("\(folder.next())") }
        #expect(until - folder.now == .seconds(10))
        folder.pass(.seconds(10))
        #expect(folder.take() == ["a", "b"])
        // It may become full in between.
        let first = try folder.submitted()
        folder.see(("c", .moved))
        folder.end(first, .later(Reply(452, .init(4, 3, 1), "full")))
        #expect(folder.submit() != nil, "what is taken is tried")
        folder.look(Self.file("c"))
        guard case .wait(let until) = folder.next() else { return record("\(folder.next())") }
        #expect(until - folder.now == .seconds(10))
    }

    @Test func aFileThatIsWrittenToMeanwhileHasASecondChance() throws {
        var folder = Folder()
        folder.open([Self.file("a")])
        _ = folder.take()
        let file = try folder.submitted()
        folder.end(file, .changed)
        #expect(folder.submit() == nil)
        folder.pass(Machine.quiet)
        #expect(folder.submit() == file)
        folder.end(file, .changed)
        guard case .setAside(file, let reply) = folder.next() else { return record("\(folder.next())") }
        #expect(reply.isPermanent)
    }

    // MARK: When a file is whole

    @Test func whatAScanFindsHasToBeStill() {
        var folder = Folder()
        folder.open([Self.file("a")], age: .seconds(2))
        #expect(folder.take() == [])
        folder.pass(.seconds(2))
        #expect(folder.take() == [])
        folder.pass(.seconds(1))
        guard case .take(let files) = folder.next() else { return record("\(folder.next())") }
        // It is looked at again as it is taken.
        var facts = files[0].facts
        facts.size += 1
        folder.machine.took([(files[0].name, .changed(facts))], folder.now)
        folder.pass(.seconds(4))
        #expect(folder.take() == [])
        folder.pass(.seconds(1))
        #expect(folder.take() == ["a"])
    }

    @Test func aClockThatIsAheadMakesNothingOld() {
        var folder = Folder()
        folder.open([Self.file("a")], age: .seconds(-3600))
        #expect(folder.take() == [])
        folder.pass(Machine.quiet)
        #expect(folder.take() == ["a"])
    }

    @Test func whatIsWrittenInPlaceHasToBeClosed() {
        var folder = Folder(settle: .seconds(2))
        folder.open()
        folder.see(("a", .created))
        folder.look(Self.file("a", size: 0))
        folder.pass(.seconds(20))
        #expect(folder.take() == [], "there is nothing in it yet")
        folder.see(("a", .written))
        folder.pass(.seconds(41))
        folder.scan([Self.file("a")])
        #expect(folder.take() == [], "somebody is writing, however slowly")
        folder.see(("a", .closed))
        folder.look(Self.file("a"))
        folder.pass(.seconds(1))
        #expect(folder.take() == [])
        folder.pass(.seconds(1))
        #expect(folder.take() == ["a"])
    }

    @Test func aLinkIsWhole() {
        var folder = Folder()
        folder.open()
        folder.see(("a", .created), ("b", .created))
        // The other name of b is gone already: it looks as if it was just created.
        folder.look(Self.file("a", links: 2), Self.file("b"))
        #expect(folder.take() == ["a"])
        #expect(folder.submit() != nil)
        folder.pass(Machine.quiet)
        #expect(folder.take() == ["b"])
    }

    @Test func withAnOwnerTheOtherNameHasToGo() {
        var folder = Folder(isByOwner: true)
        folder.open()
        folder.see(("a", .created))
        folder.look(Self.file("a", links: 2))
        #expect(folder.take() == [])
        folder.pass(.seconds(1))
        folder.look(Self.file("a", links: 2))
        folder.pass(.seconds(1))
        folder.look(Self.file("a"))
        #expect(folder.take() == ["a"])
    }

    @Test func aFileWithTwoNamesIsNotLookedAtForEver() {
        var folder = Folder(isByOwner: true)
        folder.open()
        folder.see(("a", .moved))
        var looks = 0
        for _ in 0..<30 {
            if case .look = folder.next() {
                folder.look(Self.file("a", links: 2))
                looks += 1
            }
            folder.pass(.seconds(1))
        }
        #expect(looks == 11)
    }

    @Test func aNameThatIsGoneIsForgotten() {
        var folder = Folder()
        folder.open([Self.file("a")], age: .zero)
        folder.see(("a", .moved))
        folder.look(Self.file("a", links: 0))
        folder.pass(Machine.quiet)
        #expect(folder.take() == [])
    }

    // MARK: Crashes, scans, the folder itself

    @Test func whatACrashLeftIsSubmittedUnderItsID() {
        var folder = Folder()
        let files = [Self.taken("a"), Self.taken("b")].sorted { $0.id < $1.id }
        folder.open(taken: files)
        #expect(folder.submit() == files[0])
        #expect(folder.submit() == files[1])
        // Nothing is submitted twice because a scan sees it.
        folder.pass(.seconds(60))
        folder.scan(taken: files)
        #expect(folder.submit() == nil)
    }

    @Test func aScanEachMinute() {
        var folder = Folder()
        folder.open()
        guard case .wait(let until) = folder.next() else { return record("\(folder.next())") }
        #expect(until - folder.now == Machine.scanInterval)
        folder.pass(Machine.scanInterval)
        folder.scan([Self.file("a")])
        #expect(folder.take() == ["a"])
    }

    @Test func moreFilesThanAreKnownAtOnce() {
        var folder = Folder()
        folder.open([Self.file("a")], isAll: false)
        #expect(folder.take() == ["a"])
        #expect(folder.submit() != nil)
        guard case .wait(let until) = folder.next() else { return record("\(folder.next())") }
        #expect(until - folder.now == .seconds(1))
        folder.pass(.seconds(1))
        folder.scan([Self.file("b")])
        #expect(folder.take() == ["b"])
    }

    @Test func lostEventsAreMadeUpForByAScan() {
        var folder = Folder()
        folder.open()
        var changes = FolderChanges()
        changes.lose()
        folder.pass(.seconds(1))
        folder.machine.changed(changes, folder.now)
        folder.scan([Self.file("a")])
        #expect(folder.take() == ["a"])
        // So does too much at once.
        changes = FolderChanges()
        for number in 0...Machine.limit { changes.tell("\(number)", .moved) }
        folder.machine.changed(changes, folder.now)
        #expect(folder.submit() != nil)
        folder.pass(.seconds(1))
        folder.scan()
    }

    /// Somebody makes and removes files without end: files of others are taken all the same.
    @Test(arguments: [1, Machine.limit + 1]) func aFloodOfEventsKeepsNothingFromBeingTaken(_ count: Int) {
        var folder = Folder()
        folder.open([Self.file("a")])
        for _ in 0..<10 {
            var changes = FolderChanges()
            for number in 0..<count { changes.tell("flood\(number)", .created) }
            folder.machine.changed(changes, folder.now)
            switch folder.next() {
            case .look(let names): folder.machine.looked(names.map { ($0, nil) }, folder.now)
            case .scan: folder.machine.scanned([Self.file("a")], taken: [], isAll: true, wall: 0, folder.now)
            case .take(let files): return #expect(files == [Self.file("a")])
            case let action: return record("\(action)")
            }
        }
        record("nothing is taken")
    }

    @Test func aFolderThatGoesAndComesAgain() throws {
        var folder = Folder()
        #expect(folder.next() == .open)
        folder.machine.cannotOpen(folder.now)
        guard case .wait(let until) = folder.next() else { return record("\(folder.next())") }
        folder.pass(until - folder.now)
        folder.open([Self.file("a"), Self.file("b")])
        _ = folder.take()
        let file = try folder.submitted()
        let other = try folder.submitted()
        var changes = FolderChanges()
        changes.end()
        folder.machine.changed(changes, folder.now)
        guard case .wait(let until) = folder.next() else { return record("\(folder.next())") }
        #expect(until > folder.now)
        folder.end(file, .stored)
        folder.end(other, .later(.unanswered))
        #expect(folder.next() == .remove([file]))
        folder.machine.removed([file], isDone: true, folder.now)
        #expect(folder.next() == .close)
        folder.machine.closed(folder.now)
        folder.pass(.seconds(1))
        folder.open([Self.file("a")])
        #expect(folder.take() == ["a"])
    }

    // MARK: The stop

    @Test func whatIsTakenIsFinished() throws {
        var folder = Folder()
        folder.open([Self.file("a"), Self.file("b"), Self.file("c")])
        _ = folder.take()
        let first = try folder.submitted()
        folder.end(first, .later(.unanswered))
        let second = try folder.submitted()
        folder.machine.drain()
        let third = try folder.submitted()
        folder.see(("d", .moved))
        guard case .wait(let until) = folder.next() else { return record("\(folder.next())") }
        #expect(until > folder.now)
        folder.end(second, .stored)
        folder.end(third, .stored)
        guard case .remove(let files) = folder.next() else { return record("\(folder.next())") }
        folder.machine.removed(files, isDone: true, folder.now)
        #expect(folder.next() == .end && folder.next() == .end)
    }

    @Test func aFolderThatWasNeverThereEndsAtOnce() {
        var folder = Folder()
        folder.machine.drain()
        #expect(folder.next() == .end)
    }
}
