// What the keeper of keys knows: keys, their states, who signs. A value without files, DNS or clock: DKIMKeeper has one behind
// its lock, and does what follows.

import SlimtaConfiguration
import SlimtaDKIM
import SlimtaMail
import SlimtaPolicy

/// All keys in use.
struct SigningBook: Sendable {
    /// What becomes of mail of a domain.
    enum Way: Hashable, Sendable {
        /// It is signed, and can be verified.
        case signed
        /// It is signed, and DNS has not shown the key yet: slimta.conf wants it so.
        case early
        /// It is refused. The key that it was to be signed with.
        case refused(SelectorName?)
    }

    /// Something to tell.
    enum News: Hashable, Sendable {
        /// Of a key.
        case key(SelectorTable.Notice)
        /// Other than it was becomes of a domain's mail; `isFirst`: nobody knew yet.
        case way(domain: String, Way, isFirst: Bool)
    }

    /// A key in use.
    struct Held: Sendable {
        let key: DKIMSigningKey
        let signer: DKIMSigner
        /// Whether slimtad made it.
        let isOurs: Bool
    }

    private(set) var table = SelectorTable(SelectorTimes(signatures: .zero))
    /// States of keys that slimta.conf does not have now: a line that is gone by mistake does not cost an hour when it is back.
    private var dormant = SelectorTable(SelectorTimes(signatures: .zero))
    private(set) var held: [SelectorName: Held] = [:]
    private(set) var settings = SigningSettings()
    private(set) var domains = SigningDomains([], otherwise: .unsigned)
    private(set) var ways: [String: Way] = [:]
    /// What DNS said last, since the start.
    private(set) var verdicts: [SelectorName: DKIMRecordVerdict] = [:]
    private var lifetime: Duration?
    private var gates: [String: SelectorTable.Gate] = [:]
    /// Something is to be written.
    private var isChanged = false

    /// How often the last use of a key is noted, at the most.
    private static let useInterval = Duration.seconds(60)

    // MARK: What is kept

    /// Takes what was written; whether all of it was understood. Keys take up their states when they come.
    mutating func read(_ text: String) -> Bool { dormant.read(text) }

    /// What is to be written; nil: nothing is new.
    mutating func takeChanged() -> String? {
        guard isChanged else { return nil }
        isChanged = false
        return table.text + dormant.text
    }

    /// It could not be written.
    mutating func setChanged() { isChanged = true }

    // MARK: What slimta.conf says

    /// Takes these keys in the place of those in use. States are kept; all are to be asked for.
    ///
    /// - Parameter queued: how long a message may wait in the queue.
    mutating func configure(
        _ settings: SigningSettings, queued: Duration, _ keys: [SigningKey], at now: Timestamp
    ) -> [News] {
        self.settings = settings
        domains = settings.domains
        lifetime = settings.lifetime(queued: queued)
        let names = settings.names
        gates = Dictionary(uniqueKeysWithValues: names.map { ($0, settings.gate(of: $0)) })
        let times = SelectorTimes(signatures: settings.underWay(queued: queued))
        (table.times, dormant.times) = (times, times)
        let wanted = Set(keys.map(\.name))
        for (name, state) in table.states where !wanted.contains(name) {
            dormant.add(state)
            table.remove(name)
            verdicts[name] = nil
        }
        held = [:]
        for (place, key) in keys.enumerated() {
            // Of keys that are new at once, the one that is named last is the newest.
            use(key, since: key.made.map { min($0, now) } ?? now + .milliseconds(Int64(place)))
        }
        table.askAll(at: now)
        isChanged = isChanged || !keys.isEmpty
        let gone = Set(ways.keys).subtracting(names)
        for name in gone { ways[name] = nil }
        return look()
    }

    /// Takes a key that was just made.
    mutating func add(_ key: SigningKey, at now: Timestamp) -> [News] {
        use(key, since: now)
        isChanged = true
        return look()
    }

    private mutating func use(_ key: SigningKey, since time: Timestamp) {
        let name = key.name
        held[name] = Held(
            key: key.key,
            signer: DKIMSigner(domain: name.domain, selector: name.selector, key: key.key, lifetime: lifetime),
            isOurs: key.made != nil)
        if let state = dormant.states[name] {
            dormant.remove(name)
            table.add(state)
        }
        // A file may have another key than the last time: it is the key that DNS has shown, and not the name.
        if table.use(name, key: key.key.publicKey.print, at: time) { verdicts[name] = nil }
    }

    /// The keys in use that slimtad has made.
    var made: [SigningKey] {
        held.filter { $0.value.isOurs }.sorted { $0.key < $1.key }.map { name, held in
            SigningKey(name: name, key: held.key, made: table.states[name]?.made)
        }
    }

    /// Whether what a key has signed can be verified, as far as is known: it signs now, or has not been given up since.
    func stands(_ name: SelectorName) -> Bool {
        guard let state = table.states[name] else { return false }
        switch state.phase {
        case .active: return true
        case .retiring: return state.isRecordRight != false
        case .made, .seen, .failing:
            guard case .sign(let names) = table.choice(for: name.domain, gates[name.domain] ?? .closed) else {
                return false
            }
            return names.contains(name)
        case .old: return false
        }
    }

    /// What keys of a domain are called, and those that slimta.conf does not have now: DNS may have them still.
    func selectors(of domain: String) -> Set<String> {
        Set([table, dormant].flatMap(\.states.keys).filter { $0.domain == domain }.map(\.selector))
    }

    /// Forgets a key whose file is deleted.
    mutating func remove(_ name: SelectorName) {
        table.remove(name)
        held[name] = nil
        verdicts[name] = nil
        isChanged = true
    }

    /// Whether a key that slimtad makes for it is used.
    func uses(_ domain: String, _ algorithm: DKIMAlgorithm) -> Bool { settings.made(for: domain).contains(algorithm) }

    // MARK: Signing

    /// The keys that sign for a domain.
    func choice(for domain: String) -> SigningChoice {
        switch table.choice(for: domain, gates[domain] ?? .closed) {
        case .closed(let name): .closed(name)
        case .sign(let names): .sign(names.compactMap { held[$0]?.signer })
        }
    }

    /// These have signed what leaves at `start`.
    mutating func signed(_ names: [SelectorName], at now: Timestamp, leaving start: Timestamp) {
        // Minutes do not count in a wait of days, and writing does.
        for name in names {
            guard let state = table.states[name] else { continue }
            if start > now, state.leaving.map({ start - $0 >= Self.useInterval }) ?? true {
                _ = table.take(.leaves(start), of: name, at: now)
                isChanged = true
            }
            if let last = state.lastSigned, last <= now, now - last < Self.useInterval { continue }
            _ = table.take(.signed, of: name, at: now)
            isChanged = true
        }
    }

    /// What becomes of the mail of domains, where that is new.
    private mutating func look() -> [News] {
        var news: [News] = []
        for domain in settings.names {
            let way = way(of: domain)
            let before = ways.updateValue(way, forKey: domain)
            if way != before { news.append(.way(domain: domain, way, isFirst: before == nil)) }
        }
        return news
    }

    private func way(of domain: String) -> Way {
        switch table.choice(for: domain, .closed) {
        case .sign: return .signed
        case .closed(let name):
            guard case .sign = table.choice(for: domain, gates[domain] ?? .closed) else { return .refused(name) }
            return .early
        }
    }

    // MARK: DNS and time

    /// Whose records DNS is to be asked for.
    func due(at now: Timestamp) -> [SelectorName] { table.due(at: now) }

    /// All keys, or those of a domain.
    func names(of domain: String?) -> [SelectorName] {
        table.states.keys.filter { domain == nil || $0.domain == domain }.sorted()
    }

    /// Whether it matters how long others may remember that there was no record.
    func isNew(_ name: SelectorName) -> Bool {
        switch table.states[name]?.phase {
        case .made, .seen: true
        case .active, .failing, .retiring, .old, nil: false
        }
    }

    /// DNS has answered.
    mutating func take(_ answer: DKIMQuestions.Answer, at now: Timestamp) -> [News] {
        guard let key = held[answer.name]?.key else { return [] }
        let verdict = answer.answer.judged(for: key.publicKey)
        verdicts[answer.name] = verdict
        let event = SelectorState.Event.answered(verdict, ttl: answer.ttl, negativeTTL: answer.negativeTTL)
        let notices = table.take(event, of: answer.name, at: now)
        isChanged = true
        return notices.map { .key($0) } + look()
    }

    /// Time has passed.
    mutating func pass(_ now: Timestamp) -> [News] {
        let notices = table.clock(now)
        guard !notices.isEmpty else { return [] }
        isChanged = true
        return notices.map { .key($0) } + look()
    }
}
