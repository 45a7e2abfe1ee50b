// What a directory edge does next: which names in the folder are messages, when one is whole, which is taken first, when it
// is tried again, and when the folder is read anew. A value without I/O; DirectoryDriver carries it out.

internal import SlimtaMail

/// Decides about the files of one pickup folder.
///
///     in the folder ──whole──▶ take ──▶ submit ──┬─ stored ───▶ remove (name gone, durably), then forget the receipt
///          ▲   │                          ▲      ├─ refused ──▶ set aside: failed/NAME and its reason
///          └───┘ it changes               └──────┴─ not now ──▶ it stays in `taken`, and is tried again later
///
/// The driver asks ``next(_:)``, does that one thing, says what came of it, and asks again; only submissions go on beside.
/// So what the machine knows of the folder is never changed from two sides. It knows a bounded number of files, the oldest:
/// when those are done, the folder is read again.
struct DirectoryMachine {
    typealias Instant = ContinuousClock.Instant

    /// A file in the folder.
    private struct Candidate {
        var facts: FileFacts
        /// Since when it has not changed, as far as that is known; nil: it was announced as whole.
        var since: Instant?
    }

    private struct Taken {
        enum State: Equatable {
            case waiting(until: Instant)
            case submitting
            case stored(removeAt: Instant)
            /// To be set aside.
            case refused(Reply)
        }

        let file: TakenFile
        var state: State
        /// How often it was put off.
        var tries = 0
        /// What it was put off with last.
        var reply: Reply?
        var hasChanged = false
    }

    private enum Phase {
        case closed(tryAt: Instant)
        case open
        /// What is being submitted is finished first; `isEnd`: then nothing more is done.
        case leaving(isEnd: Bool)
        case ended
    }

    /// Submissions at once: enough for the journal to commit many together, and what they have in memory stays small.
    static let slots = 16
    /// Those of them that files may have which were put off: new ones do not wait for all of these.
    private static let slotsOfPutOff = slots / 2
    /// Files that are known at once in the folder; and of those in `taken`, which may stay there for days, each owner has his
    /// part of so many.
    static let limit = 1000
    /// How long a file stays as it is that nobody announced, before it is taken for whole: of those who write in place
    /// without `settle`, and of files that were there before us.
    static let quiet = Duration.seconds(5)
    /// inotify loses events, and some file systems have none.
    static let scanInterval = Duration.seconds(60)
    /// Between scans of a folder that has more files than are known at once, or in which more happens than is kept.
    private static let moreInterval = Duration.seconds(1)
    /// Between attempts to open it.
    private static let openInterval = Duration.seconds(1)
    private static let roomInterval = Duration.seconds(10)
    /// How often, and how long apart, a file is looked at whose other name is to go.
    private static let linkLooks = 10
    private static let linkInterval = Duration.seconds(1)
    /// An hour, in nanoseconds: older than anything that is waited for.
    private static let longAgo: Int64 = 3_600_000_000_000

    /// `settle`; zero: writers rename or link what is whole.
    var settle: Duration
    /// Whether the owner of a file is its login: then it must have no other name.
    var isByOwner: Bool

    private var phase: Phase
    private var folder: [PickupName: Candidate] = [:]
    private var taken: [QueueID: Taken] = [:]
    /// Names that something has happened to: what was last.
    private var noticed: [PickupName: FolderChanges.Event] = [:]
    /// Names that somebody writes to.
    private var written: Set<PickupName> = []
    /// Files that still have another name: when they are looked at again, and how often.
    private var linked: [PickupName: (at: Instant, left: Int)] = [:]
    private var scanAt: Instant
    /// Before that no loss of events leads to a scan.
    private var scanNotBefore: Instant
    /// Names were looked at last: now files are taken, if there are any.
    private var hasLooked = false
    /// The last scan found more than is kept: when the next one may be.
    private var moreAt: Instant?
    private var roomAt: Instant

    /// Nothing is open yet.
    init(settle: Duration, isByOwner: Bool, at now: Instant) {
        self.settle = settle
        self.isByOwner = isByOwner
        phase = .closed(tryAt: now)
        (scanAt, scanNotBefore, roomAt) = (now, now, now)
    }

    /// Messages that are being submitted, or are and their files still there.
    var busyCount: Int {
        taken.values.count {
            switch $0.state {
            case .submitting, .stored, .refused: true
            case .waiting: false
            }
        }
    }

    /// The same, and those whose first turn comes next.
    var unfinishedCount: Int {
        taken.values.count { entry in
            if case .waiting = entry.state { entry.tries == 0 } else { true }
        }
    }

    /// Files that were put off, how many there are and one of them with the last reply; nil: none.
    var putOff: (count: Int, example: TakenFile, reply: Reply)? {
        let all = taken.values.filter { $0.tries > 0 && $0.reply != nil }
        guard let first = all.min(by: { $0.file.id < $1.file.id }), let reply = first.reply else { return nil }
        return (all.count, first.file, reply)
    }

    /// What to do now.
    mutating func next(_ now: Instant) -> Action {
        switch phase {
        case .closed(let tryAt): return tryAt <= now ? .open : .wait(until: tryAt)
        case .ended: return .end
        case .open, .leaving: break
        }
        if let action = nextOfTaken(now) { return action }
        if case .leaving(let isEnd) = phase {
            guard busyCount == 0 else { return .wait(until: nextTime(now)) }
            if isEnd { phase = .ended }
            return isEnd ? .end : .close
        }
        if scanAt <= now { return .scan }
        let room = roomAt <= now ? Self.slots - busyCount : 0
        let files = room > 0 ? whole(now, room) : []
        let names = Set(noticed.keys).union(linked.filter { $0.value.at <= now }.keys)
        // By turns: whoever makes and removes files without end keeps nobody's from being taken.
        if !names.isEmpty, files.isEmpty || !hasLooked {
            hasLooked = true
            return .look(names.sorted())
        }
        hasLooked = false
        if !files.isEmpty { return .take(files) }
        if room > 0, let moreAt, moreAt <= now { return .scan }
        return .wait(until: nextTime(now))
    }

    private mutating func nextOfTaken(_ now: Instant) -> Action? {
        let stored = taken.values.filter { if case .stored(let at) = $0.state { at <= now } else { false } }
        if !stored.isEmpty { return .remove(stored.map(\.file)) }
        for entry in taken.values {
            if case .refused(let reply) = entry.state { return .setAside(entry.file, reply) }
        }
        guard busyCount < Self.slots else { return nil }
        // What waits for its second turn waits for the next start, too, once we are leaving.
        let isLeaving = if case .leaving = phase { true } else { false }
        let mayRetry = !isLeaving && hasSlotForPutOff
        let due = taken.values.filter {
            guard case .waiting(let until) = $0.state else { return false }
            return until <= now && (mayRetry || $0.tries == 0)
        }
        guard let first = due.min(by: { ($0.tries > 0 ? 1 : 0, $0.file.id) < ($1.tries > 0 ? 1 : 0, $1.file.id) })
        else { return nil }
        taken[first.file.id]?.state = .submitting
        return .submit(first.file)
    }

    private var hasSlotForPutOff: Bool {
        taken.values.count { $0.state == .submitting && $0.tries > 0 } < Self.slotsOfPutOff
    }

    /// The oldest of each owner that are whole, and to which nothing has happened since, as far as he has room in `taken`.
    private func whole(_ now: Instant, _ count: Int) -> [PickupFile] {
        guard !folder.isEmpty else { return [] }
        var (shares, files) = (DirectoryShares(taken.values.map(\.file.owner), of: Self.limit), [PickupFile]())
        let whole = folder.filter { noticed[$0.key] == nil && wholeAt($0.key, $0.value).map { $0 <= now } ?? false }
            .sorted { ($0.value.facts.modified, $0.key) < ($1.value.facts.modified, $1.key) }
            .map { PickupFile(name: $0.key, facts: $0.value.facts) }
        for file in whole.inTurns(\.facts.owner) where files.count < count && shares.take(file.facts.owner) {
            files.append(file)
        }
        return files
    }

    /// When a file is whole if nothing happens to it; nil: something has to happen.
    private func wholeAt(_ name: PickupName, _ candidate: Candidate) -> Instant? {
        if isLinked(candidate.facts) { return nil }
        guard let since = candidate.since else { return roomAt }
        return candidate.facts.size == 0 || written.contains(name) ? nil : since + stillness
    }

    private var stillness: Duration { settle > .zero ? settle : Self.quiet }

    private func isLinked(_ facts: FileFacts) -> Bool { isByOwner && facts.links > 1 }

    /// When there is something to do by itself.
    private func nextTime(_ now: Instant) -> Instant {
        var time = now + Self.scanInterval
        for entry in taken.values { if case .stored(let at) = entry.state { time = min(time, at) } }
        guard case .open = phase else { return time }
        time = min(time, scanAt, linked.values.map { $0.at }.min() ?? scanAt)
        guard busyCount < Self.slots else { return time }
        let mayRetry = hasSlotForPutOff
        for entry in taken.values where mayRetry || entry.tries == 0 {
            if case .waiting(let until) = entry.state { time = min(time, until) }
        }
        if let moreAt { time = min(time, max(roomAt, moreAt)) }
        let shares = DirectoryShares(folder.isEmpty ? [] : taken.values.map(\.file.owner), of: Self.limit)
        for (name, candidate) in folder where shares.hasRoom(candidate.facts.owner) {
            if let at = wholeAt(name, candidate) { time = min(time, max(roomAt, at)) }
        }
        return time
    }

    // MARK: Events

    /// The folder is open and watched: now it is read, so that nothing falls between.
    mutating func opened(_ now: Instant) {
        phase = .open
        scanAt = now
    }

    /// The folder is not there, or cannot be used.
    mutating func cannotOpen(_ now: Instant) { phase = .closed(tryAt: now + Self.openInterval) }

    /// What was known of the folder is worth nothing.
    mutating func closed(_ now: Instant) {
        phase = .closed(tryAt: now + Self.openInterval)
        (folder, noticed, written, linked, taken, moreAt) = ([:], [:], [], [:], [:], nil)
    }

    /// Nothing more is taken; what was, is finished.
    mutating func drain() {
        switch phase {
        case .closed: phase = .ended
        case .open, .leaving: phase = .leaving(isEnd: true)
        case .ended: break
        }
    }

    /// It is gone, or cannot be read any more.
    mutating func lost() { if case .open = phase { phase = .leaving(isEnd: false) } }

    /// From the watch.
    mutating func changed(_ changes: FolderChanges, _ now: Instant) {
        if changes.isGone { lost() }
        guard case .open = phase else { return }
        for change in changes.changes {
            if change.event == .written { written.insert(change.name) } else { written.remove(change.name) }
            // A link that was made, then written to, is as it was when it was made.
            if change.event != .written { noticed[change.name] = change.event }
        }
        if changes.hasLost || max(noticed.count, written.count) > Self.limit {
            (noticed, written) = ([:], [])
            scanAt = min(scanAt, max(now, scanNotBefore))
        }
    }

    /// The oldest files of the folder, and those in `taken`, as many as ``limit`` of each. Files that are empty or wait for the
    /// end of their other names are not among them.
    ///
    /// - Parameters:
    ///   - wall: the time of day, in nanoseconds since the epoch.
    ///   - isAll: whether there are no more.
    mutating func scanned(
        _ files: [PickupFile], taken found: [TakenFile], isAll: Bool, wall: Int64, _ now: Instant
    ) {
        (scanAt, scanNotBefore) = (now + Self.scanInterval, now + Self.moreInterval)
        moreAt = isAll ? nil : now + Self.moreInterval
        let old = folder
        folder = [:]
        for file in files {
            // How long it has been as it is, says its file system. A clock that is ahead of ours says nothing.
            let age = Duration.nanoseconds(min(max(0, wall - file.facts.changed), Self.longAgo))
            var candidate = Candidate(facts: file.facts, since: now - age)
            if let known = old[file.name], known.facts == file.facts {
                candidate.since = known.since.map { min($0, now - age) }
            }
            folder[file.name] = candidate
        }
        for file in found where taken[file.id] == nil {
            taken[file.id] = Taken(file: file, state: .waiting(until: now))
        }
    }

    /// What the names are that were to be looked at; nil: no file of ours.
    mutating func looked(_ files: [(name: PickupName, facts: FileFacts?)], _ now: Instant) {
        for (name, facts) in files {
            let event = noticed.removeValue(forKey: name)
            let known = linked.removeValue(forKey: name)
            folder[name] = nil
            guard let facts else { continue }
            guard isLinked(facts) else {
                // One name: renamed to it, or the other one is gone by now; or created here, and perhaps not written yet.
                let isWhole = event == .moved || known != nil || facts.links > 1
                if folder.count < Self.limit {
                    folder[name] = Candidate(facts: facts, since: isWhole ? nil : now)
                } else {
                    moreAt = moreAt ?? now
                }
                continue
            }
            // Nothing tells when the other name goes.
            let left = known.map { $0.left - 1 } ?? Self.linkLooks
            if left > 0, linked.count < Self.limit { linked[name] = (now + Self.linkInterval, left) }
        }
    }

    /// What came of taking files.
    mutating func took(_ takings: [(name: PickupName, taking: Taking)], _ now: Instant) {
        for (name, taking) in takings {
            folder[name] = nil
            switch taking {
            case .taken(let file): taken[file.id] = Taken(file: file, state: .waiting(until: now))
            case .changed(let facts): folder[name] = Candidate(facts: facts, since: now)
            case .not: break
            }
        }
    }

    /// No message can be taken now, whatever it is.
    mutating func noRoom(_ now: Instant) { roomAt = now + Self.roomInterval }

    /// A submission has ended.
    mutating func submitted(_ id: QueueID, _ outcome: Outcome, _ now: Instant) {
        guard var entry = taken[id], entry.state == .submitting else { return }
        switch outcome {
        case .stored: entry.state = .stored(removeAt: now)
        case .refused(let reply): entry.state = .refused(reply)
        case .later(let reply):
            (entry.tries, entry.reply) = (entry.tries + 1, reply)
            if reply.status == EnhancedStatus(4, 3, 1) { noRoom(now) }
            entry.state = .waiting(until: now + Self.pause(behind: entry.tries))
        case .changed where entry.hasChanged:
            entry.state = .refused(Reply(554, .init(5, 6, 0), "The file was written to while it was read, twice"))
        case .changed:
            (entry.tries, entry.hasChanged) = (entry.tries + 1, true)
            entry.state = .waiting(until: now + max(stillness, Self.quiet))
        }
        taken[id] = entry
    }

    /// 30 s, twice that, and so on up to an hour.
    private static func pause(behind tries: Int) -> Duration { .seconds(min(3600, 15 << min(tries, 10))) }

    /// Files whose messages are stored are gone, or could not be taken away.
    mutating func removed(_ files: [TakenFile], isDone: Bool, _ now: Instant) {
        for file in files {
            if isDone {
                taken[file.id] = nil
            } else {
                taken[file.id]?.state = .stored(removeAt: now + Self.pause(behind: 2))
            }
        }
    }

    /// A refused file is in `failed`, or could not be moved there: then it is submitted again some time.
    mutating func setAside(_ file: TakenFile, isDone: Bool, _ now: Instant) {
        guard !isDone, var entry = taken[file.id] else { return taken[file.id] = nil }
        entry.tries += 1
        entry.state = .waiting(until: now + Self.pause(behind: entry.tries))
        taken[file.id] = entry
    }
}
