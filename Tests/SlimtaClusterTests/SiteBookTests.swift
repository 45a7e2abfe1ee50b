// Limits that nodes share, without a database: nodes beat in any order, one's write between another's write and read, want more
// and less, come and die. Together they never do more than there is, but that each may do one thing; nobody starves.

import SlimtaMail
import SlimtaQueue
import Testing

@testable import SlimtaCluster

/// Nodes with a table that all write and read.
private struct Nodes {
    struct Node {
        var book = SiteBook()
        var limits = SharedLimits.alone
        var reports: [SiteDemand] = []
        /// What it would do, and does.
        var wanted = 0
        var used = 0
        var health: SiteHealth?
    }

    static let subject = SiteSubject(stored: "d:x.test")
    let limit: Int
    var nodes: [String: Node] = [:]
    var table: [String: [SiteSubject: SiteBook.Row]] = [:]

    init(_ count: Int, limit: Int) {
        self.limit = limit
        for number in 0..<count { nodes["n\(number)"] = Node() }
    }

    var names: [String] { nodes.keys.sorted() }

    func share(_ name: String) -> Int {
        guard let node = nodes[name] else { return 0 }
        return node.limits.share(of: limit, by: node.limits.advice[Self.subject])
    }

    func backOff(_ name: String) -> SiteAdvice.BackOff? { nodes[name]?.limits.advice[Self.subject]?.backOff }

    /// What the node does, or may begin to do.
    func held(_ name: String) -> Int { max(share(name), nodes[name]?.used ?? 0) }

    mutating func write(_ name: String) {
        guard let reports = nodes[name]?.reports, let changes = nodes[name]?.book.changes(reports, offset: .zero) else {
            return
        }
        if changes.clears { table[name] = [:] }
        for subject in changes.removed { table[name]?[subject] = nil }
        table[name, default: [:]].merge(changes.written) { $1 }
    }

    mutating func read(_ name: String) {
        guard var node = nodes[name] else { return }
        let rows = table.filter { $0.key != name }.flatMap { node, rows in
            rows.map { (node: node, subject: $0.key, row: $0.value) }
        }
        let others = Set(names).subtracting([name])
        node.limits = node.book.read(rows, nodes: others, me: name, offset: .zero, hold: .seconds(15))
        nodes[name] = node
        work(name)
        report(name)
    }

    /// The database is away for this node.
    mutating func lose(_ name: String) {
        guard var node = nodes[name] else { return }
        if let limits = node.book.forget() { node.limits = limits }
        nodes[name] = node
        work(name)
        report(name)
    }

    /// Does as much as it wants and may; what is too much is not broken off, and ends by and by.
    mutating func work(_ name: String) {
        let share = share(name)
        guard var node = nodes[name] else { return }
        let busy = min(node.used, node.wanted)
        node.used = busy > share ? max(share, busy / 2) : min(node.wanted, share)
        nodes[name] = node
    }

    mutating func report(_ name: String) {
        guard var node = nodes[name] else { return }
        let wanted = min(limit, max(node.wanted, node.used))
        let isTold =
            node.limits.advice[Self.subject] != nil || wanted > SharedLimits.even(limit, among: node.limits.nodes)
        node.reports =
            node.limits.isAlone || !isTold && node.health == nil
            ? []
            : [
                SiteDemand(
                    Self.subject, limit: limit, wanted: wanted, used: node.used, isLimited: wanted > share(name),
                    health: node.health)
            ]
        nodes[name] = node
    }

    mutating func beat(_ name: String) {
        write(name)
        read(name)
    }

    mutating func round(_ count: Int = 1) { for _ in 0..<count { for name in names { beat(name) } } }

    mutating func want(_ wanted: [Int]) {
        for (name, wanted) in zip(names, wanted) {
            nodes[name]?.wanted = wanted
            work(name)
        }
    }

    /// What is done or allowed beyond the one that each may do.
    var isWithin: Bool { names.map(held).filter { $0 > 1 }.reduce(0, +) <= limit }
}

private struct Dice: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = (state ^ state >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}

@Suite struct SiteBookTests {
    @Test func aloneItHasAll() {
        var all = Nodes(1, limit: 20)
        all.want([100])
        for _ in 0..<3 {
            all.beat("n0")
            #expect(all.share("n0") == 20 && all.nodes["n0"]?.limits.part(by: nil) == 1)
        }
        #expect(all.table["n0"]?.isEmpty ?? true, "and writes nothing")
    }

    @Test func nothingIsWrittenWhereNothingIsLimited() {
        var all = Nodes(4, limit: 20)
        all.want([5, 5, 5, 0])
        all.round(5)
        #expect(all.names.map(all.share) == [5, 5, 5, 5])
        #expect(all.table.values.allSatisfy { $0.isEmpty })
    }

    /// Wanted of each, limit, and what each is to have in the end, at least.
    @Test(arguments: [
        ([100, 0], 4, [3, 1]), ([100, 100], 4, [2, 2]), ([100, 100], 5, [2, 2]), ([100, 0, 0], 20, [18, 1, 1]),
        ([15, 5], 20, [15, 5]), ([100, 3, 0, 0], 20, [15, 2, 1, 1]), ([7, 7, 7, 7], 20, [5, 5, 5, 5]),
        ([9, 9, 9], 2, [1, 1, 1]), ([9, 0, 0], 1, [1, 1, 1]),
    ])
    func shares(_ wanted: [Int], _ limit: Int, _ expected: [Int]) {
        var all = Nodes(wanted.count, limit: limit)
        all.round(2)
        all.want(wanted)
        for _ in 0..<8 {
            all.round()
            #expect(all.isWithin)
        }
        let shares = all.names.map(all.share)
        #expect(zip(shares, expected).allSatisfy { $0 >= $1 }, "\(shares)")
        all.want(wanted.map { _ in 0 })
        all.round(4)
        #expect(all.table.values.allSatisfy { $0.isEmpty }, "and nothing stays when nobody wants more")
        #expect(all.names.allSatisfy { all.share($0) == max(1, limit / wanted.count) })
    }

    @Test(arguments: [(2, 1), (2, 4), (2, 20), (3, 4), (3, 20), (3, 50), (5, 4), (5, 50)], 0..<8 as Range<UInt64>)
    func inAnyOrder(_ size: (Int, Int), _ seed: UInt64) {
        let (count, limit) = size
        var dice = Dice(state: seed)
        var all = Nodes(count, limit: limit)
        all.round(2)
        for step in 0..<600 {
            let name = "n\(Int.random(in: 0..<count, using: &dice))"
            switch Int.random(in: 0..<10, using: &dice) {
            case 0: all.nodes[name]?.wanted = [0, 1, 3, limit / 2, limit, limit * 9].randomElement(using: &dice) ?? 0
            case 1: all.work(name)
            case 2:
                // Writes, and others come between that and what it reads.
                all.write(name)
                let other = "n\(Int.random(in: 0..<count, using: &dice))"
                if other != name { all.beat(other) }
                all.read(name)
            case 3: all.lose(name)
            case 4:
                // What it wrote came through, and it does not hear of it.
                all.write(name)
                all.lose(name)
            default: all.beat(name)
            }
            #expect(all.isWithin, "step \(step): \(all.names.map(all.held)) of \(limit)")
            #expect(all.names.allSatisfy { all.share($0) >= 1 }, "nobody starves")
            let parts = all.names.compactMap { name in
                all.nodes[name].map { $0.limits.part(by: $0.limits.advice[Nodes.subject]) }
            }
            #expect(parts.allSatisfy { $0 > 0 && $0 <= 1 })
        }
        // All want all: nothing is left over but what cannot be divided.
        all.want(all.names.map { _ in limit * 9 })
        all.round(12)
        let shares = all.names.map(all.share)
        #expect(shares.allSatisfy { $0 == max(1, limit / count) }, "\(shares)")
        let parts = all.names.compactMap { name in
            all.nodes[name].map { $0.limits.part(by: $0.limits.advice[Nodes.subject]) }
        }
        #expect(parts.reduce(0, +) <= 1.0001 && parts.reduce(0, +) > 0.999)
    }

    @Test func whoDiesLeavesItsShare() {
        var all = Nodes(3, limit: 20)
        all.round(2)
        all.want([100, 100, 100])
        all.round(6)
        #expect(all.names.map(all.share) == [6, 6, 6])
        // Its rows stay; those who are left do not count them.
        all.nodes["n0"] = nil
        all.round(3)
        #expect(all.names.map(all.share) == [10, 10])
        all.nodes["n1"] = nil
        all.round(1)
        #expect(all.share("n2") == 20)
        // One comes: within two beats there are no more than there may be.
        all.nodes["n3"] = Nodes.Node()
        all.round(1)
        all.want([100, 100])
        all.nodes["n2"]?.used = 0
        for _ in 0..<4 {
            all.round(1)
            #expect(all.isWithin)
        }
        #expect(all.share("n2") >= 9 && all.share("n3") >= 9)
    }

    @Test func aDatabaseThatWasAway() {
        var all = Nodes(2, limit: 20)
        all.round(2)
        all.want([100, 0])
        all.round(5)
        #expect(all.share("n0") == 19)
        all.lose("n0")
        let changes = all.nodes["n0"]?.book.changes([], offset: .zero)
        #expect(changes == SiteBook.Changes(clears: true), "what is there may be anything")
        all.lose("n0")
        #expect(all.share("n0") == 10, "told once")
        for _ in 0..<5 {
            all.round()
            #expect(all.isWithin)
        }
        #expect(all.share("n0") == 19)
    }

    /// Whoever has less than its even share has no more of it because it lost a connection.
    @Test func oneThatLosesTheOthersTakesNothingOfTheirs() {
        var all = Nodes(2, limit: 20)
        all.round(2)
        all.want([100, 0])
        all.round(5)
        all.want([100, 100])
        all.lose("n1")
        #expect(all.share("n1") == 1 && all.isWithin)
        all.lose("n0")
        #expect(all.isWithin)
        for _ in 0..<20 {
            all.lose(all.names.randomElement()!)
            all.round()
            #expect(all.isWithin)
        }
        all.round(10)
        #expect(all.share("n0") == 10 && all.share("n1") == 10)
    }

    @Test func noMoreRowsThanABeatHasTimeFor() {
        var book = SiteBook()
        _ = book.changes([], offset: .zero)
        _ = book.read([], nodes: ["other"], me: "me", offset: .zero, hold: .seconds(15))
        let reports = (0..<3000).map { number in
            SiteDemand(
                SiteSubject(stored: "d:\(number)"), limit: 5000, wanted: number + 2600, used: 0, isLimited: true)
        }
        let changes = book.changes(reports, offset: .zero)
        #expect(changes.written.count == SiteBook.mostRows)
        #expect(changes.written[SiteSubject(stored: "d:2999")] != nil, "what is wanted most")
        #expect(book.changes(reports, offset: .zero).isEmpty, "what has not changed is not written again")
    }

    // MARK: Back-off

    private static let failure = SiteFailure(
        Outcome(.temporary, Reply(451, .init(4, 4, 1), "no answer"), isHostFailure: true),
        tried: Timestamp(milliseconds: 1_000_000))

    private static func isLeftAlone(_ advice: SiteAdvice.BackOff?) -> Bool {
        if case .leaveAlone = advice { true } else { false }
    }

    @Test func oneFindsOut() {
        var all = Nodes(3, limit: 20)
        all.round(2)
        for name in ["n1", "n2"] { all.nodes[name]?.health = .backsOff(Self.failure) }
        for name in all.names { all.report(name) }
        all.round(2)
        #expect(all.backOff("n1") == .probe)
        #expect(
            Self.isLeftAlone(all.backOff("n2")) && Self.isLeftAlone(all.backOff("n0")), "also who has no mail there")
        all.nodes["n2"]?.health = .follows(Self.failure)
        all.nodes["n0"]?.health = .follows(Self.failure)
        for name in all.names { all.report(name) }
        all.round(2)
        #expect(all.backOff("n1") == .probe && Self.isLeftAlone(all.backOff("n0")))
        // It dies: the next beat another one does it.
        all.nodes["n1"] = nil
        all.round(1)
        #expect(all.backOff("n0") == .probe && Self.isLeftAlone(all.backOff("n2")))
        // It answers: all are free, and are told once.
        all.nodes["n0"]?.health = .answers
        all.report("n0")
        all.write("n0")
        all.beat("n2")
        #expect(all.backOff("n2") == .answers)
        all.beat("n2")
        #expect(all.backOff("n2") == nil)
        for name in all.names { all.nodes[name]?.health = nil }
        for name in all.names { all.report(name) }
        all.round(2)
        #expect(all.table.filter { all.nodes[$0.key] != nil }.values.allSatisfy { $0.isEmpty })
    }

    @Test func timesAreByEachOnesClock() {
        var all = Nodes(2, limit: 20)
        all.round(2)
        let report = SiteDemand(
            Nodes.subject, limit: 20, wanted: 0, used: 0, isLimited: false, health: .backsOff(Self.failure))
        let written = all.nodes["n0"]?.book.changes([report], offset: .seconds(100)).written[Nodes.subject]
        guard let written else {
            Issue.record("nothing is written")
            return
        }
        let limits = all.nodes["n1"]?.book.read(
            [("n0", Nodes.subject, written)], nodes: ["n0"], me: "n1", offset: .seconds(-50), hold: .seconds(15))
        guard case .leaveAlone(let failure) = limits?.advice[Nodes.subject]?.backOff else {
            Issue.record("\(String(describing: limits))")
            return
        }
        #expect(failure.tried == Self.failure.tried + .seconds(150))
    }
}
