// What the scheduler knows of one destination: what waits for it, and whether its hosts answer. Used by QueueMachine
// alone.

package import SlimtaMail

/// What an attempt told about the destination's hosts, whatever it told about the recipients.
package enum HostReport: Hashable, Sendable {
    /// A host opened a session, and answered.
    case answered
    /// No host could be used: no connection, no session, no address. The outcome says why.
    case unreachable(Outcome)
    /// It takes no mail, or no more of it, for so long.
    case paced(Duration)
    /// Nothing was learned: the attempt was cut short, or failed for a reason of ours.
    case unknown
}

/// Something happened to a destination that an operator wants to read of.
package enum DestinationChange: Hashable, Sendable {
    /// Its hosts do not answer: the next probe is at `until`. Told when it begins and after each probe in vain.
    case backedOff(String, until: Timestamp, reason: Outcome)
    /// They answer again.
    case cameBack(String)
}

/// One destination.
struct Destination {
    /// How far its hosts can be relied on.
    struct BackOff {
        /// When they stopped to answer.
        let since: Timestamp
        /// When the next probe may be made.
        var until: Timestamp
        /// Probes in vain.
        var probes = 0
        /// When the last attempt began that failed with `reason`.
        var tried: Timestamp
        /// What they fail with.
        var reason: Outcome
        /// Whether another node makes the probes.
        var isOthers = false
    }

    /// Of so many attempts one is a retry's, though there are new envelopes.
    static let share: UInt8 = 4

    let name: String
    /// Whether its envelopes may be another one's: each is looked at when it is due, and moved to its own before it is attempted.
    var isDoubted = false
    /// Envelopes that have it, wherever they are.
    var entries = 0
    var inFlight: Int32 = 0
    /// As many attempts at once are reasonable, if our own limit allows as many.
    var window = PlaceShares.firstWindow
    /// What is this node's of our own limit, as those with the same addresses share it; 0: its even share.
    var advisedShare: Int32 = 0
    /// Nothing is attempted before: its site said so.
    var pausedUntil = Timestamp(milliseconds: .min)
    /// Attempts begun, up to `share`.
    var served: UInt8 = 0
    /// Whether it stands in line for a turn.
    var hasTurn = false
    var isProbing = false
    /// How long its attempts take; changed by QueueMachine alone, which counts by it.
    var pace = Pace.unknown
    /// Where it waits for a share of the places.
    var line = PlaceShares.Line.none
    /// Where it is in the heap of those that wait for a time; -1: nowhere.
    var wakePosition: Int32 = -1
    var wake = Timestamp(milliseconds: .max)
    /// By due time.
    var new = IndexedHeap()
    /// By due time.
    var retries = IndexedHeap()
    /// By the time at which the sender is to be told something. Only what was due is here.
    var parked = IndexedHeap()

    init(name: String) { self.name = name }

    var waiting: Int { new.count + retries.count + parked.count }
}

/// The destinations, by number.
struct Destinations {
    private var all: [Destination] = []
    private var free: [UInt32] = []
    private var numbers: [String: UInt32] = [:]
    /// Those that are doubted: from a start alone each name once.
    private var doubted: [String: Set<UInt32>] = [:]
    /// Of those that do not answer.
    private(set) var backOffs: [UInt32: Destination.BackOff] = [:]
    /// Names of destinations that were quick when the last envelope left them: nearly all of a daemon with little mail.
    private var quick: Set<String> = []
    /// Those before them; forgotten when there are as many new ones.
    private var quickBefore: Set<String> = []
    private static let quickNames = 2048

    /// How many there are.
    var count: Int { all.count - free.count }

    subscript(number: UInt32) -> Destination {
        _read { yield all[Int(number)] }
        _modify { yield &all[Int(number)] }
    }

    /// Those of this name: more than one if some are doubted.
    func numbers(of name: String) -> [UInt32] { (numbers[name].map { [$0] } ?? []) + (doubted[name] ?? []) }

    /// The numbers of all.
    var known: [UInt32] { Array(numbers.values) + doubted.values.joined() }

    /// What is in the destination may be another one's from now on.
    mutating func doubt(_ number: UInt32) {
        let name = all[Int(number)].name
        guard !all[Int(number)].isDoubted else { return }
        numbers[name] = nil
        all[Int(number)].isDoubted = true
        doubted[name, default: []].insert(number)
    }

    /// Adds one envelope to the destination named `name`, or to one of that name that is doubted.
    mutating func use(_ name: String, isDoubted: Bool = false) -> UInt32 {
        if let number = isDoubted ? doubted[name]?.first : numbers[name] {
            all[Int(number)].entries += 1
            return number
        }
        let number: UInt32
        if let slot = free.popLast() {
            number = slot
            all[Int(slot)] = Destination(name: name)
        } else {
            number = UInt32(all.count)
            all.append(Destination(name: name))
        }
        numbers[name] = number
        all[Int(number)].entries = 1
        if isDoubted {
            doubt(number)
            return number
        }
        if quick.contains(name) || quickBefore.contains(name) { all[Int(number)].pace = .quick }
        return number
    }

    /// Nothing is kept of a destination that no envelope has, but that it was quick.
    mutating func forget(_ number: UInt32) {
        let name = all[Int(number)].name
        if all[Int(number)].isDoubted {
            doubted[name]?.remove(number)
            if doubted[name]?.isEmpty == true { doubted[name] = nil }
        } else {
            remember(name, isQuick: all[Int(number)].pace == .quick)
            numbers[name] = nil
        }
        backOffs[number] = nil
        all[Int(number)] = Destination(name: "")
        free.append(number)
    }

    private mutating func remember(_ name: String, isQuick: Bool) {
        guard isQuick else {
            quick.remove(name)
            quickBefore.remove(name)
            return
        }
        if quick.count >= Self.quickNames { (quickBefore, quick) = (quick, []) }
        quick.insert(name)
    }

    func backOff(_ number: UInt32) -> Destination.BackOff? { backOffs.isEmpty ? nil : backOffs[number] }

    mutating func setBackOff(_ number: UInt32, _ backOff: Destination.BackOff?) { backOffs[number] = backOff }
}

extension Destinations: HeapItems {
    func precedes(_ a: UInt32, _ b: UInt32) -> Bool { all[Int(a)].wake < all[Int(b)].wake }

    func position(of item: UInt32) -> Int { Int(all[Int(item)].wakePosition) }

    mutating func setPosition(of item: UInt32, _ position: Int) { all[Int(item)].wakePosition = Int32(position) }
}
