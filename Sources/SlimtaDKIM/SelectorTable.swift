// All keys, and which of them sign: never two for one algorithm, none that nobody can verify with. The gate asks DNS what this
// says is due, tells it the answers, and asks it for each message.

package import SlimtaMail

/// The states of all selectors.
package struct SelectorTable: Hashable, Sendable {
    /// Who may sign before DNS is right.
    package enum Gate: String, Hashable, Sendable, CaseIterable {
        /// Nobody.
        case closed
        /// A domain's first key, so that mail goes on while the record is new.
        case open
        /// Everybody: a network whose DNS we do not see.
        case off
    }

    /// Which keys sign for a domain.
    package enum Choice: Hashable, Sendable {
        /// These, the topmost field first.
        case sign([SelectorName])
        /// None can be verified with. Which one it was to be; nil: the domain has none.
        case closed(SelectorName?)
    }

    /// What is to be told of a selector.
    package struct Notice: Hashable, Sendable {
        /// Of which.
        package let name: SelectorName
        /// What.
        package let notice: SelectorState.Notice
    }

    /// How long things take.
    package var times: SelectorTimes
    /// By name.
    package private(set) var states: [SelectorName: SelectorState] = [:]
    private var byDomain: [String: [SelectorName]] = [:]

    /// Without any.
    package init(_ times: SelectorTimes) { self.times = times }

    /// Adds a state that was read, or a new one. One that is there stays as it is.
    package mutating func add(_ state: SelectorState) {
        guard states[state.name] == nil else { return }
        states[state.name] = state
        byDomain[state.name.domain, default: []].append(state.name)
    }

    /// Adds a key that was just made, or just named in slimta.conf.
    package mutating func add(_ name: SelectorName, at now: Timestamp) {
        add(SelectorState(name, made: now, times))
    }

    /// Takes the key that a name stands for from now on. What is known of it stays as it is; of another key that had the name
    /// before, nothing does: DNS has not shown this one yet. Whether that was so.
    package mutating func use(_ name: SelectorName, key: String, at now: Timestamp) -> Bool {
        let known = states[name]?.key
        let isAnother = known.map { $0 != key } ?? false
        if isAnother { remove(name) }
        add(SelectorState(name, made: now, times, key: key))
        // It was kept when nobody noted which key it was.
        if known == nil { states[name]?.key = key }
        return isAnother
    }

    /// Forgets one: its key is deleted, or no longer named.
    package mutating func remove(_ name: SelectorName) {
        states[name] = nil
        byDomain[name.domain]?.removeAll { $0 == name }
        if byDomain[name.domain]?.isEmpty == true { byDomain[name.domain] = nil }
    }

    /// Takes what happened to one; what is to be told, of others too. What is ``SelectorState/Notice/done`` is still there,
    /// until it is removed.
    package mutating func take(
        _ event: SelectorState.Event, of name: SelectorName, at now: Timestamp
    ) -> [Notice] {
        guard var state = states[name] else { return [] }
        let wasActive = state.phase == .active
        var notices = state.take(event, at: now, times).map { Notice(name: name, notice: $0) }
        states[name] = state
        if !wasActive, state.phase == .active { notices += settleSuccession(of: state, at: now) }
        return notices
    }

    /// There is a new active one. Of all that are, the newest stays.
    private mutating func settleSuccession(of state: SelectorState, at now: Timestamp) -> [Notice] {
        let rivals = group(of: state.name).filter { $0.phase == .active || $0.phase == .failing }
        let newestActive = rivals.filter { $0.phase == .active }.max(by: Self.isOlder)
        guard let newestActive else { return [] }
        return rivals.filter { Self.isOlder($0, newestActive) }.sorted { $0.name < $1.name }
            .flatMap { take(.succeeded, of: $0.name, at: now) }
    }

    /// Time has passed, for all.
    package mutating func clock(_ now: Timestamp) -> [Notice] {
        states.keys.sorted().flatMap { take(.clock, of: $0, at: now) }
    }

    /// All are to be asked for now.
    package mutating func askAll(at now: Timestamp) {
        for name in states.keys { _ = take(.ask, of: name, at: now) }
    }

    /// Whose records DNS is to be asked for now.
    package func due(at now: Timestamp) -> [SelectorName] {
        states.values.filter { $0.isDue(at: now) }.map(\.name).sorted()
    }

    /// When DNS is to be asked next, `now` at the earliest; nil: there is nothing to ask for.
    package func nextQuestion(after now: Timestamp) -> Timestamp? {
        states.values.map { $0.isDue(at: now) ? now : $0.nextQuestion }.min()
    }

    private func group(of name: SelectorName) -> [SelectorState] {
        (byDomain[name.domain] ?? []).filter { $0.algorithm == name.algorithm }.compactMap { states[$0] }
    }

    /// Keys of a domain and algorithm, of these, that are to sign and wait for DNS. One that is older than the one that signs is
    /// none: it never will.
    package func waiting(among names: some Sequence<SelectorName>) -> [SelectorName] {
        let found = names.compactMap { states[$0] }
        return found.filter { state in
            (state.phase == .made || state.phase == .seen) && !found.contains { $0.isActiveSuccessor(of: state) }
        }.map(\.name)
    }

    fileprivate static func isOlder(_ a: SelectorState, _ b: SelectorState) -> Bool {
        (a.made, a.name.selector) < (b.made, b.name.selector)
    }

    /// The keys that sign for a domain, one for each algorithm.
    ///
    /// RSA decides: a message that has a signature by Ed25519 alone is unsigned for many. Where there is an RSA key and its gate
    /// is closed, so is the domain's; an Ed25519 key whose gate is closed is only left out.
    package func choice(for domain: String, _ gate: Gate) -> Choice {
        let names = byDomain[domain] ?? []
        var signers: [SelectorName] = []
        for algorithm in DKIMAlgorithm.allCases {
            let group = names.filter { $0.algorithm == algorithm }.compactMap { states[$0] }
            // An algorithm that was given up is none that mail waits for.
            guard group.contains(where: { $0.phase != .old }) else { continue }
            if let signer = Self.signer(group, gate) {
                signers.append(signer.name)
            } else if algorithm == .rsaSHA256 {
                return .closed(group.max(by: Self.isOlder)?.name)
            }
        }
        if signers.isEmpty {
            return .closed(names.compactMap { states[$0] }.max(by: Self.isOlder)?.name)
        }
        return .sign(signers)
    }

    /// Of keys of one domain and algorithm, the one that signs; nil: the gate is closed.
    private static func signer(_ group: [SelectorState], _ gate: Gate) -> SelectorState? {
        // Asked for each message.
        func newest(_ phases: SelectorState.Phase..., where isFit: (SelectorState) -> Bool = { _ in true })
            -> SelectorState?
        {
            group.filter { phases.contains($0.phase) && isFit($0) }.max(by: isOlder)
        }
        // An active one whose record was wrong for less than 15 minutes, too: that may have been one server's mistake.
        if let active = newest(.active) { return active }
        switch gate {
        case .off: return newest(.made, .seen, .failing) ?? newest(.retiring)
        // What DNS has is worth more than what is new.
        case .open where !group.contains(where: \.wasActive): return newest(.seen) ?? newest(.made)
        case .open, .closed: return newest(.retiring) { $0.isRecordRight == true }
        }
    }
}

extension SelectorState {
    /// Whether it signs in the place of another one, which is older.
    package func isActiveSuccessor(of other: SelectorState) -> Bool {
        phase == .active && name.domain == other.name.domain && name.algorithm == other.name.algorithm
            && SelectorTable.isOlder(other, self)
    }
}
