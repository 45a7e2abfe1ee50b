// Who is to have which part of the queue: a value that every node evaluates for itself, from what it has just read. The node's
// thread does what it says.

/// What a node does about buckets, by what the tables say.
struct Sharing {
    /// A node, as its row says and as old as its last beat is.
    struct Member: Hashable {
        var name: String
        var incarnation: Int64
        var roles: NodeRoles
        /// It has left, or was declared dead.
        var isGone: Bool
        /// It gives all away and takes nothing.
        var isDraining: Bool
        /// It was not heard of for longer than a lease.
        var isSilent: Bool

        /// Whether it may have a part of the queue.
        var takes: Bool { roles.contains(.relay) && !isGone && !isDraining && !isSilent }
    }

    struct Bucket: Hashable {
        var number: UInt16
        var owner: String?
        var wanted: String?
    }

    /// Nodes that are to be declared dead.
    private(set) var dead: [Member] = []
    /// Buckets whose owner, or who wanted them, has left without a word.
    private(set) var orphans: [UInt16] = []
    /// How many free buckets are to be taken.
    private(set) var take = 0
    /// Buckets that their owners are to be asked for.
    private(set) var ask: [UInt16] = []
    /// Ours, and another node wants them.
    private(set) var release: Set<UInt16> = []
    /// Ours, by the table.
    private(set) var own: Set<UInt16> = []
    /// What was given as that.
    let leaving: Set<UInt16>

    /// - Parameters:
    ///   - me: this node's name.
    ///   - leaving: buckets that were ours and of which something is still in flight here: they are not taken again.
    ///   - balances: whether others are asked for what they have too much of.
    init(members: [Member], buckets: [Bucket], me: String, leaving: Set<UInt16>, balances: Bool) {
        self.leaving = leaving
        dead = members.filter { $0.isSilent && !$0.isGone && $0.name != me }
        let names = Set(members.filter { !$0.isGone }.map(\.name))
        orphans = buckets.filter { bucket in
            [bucket.owner, bucket.wanted].contains { name in name.map { !names.contains($0) } ?? false }
        }.map(\.number)
        own = Set(buckets.filter { $0.owner == me }.map(\.number))
        release = Set(
            buckets.filter { bucket in
                bucket.owner == me && (bucket.wanted.map { $0 != me && names.contains($0) } ?? false)
            }.map(\.number))
        let takers = members.filter(\.takes).map(\.name).sorted()
        guard let place = takers.firstIndex(of: me) else { return }
        /// What each is to have: the first ones have one more where it does not come out even.
        func target(_ place: Int) -> Int {
            buckets.count / takers.count + (place < buckets.count % takers.count ? 1 : 0)
        }
        let mine = buckets.filter { $0.owner != nil && ($0.wanted ?? $0.owner) == me }.count
        var missing = target(place) - mine
        guard missing > 0 else { return }
        take = min(missing, buckets.filter { $0.owner == nil && !leaving.contains($0.number) }.count)
        missing -= take
        guard balances, missing > 0 else { return }
        for (owner, theirs) in Dictionary(
            grouping: buckets.filter { $0.owner != nil && $0.owner != me }, by: { $0.owner ?? "" }
        )
        .sorted(by: { $0.key < $1.key }) {
            let kept = takers.firstIndex(of: owner).map(target) ?? 0
            let free = theirs.filter { $0.wanted == nil && !leaving.contains($0.number) }
            let surplus = free.count - kept
            guard surplus > 0, missing > 0 else { continue }
            let asked = free.sorted { $0.number > $1.number }.prefix(min(surplus, missing)).map(\.number)
            ask += asked
            missing -= asked.count
        }
    }
}
