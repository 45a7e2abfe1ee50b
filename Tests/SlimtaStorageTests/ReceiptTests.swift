// Receipts in the journal, in sealed files and in memory: what is written is read back, the limits hold, and nothing but an
// end of theirs takes them away. What every storage owes of them is in StorageKit.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import TestKit
import Testing

@testable import SlimtaStorage

@Suite struct ReceiptTableTests {
    private let begin = Timestamp(milliseconds: 1_000_000)

    private func record(_ number: Int, owner: UInt64 = 1, after seconds: Int, answer: Int = 0) -> ReceiptRecord {
        let answer = String(repeating: "x", count: answer)
        return ReceiptRecord(makeReceipt(number, owner: owner, expires: begin + .seconds(seconds), answer: answer))
    }

    private func keys(_ table: ReceiptTable, of numbers: Range<Int>, at time: Timestamp) -> [Int] {
        numbers.filter { table.find(makeReceipt($0).key, at: time) != nil }
    }

    @Test func eachLimitHolds() {
        var table = ReceiptTable(.init(count: 10, octets: 1 << 20, ofOwner: 4))
        // Of one owner.
        for number in 0..<6 { table.insert(record(number, after: 100 + number), at: begin) }
        #expect(keys(table, of: 0..<6, at: begin) == [2, 3, 4, 5])
        // Of all.
        for number in 6..<14 { table.insert(record(number, owner: UInt64(number), after: 100 + number), at: begin) }
        #expect(keys(table, of: 0..<14, at: begin) == Array(4..<14))
        // Of octets.
        table = ReceiptTable(.init(count: 100, octets: 5000, ofOwner: 100))
        for number in 0..<10 { table.insert(record(number, after: 100 + number, answer: 1000), at: begin) }
        #expect(keys(table, of: 0..<10, at: begin) == [6, 7, 8, 9])
        // What does not expire counts for nothing, and stays.
        table.insert(
            ReceiptRecord(makeReceipt(10, expires: nil, answer: String(repeating: "x", count: 9000))), at: begin)
        #expect(keys(table, of: 0..<11, at: begin) == [6, 7, 8, 9, 10])
    }

    /// Who leaves behind as much as it can, and for long, takes nothing from others; what goes is told once.
    @Test func oneOwnerDoesNotHaveAll() {
        var table = ReceiptTable(.init(count: 1000, octets: 100_000, ofOwner: 1000, octetsOfOwner: 60_000))
        let month = 30 * 86_400
        for number in 0..<20 { table.insert(record(number, after: month + number, answer: 9000), at: begin) }
        #expect(keys(table, of: 0..<20, at: begin) == Array(14..<20))
        #expect(table.takeOverrun() == [.owner] && table.takeOverrun() == [])
        for number in 20..<65 {
            let owner = UInt64(2 + number % 3)
            table.insert(record(number, owner: owner, after: 100 + number, answer: 900), at: begin)
        }
        #expect(keys(table, of: 20..<65, at: begin) == Array(20..<65))
        let left = keys(table, of: 0..<20, at: begin)
        #expect(!left.isEmpty && left.count < 6 && left == Array((20 - left.count)..<20))
        #expect(table.takeOverrun() == [.all] && table.takeOverrun() == [])
    }

    /// A start comes upon them in any order, and keeps the same ones.
    @Test func theSameGoWhateverTheirOrder() {
        var random = SeededGenerator(seed: 5)
        var records = (0..<300).map { number in
            record(number, owner: UInt64(number % 7), after: 100 + number % 10, answer: 50 * (number % 7))
        }
        var kept: [Int]?
        for _ in 0..<20 {
            records.shuffle(using: &random)
            var table = ReceiptTable(.init(count: 1000, octets: 40_000, ofOwner: 30, octetsOfOwner: 9000))
            for record in records { table.insert(record, at: nil) }
            #expect(table.count == 300)
            table.settle(at: begin)
            let left = keys(table, of: 0..<300, at: begin)
            #expect(kept ?? left == left)
            kept = left
        }
        #expect(kept?.isEmpty == false)
    }

    /// Steps, not time: one that is kept for long costs those behind it nothing.
    @Test func lateOnesCostOthersNothing() {
        final class Steps { var count = 0 }
        struct Place: Comparable {
            let time: Int
            let steps: Steps
            static func == (one: Place, other: Place) -> Bool { one.time == other.time }
            static func < (one: Place, other: Place) -> Bool {
                one.steps.count += 1
                return one.time < other.time
            }
        }
        let steps = Steps()
        var heap = LazyHeap<Place>()
        var begin = 0
        for number in 0..<20_000 {
            // A thousand are there at a time, and every other one is for long.
            begin = max(0, number - 1000)
            let isThere = { (place: Place) in
                steps.count += 1; return place.time % 1_000_000 >= begin
            }
            let time = number % 2 == 0 ? number + 1_000_000 : number
            heap.insert(Place(time: time, steps: steps), among: number - begin + 1, where: isThere)
            let first = heap.first(where: isThere)?.time
            #expect(first == (number == 0 ? 1_000_000 : max(1, begin | 1)))
            #expect(heap.count <= 2 * 1001 + 65)
        }
        #expect(steps.count < 20_000 * 40)
    }

    @Test func whatExpiresGoes() {
        var table = ReceiptTable()
        for number in 0..<10 { table.insert(record(number, after: 10 * number + 5), at: begin) }
        #expect(keys(table, of: 0..<10, at: begin + .seconds(45)) == Array(5..<10))
        #expect(table.count == 10)
        table.insert(record(11, after: 200), at: begin + .seconds(45))
        #expect(table.count == 6)
        // A clock that was set back.
        table.insert(record(12, after: 1), at: begin)
        table.insert(record(13, after: 50), at: begin)
        table.insert(record(14, after: 300), at: begin + .seconds(60))
        #expect(table.count == 6 && keys(table, of: 0..<15, at: begin) == [6, 7, 8, 9, 11, 14])
    }

    /// In any order, with ends in between, it is what a plain list makes of it.
    @Test func itIsAPlainList() {
        var random = SeededGenerator(seed: 3)
        var table = ReceiptTable(.init(count: 60, octets: 1 << 20, ofOwner: 20))
        var model: [(key: Int, owner: UInt64, expires: Int)] = []
        for step in 0..<20_000 {
            let now = step / 10
            let number = Int.random(in: 0..<400, using: &random)
            if step % 3 == 0 {
                table.forget(makeReceipt(number).key)
                model.removeAll { $0.key == number }
                continue
            }
            let owner = UInt64.random(in: 0..<5, using: &random)
            // No two expire at once: which of them goes first would be anybody's guess.
            let expires = now + 1 + Int.random(in: 0..<3, using: &random) * 100
            if model.contains(where: { $0.expires == expires }) { continue }
            table.insert(record(number, owner: owner, after: expires), at: begin + .seconds(now))
            model.removeAll { $0.key == number }
            model.append((number, owner, expires))
            model.sort { $0.expires < $1.expires }
            model.removeAll { $0.expires <= now }
            if model.count(where: { $0.owner == owner }) > 20,
                let first = model.firstIndex(where: { $0.owner == owner })
            {
                model.remove(at: first)
            }
            if model.count > 60 {
                let counts = Dictionary(grouping: model, by: \.owner).mapValues(\.count)
                let most = counts.values.max()
                let largest = counts.filter { $0.value == most }.keys.min()
                model.remove(at: model.firstIndex { $0.owner == largest }!)
            }
            #expect(table.count == model.count, "step \(step)")
        }
        let now = begin + .seconds(2000)
        #expect(
            keys(table, of: 0..<400, at: now) == model.filter { $0.expires > 2000 }.map(\.key).sorted())
        #expect(model.count > 20)
    }
}

@Suite struct SealedReceiptTests: OnSimulatedDisk {
    let disk = SimulatedDisk()
    let events = Events()

    private func submit(_ number: Int, _ storage: JournaledStorage, expires: Timestamp?) async throws -> Receipt {
        let envelope = makeEnvelope()
        let receipt = makeReceipt(number, of: [envelope], expires: expires)
        try await storage.commit(
            QueueCommit(
                accepted: [.init(envelope, due: someDue)], message: makeMessage("text"), receipts: [receipt]))
        return receipt
    }

    /// Through bases and deltas, and starts between them.
    @Test func theyStayThroughCheckpoints() async throws {
        var storage = try storage()
        var expected: [Receipt.Digest: Receipt] = [:]
        var gone: [Receipt.Digest] = []
        for round in 0..<12 {
            for number in 0..<10 {
                let expires = number % 3 == 0 ? nil : Timestamp.now() + .seconds(1000)
                let receipt = try await submit(round * 10 + number, storage, expires: expires)
                expected[receipt.key] = receipt
            }
            let keys = expected.keys.sorted { $0.a < $1.a }
            // Old ones and new ones end, are noted and are forgotten.
            for key in [keys[0], keys[keys.count / 2], keys[keys.count - 1]]
            where expected[key]!.envelopes[0].fates == nil {
                let ending = Ending(id: expected[key]!.id, delivered: 1)
                try await storage.commit(QueueCommit(ended: [ending]))
                expected[key]!.note(ending)
            }
            let forgotten = [keys[1], keys[keys.count - 2]]
            try await storage.commit(QueueCommit(forgotten: forgotten))
            for key in forgotten { expected[key] = nil }
            gone += forgotten
            if round % 4 != 3 { try await storage.checkpoint() }
            if round % 3 == 2 {
                if round % 2 == 0 { storage.halt() } else { await storage.close() }
                storage = try self.storage()
            }
            for (key, receipt) in expected { #expect(try await storage.receipt(for: key) == receipt, "round \(round)") }
            for key in gone { #expect(try await storage.receipt(for: key) == nil, "round \(round)") }
        }
        #expect(events.all.isEmpty, "\(events.all)")
        #expect(try await storage.audit().isClean)
        await storage.close()
    }

    /// All mail is delivered, and what is left is receipts: they are kept, and each start finds them.
    @Test func theyOutliveTheirMail() async throws {
        var storage = try storage()
        var receipts: [Receipt] = []
        for number in 0..<300 {
            var receipt = try await submit(number, storage, expires: number % 2 == 0 ? nil : .now() + .seconds(1000))
            let ending = Ending(id: receipt.id, delivered: 1)
            try await storage.commit(QueueCommit(ended: [ending]))
            receipt.note(ending)
            receipts.append(receipt)
        }
        for _ in 0..<3 {
            await storage.close()
            storage = try self.storage()
            #expect(storage.count() == 0)
            for receipt in receipts { #expect(try await storage.receipt(for: receipt.key) == receipt) }
        }
        #expect(events.all.isEmpty, "\(events.all)")
        await storage.close()
    }

    /// Without its `super` a queue is made anew, and no key is free that was taken.
    @Test func aRebuildKeepsThem() async throws {
        var storage = try storage()
        var receipts: [Receipt] = []
        for number in 0..<40 {
            receipts.append(try await submit(number, storage, expires: .now() + .seconds(1000)))
            if number == 10 || number == 20 { try await storage.checkpoint() }
        }
        try await storage.commit(QueueCommit(forgotten: [receipts[3].key]))
        storage.halt()
        let rebuilt = SimulatedDisk(disk.image)
        try rebuilt.remove("/q/super")
        _ = try StorageRebuild.run(rebuilt, directory: "/q", options: smallOptions(), report: events.report)
        storage = JournaledStorage(on: rebuilt, smallOptions(), events)
        _ = try storage.recover()
        for (number, receipt) in receipts.enumerated() {
            #expect(try await storage.receipt(for: receipt.key) == (number == 3 ? nil : receipt), "\(number)")
        }
        #expect(events.all.isEmpty, "\(events.all)")
        await storage.close()
    }

    /// One that cannot be read is told of, and costs nothing else.
    @Test func aDamagedOneIsTold() async throws {
        var storage = try storage()
        let receipt = try await submit(1, storage, expires: nil)
        let other = try await submit(2, storage, expires: nil)
        await storage.close()
        let states = try #require(try disk.list("/q/queue").first { $0.hasPrefix("meta-") })
        let octets = try #require(disk.content("/q/queue/\(states)"))
        let record = ReceiptRecord(receipt).octets
        let place = try #require(octets.firstRange(of: record)?.lowerBound)
        // In the record, and where it begins: then there is nothing left that looks like one.
        for offset in [place + 20, place - StoredValue.size] {
            let damaged = SimulatedDisk(disk.image)
            damaged.damage("/q/queue/\(states)") { $0[offset] ^= 1 }
            let events = Events()
            storage = JournaledStorage(on: damaged, smallOptions(), events)
            #expect(try storage.recover().count == 2)
            #expect(events.all.contains { if case .damaged = $0 { true } else { false } })
            #expect(try await storage.receipt(for: receipt.key) == nil)
            #expect(try await storage.receipt(for: other.key) == other)
            #expect(storage.status().losses.isEmpty)
            await storage.close()
            // It is left behind.
            let later = Events()
            storage = JournaledStorage(on: damaged, smallOptions(), later)
            #expect(try storage.recover().count == 2)
            #expect(later.all.isEmpty, "\(later.all)")
            #expect(try await storage.receipt(for: other.key) == other)
            await storage.close()
        }
    }
}
