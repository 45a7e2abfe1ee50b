// Who gets which part of the queue: nodes come, go, drain and die, each evaluates the rule for itself, and in the end every
// bucket has one owner and nobody has too many.

import SlimtaQueue
import Testing

@testable import SlimtaCluster

@Suite struct SharingTests {
    private static func member(_ name: String, roles: NodeRoles = [.edge, .relay]) -> Sharing.Member {
        Sharing.Member(name: name, incarnation: 1, roles: roles, isGone: false, isDraining: false, isSilent: false)
    }

    private static func free(_ count: Int) -> [Sharing.Bucket] {
        (0..<count).map { Sharing.Bucket(number: UInt16($0), owner: nil, wanted: nil) }
    }

    /// Beats of all nodes in turn, done as the statements do them, until nothing changes.
    private static func settle(
        _ members: inout [Sharing.Member], _ buckets: inout [Sharing.Bucket]
    ) -> Int {
        for round in 0..<100 {
            let before = buckets
            for me in members where !me.isGone && !me.isSilent {
                let sharing = Sharing(members: members, buckets: buckets, me: me.name, leaving: [], balances: true)
                for dead in sharing.dead {
                    for place in members.indices where members[place].name == dead.name { members[place].isGone = true }
                    for place in buckets.indices {
                        if buckets[place].owner == dead.name { buckets[place].owner = nil }
                        if buckets[place].wanted == dead.name { buckets[place].wanted = nil }
                    }
                }
                let here = Set(members.filter { !$0.isGone }.map(\.name))
                for number in sharing.orphans.map(Int.init) {
                    if !here.contains(buckets[number].owner ?? "") { buckets[number].owner = nil }
                    if !here.contains(buckets[number].wanted ?? "") { buckets[number].wanted = nil }
                }
                for place in buckets.indices.filter({ buckets[$0].owner == nil }).prefix(sharing.take) {
                    (buckets[place].owner, buckets[place].wanted) = (me.name, nil)
                }
                for number in sharing.ask where buckets[Int(number)].wanted == nil {
                    buckets[Int(number)].wanted = me.name
                }
                for number in sharing.release {
                    (buckets[Int(number)].owner, buckets[Int(number)].wanted) = (buckets[Int(number)].wanted, nil)
                }
            }
            if buckets == before { return round }
        }
        return 100
    }

    private static func shares(_ buckets: [Sharing.Bucket]) -> [String: Int] {
        Dictionary(grouping: buckets, by: { $0.owner ?? "" }).mapValues(\.count)
    }

    @Test(arguments: [1, 2, 3, 5, 7], [16, 256, 3])
    func everyNodeGetsItsShare(_ count: Int, _ buckets: Int) {
        var all = Self.free(buckets)
        var members: [Sharing.Member] = []
        for number in 0..<count {
            members.append(Self.member("n\(number)"))
            #expect(Self.settle(&members, &all) < 100, "it comes to an end")
            let shares = Self.shares(all)
            #expect(shares[""] == nil, "nothing is nobody's")
            let counts = members.map { shares[$0.name] ?? 0 }
            #expect((counts.max() ?? 0) - (counts.min() ?? 0) <= 1, "\(shares)")
        }
        // One after the other goes.
        while members.filter({ !$0.isGone }).count > 1 {
            let last = members.indices.last { !members[$0].isGone } ?? 0
            switch last % 3 {
            case 0: members[last].isSilent = true
            case 1: members[last].isGone = true
            default: members[last].isDraining = true
            }
            _ = Self.settle(&members, &all)
            let shares = Self.shares(all)
            #expect(shares[members[last].name] == nil && shares[""] == nil, "\(shares)")
            if members[last].isDraining { members[last].isGone = true }
        }
    }

    @Test func onlyWhoDeliversHasBuckets() {
        var all = Self.free(16)
        var members = [Self.member("edge", roles: .edge), Self.member("relay", roles: .relay)]
        _ = Self.settle(&members, &all)
        #expect(Self.shares(all) == ["relay": 16])
    }

    @Test func whatIsStillInFlightIsNotTakenAgain() {
        let all = Self.free(8)
        let sharing = Sharing(
            members: [Self.member("a")], buckets: all, me: "a", leaving: [0, 1, 2], balances: true)
        #expect(sharing.take == 5)
    }

    @Test func nobodyIsAskedTwice() {
        let members = [Self.member("a"), Self.member("b"), Self.member("c")]
        var all = (0..<9).map { Sharing.Bucket(number: UInt16($0), owner: "a", wanted: nil) }
        let first = Sharing(members: members, buckets: all, me: "b", leaving: [], balances: true)
        #expect(first.ask.count == 3)
        for number in first.ask { all[Int(number)].wanted = "b" }
        #expect(Sharing(members: members, buckets: all, me: "b", leaving: [], balances: true).ask.isEmpty)
        let second = Sharing(members: members, buckets: all, me: "c", leaving: [], balances: true)
        #expect(second.ask.count == 3 && Set(second.ask).isDisjoint(with: first.ask))
        let owner = Sharing(members: members, buckets: all, me: "a", leaving: [], balances: true)
        #expect(owner.release == Set(first.ask) && owner.take == 0 && owner.ask.isEmpty)
        #expect(Sharing(members: members, buckets: all, me: "b", leaving: [], balances: false).ask.isEmpty)
    }
}
