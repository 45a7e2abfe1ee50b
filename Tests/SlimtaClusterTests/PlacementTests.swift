// Where mail goes that its node does not deliver.

import Testing

@testable import SlimtaCluster

@Suite("Where mail of others goes") struct PlacementTests {
    private static func member(_ name: String, roles: NodeRoles = .relay) -> Sharing.Member {
        Sharing.Member(name: name, incarnation: 1, roles: roles, isGone: false, isDraining: false, isSilent: false)
    }

    private static let buckets = ["a", "a", "b", nil, "gone", "edge", "b", "a"].enumerated().map { number, owner in
        Sharing.Bucket(number: UInt16(number), owner: owner, wanted: nil)
    }

    @Test func toThoseWhoDeliver() {
        let members = [Self.member("a"), Self.member("b"), Self.member("edge", roles: .edge)]
        let placement = Placement(members: members, buckets: Self.buckets)
        #expect(placement.relays == 2 && placement.buckets == [0, 1, 2, 6, 7])
    }

    @Test func notToThoseWhoAreAboutToGo() {
        for change in 0..<3 {
            var leaving = Self.member("a")
            switch change {
            case 0: leaving.isGone = true
            case 1: leaving.isDraining = true
            default: leaving.isSilent = true
            }
            let placement = Placement(members: [leaving, Self.member("b")], buckets: Self.buckets)
            #expect(placement.relays == 1 && placement.buckets == [2, 6])
        }
    }

    @Test func anywhereWhereNobodyDelivers() {
        let placement = Placement(members: [Self.member("edge", roles: .edge)], buckets: Self.buckets)
        #expect(placement.relays == 0 && placement.buckets == Array(0..<8))
        // One that has just come has nothing yet, and will take all.
        let coming = Placement(members: [Self.member("c")], buckets: Self.buckets)
        #expect(coming.relays == 1 && coming.buckets == Array(0..<8))
    }
}
