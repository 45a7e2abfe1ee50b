// Which node has how much of a limit that several share, and who finds out about destinations that do not answer: a value that
// every node has for itself. The node's thread writes what it says, and reads what the others have written.
//
// A node *claims* as much as it does or may do. A claim is written first, then all claims are read; of two nodes that raise theirs
// at the same time at least one sees the other's so, and takes no more than the others have left. What a node has it gives back
// before it claims less. So all together never have more than there is, but that each has one at least; nobody waits for anybody,
// and no lock is held. Who has written nothing has the even share.

import SlimtaMail
import SlimtaQueue

/// What a node knows of shared limits, from beat to beat.
struct SiteBook {
    /// What a node has written of a destination or site.
    struct Row: Hashable {
        var limit: Int
        var wanted: Int
        var claim: Int
        /// Whether it wants more than its even share, or something waits for its share: then all say what they have.
        var isActive: Bool
        /// Times are the database's.
        var health: SiteHealth?
    }

    /// What is to be written.
    struct Changes: Equatable {
        /// Whether all that the node has ever written goes before.
        var clears = false
        var written: [SiteSubject: Row] = [:]
        var removed: [SiteSubject] = []

        var isEmpty: Bool { self == Changes() }
    }

    /// So many rows has a node, at most: a beat is to be short. What it has no row for is shared evenly.
    static let mostRows = 1000
    /// Times that differ by less are the same: a clock's offset is not measured better.
    private static let tolerance = Duration.seconds(5)

    /// How many nodes send from the same addresses; 0: that is not known yet.
    private(set) var nodes = 0
    /// What this node has in the database.
    private(set) var own: [SiteSubject: Row] = [:]
    /// What the others have there, as it was last read.
    private var others: [SiteSubject: [String: Row]] = [:]
    /// What this node may do at once.
    private var shares: [SiteSubject: Int] = [:]
    /// Destinations of which it was passed on that they answer again.
    private var freed: Set<SiteSubject> = []
    /// Nothing is known of what is in the database.
    private var isNew = true

    /// What this node was told; nil: since then it has lost the others, or it has not heard of them yet.
    private var told: SharedLimits?

    /// Nothing is heard of the others any more, and what was written last may have come through or not: all is written again.
    ///
    /// - Returns: what this node may do until it hears of them: its even share of each limit, or less where it had less, since the
    ///   others have what they had; and it leaves alone what others look after, as long as that holds. nil: it was told before.
    mutating func forget() -> SharedLimits? {
        var limits = told
        for (subject, var advice) in told?.advice ?? [:] {
            if let limit = limit(of: subject) { advice.share = min(advice.share, even(limit)) }
            advice.part = min(advice.part, 1 / Double(nodes))
            if advice.backOff == .answers { advice.backOff = nil }
            limits?.advice[subject] = advice
        }
        self = SiteBook(nodes: nodes, shares: limits?.advice.mapValues(\.share) ?? shares)
        return limits
    }

    init() {}

    private init(nodes: Int, shares: [SiteSubject: Int]) { (self.nodes, self.shares) = (nodes, shares) }

    /// The least that any node has of it.
    private func limit(of subject: SiteSubject) -> Int? {
        ([own[subject]?.limit].compactMap(\.self) + (others[subject]?.values.map(\.limit) ?? [])).min()
    }

    private func even(_ limit: Int) -> Int { SharedLimits.even(limit, among: nodes) }

    // MARK: Writing

    /// What this node writes at a beat.
    ///
    /// - Parameters:
    ///   - reports: as they were told behind the last advice: less is done now than was then, or what that allows.
    ///   - offset: how far the database's clock is before this one's.
    mutating func changes(_ reports: [SiteDemand], offset: Duration) -> Changes {
        let rows = nodes > 1 ? rows(reports, offset: offset) : [:]
        var changes = Changes()
        changes.clears = isNew
        for (subject, row) in rows where isNew || own[subject] != row { changes.written[subject] = row }
        if !isNew { changes.removed = own.keys.filter { rows[$0] == nil } }
        (own, isNew) = (rows, false)
        return changes
    }

    private func rows(_ reports: [SiteDemand], offset: Duration) -> [SiteSubject: Row] {
        let told = Dictionary(reports.map { ($0.subject, $0) }) { first, _ in first }
        var rows: [SiteSubject: Row] = [:]
        for subject in Set(told.keys).union(own.keys).union(others.keys) {
            rows[subject] = row(subject, told[subject], offset)
        }
        guard rows.count > Self.mostRows else { return rows }
        let order = rows.sorted { a, b in
            if a.value.isActive != b.value.isActive { return a.value.isActive }
            return a.value.wanted != b.value.wanted ? a.value.wanted > b.value.wanted : a.key.text < b.key.text
        }
        return Dictionary(uniqueKeysWithValues: order.prefix(Self.mostRows).map { ($0.key, $0.value) })
    }

    /// nil: the node has its even share, and nothing to tell.
    private func row(_ subject: SiteSubject, _ report: SiteDemand?, _ offset: Duration) -> Row? {
        let theirs = others[subject].map { Array($0.values) } ?? []
        guard let limit = ([report?.limit].compactMap(\.self) + theirs.map(\.limit)).min() ?? own[subject]?.limit else {
            return nil
        }
        let even = even(limit)
        let (wanted, used) = (min(limit, report?.wanted ?? 0), report?.used ?? 0)
        let held = max(shares[subject] ?? even, used)
        let isActive = report?.isLimited ?? false || wanted > even
        let health = report?.health?.shifted(by: offset)
        let isContended = isActive || theirs.contains(where: \.isActive)
        guard isContended || health != nil || held > even else { return nil }
        var row = Row(limit: limit, wanted: wanted, claim: held, isActive: isActive, health: health)
        row.claim = max(held, isContended ? target(row, theirs) : even)
        if let before = own[subject]?.health, let now = health, now.isSame(as: before, within: Self.tolerance) {
            row.health = before
        }
        return row
    }

    /// What this node is to have where each says what it wants: as much of the limit as of all that is wanted, and one at least.
    /// What that is too much in all is taken from who has most, so that what nodes claim is what there is.
    private func target(_ row: Row, _ theirs: [Row]) -> Int {
        let sum = theirs.reduce(row.wanted) { $0 + $1.wanted }
        if sum == 0 { return 1 }
        let wanted = [row.wanted] + theirs.map(\.wanted) + Array(repeating: 0, count: max(0, nodes - 1 - theirs.count))
        var targets = wanted.map { max(1, min(row.limit, row.limit * $0 / sum)) }
        while targets.reduce(0, +) > row.limit, let most = targets.max(), most > 1 {
            targets = targets.map { min($0, most - 1) }
        }
        return targets[0]
    }

    // MARK: Reading

    /// What this node may do, by what the others had written when its own was.
    ///
    /// - Parameters:
    ///   - rows: by the names of the nodes.
    ///   - nodes: the others that live and send from the same addresses. What is not theirs counts for nothing.
    mutating func read(
        _ rows: [(node: String, subject: SiteSubject, row: Row)], nodes names: Set<String>, me: String,
        offset: Duration, hold: Duration
    ) -> SharedLimits {
        nodes = names.count + 1
        others = [:]
        for (node, subject, row) in rows where names.contains(node) { others[subject, default: [:]][node] = row }
        var limits = SharedLimits(nodes: nodes, hold: hold)
        defer { told = limits }
        guard nodes > 1 else {
            (shares, freed) = ([:], [])
            return limits
        }
        var shares: [SiteSubject: Int] = [:]
        var answering: Set<SiteSubject> = []
        for subject in Set(own.keys).union(others.keys) {
            let theirs = others[subject] ?? [:]
            guard var advice = advice(own[subject], theirs, names) else { continue }
            shares[subject] = advice.share
            advice.backOff = backOff(own[subject]?.health, theirs, me)?.shifted(by: .zero - offset)
            if theirs.values.contains(where: { $0.health == .answers }) {
                answering.insert(subject)
                // Told once: if it turns out to be wrong, it is not told again and again.
                advice.backOff = freed.contains(subject) ? nil : .answers
            }
            limits.advice[subject] = advice
        }
        (self.shares, freed) = (shares, answering)
        return limits
    }

    private func advice(_ row: Row?, _ theirs: [String: Row], _ names: Set<String>) -> SiteAdvice? {
        guard let limit = ([row?.limit].compactMap(\.self) + theirs.values.map(\.limit)).min() else { return nil }
        let even = even(limit)
        let claimed = names.reduce(0) { $0 + (theirs[$1]?.claim ?? even) }
        var wanted = even
        if row?.isActive ?? false || theirs.values.contains(where: \.isActive) {
            let mine = row ?? Row(limit: limit, wanted: 0, claim: even, isActive: false)
            wanted = target(mine, Array(theirs.values))
        }
        let share = max(1, min(row?.claim ?? even, wanted, limit - claimed))
        return SiteAdvice(share: share, part: Double(share) / Double(share + claimed))
    }

    /// Of all that back off, the first one by name finds out; of those that only believed another that is not there any more, the
    /// first of them.
    private func backOff(_ mine: SiteHealth?, _ theirs: [String: Row], _ me: String) -> SiteAdvice.BackOff? {
        var all = theirs.compactMapValues(\.health)
        all[me] = mine
        let finders = all.filter { if case .backsOff = $0.value { true } else { false } }
        let followers = all.filter { if case .follows = $0.value { true } else { false } }
        guard let first = (finders.isEmpty ? followers : finders).min(by: { $0.key < $1.key }) else { return nil }
        if first.key == me { return .probe }
        switch first.value {
        case .backsOff(let failure), .follows(let failure): return .leaveAlone(failure)
        case .answers: return nil
        }
    }
}

extension SiteHealth {
    /// The same at another clock.
    fileprivate func shifted(by offset: Duration) -> SiteHealth {
        switch self {
        case .backsOff(let failure): .backsOff(failure.shifted(by: offset))
        case .follows(let failure): .follows(failure.shifted(by: offset))
        case .answers: .answers
        }
    }

    fileprivate func isSame(as other: SiteHealth, within tolerance: Duration) -> Bool {
        switch (self, other) {
        case (.backsOff(let a), .backsOff(let b)), (.follows(let a), .follows(let b)):
            a.reason.reply == b.reason.reply && a.reason.relay == b.reason.relay && a.tried - b.tried < tolerance
                && b.tried - a.tried < tolerance
        case (.answers, .answers): true
        default: false
        }
    }
}

extension SiteAdvice.BackOff {
    fileprivate func shifted(by offset: Duration) -> SiteAdvice.BackOff {
        switch self {
        case .leaveAlone(let failure): .leaveAlone(failure.shifted(by: offset))
        case .probe: .probe
        case .answers: .answers
        }
    }
}

extension SiteFailure {
    fileprivate func shifted(by offset: Duration) -> SiteFailure { SiteFailure(reason, tried: tried + offset) }
}
