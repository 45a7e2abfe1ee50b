// Who may have the places that are free: the shares that slow destinations, and those of which nothing is known, cannot
// pass. A value; used by QueueMachine alone, which counts what is in flight here.

internal import DequeModule

/// What is known of how long attempts for a destination take.
enum Pace: UInt8 {
    case unknown
    /// The last one got an answer in ``PlaceShares/quick``.
    case quick
    /// The last one took longer, or the destination backs off.
    case slow
}

/// The places of all attempts, shared out.
///
/// An exchanger that answers each command at the last moment holds its places for minutes, and whoever has a few
/// domains of that kind would hold all there are. So places are shared by what is known: destinations that are quick may
/// have any; all others together half, and a quarter more of first attempts, for what nobody has tried is most likely
/// well; of those, the slow ones wait until nobody else does, but for an eighth that is always theirs. The last eighth
/// is for destinations with no attempt in flight, however quick the others were a moment ago.
///
/// None of this holds where there is one destination only, as with a smarthost: it would make room for nobody.
struct PlaceShares {
    /// As many attempts are made at once to a destination before a host of it has answered.
    static let firstWindow: Int32 = 5
    /// An attempt that takes no longer is quick.
    static let quick = Duration.seconds(10)

    /// In which line a destination waits for a place of its share.
    enum Line: UInt8 {
        case none
        /// Destinations of which nothing is known.
        case unknown
        case slow
        /// Destinations that back off, and may be probed.
        case probe
    }

    /// All places.
    var places: Int
    /// Attempts in flight for destinations that are not known to be quick; of those, for the ones that are slow.
    private var unproven = 0
    private var slow = 0
    private var unknownLine: Deque<UInt32> = []
    private var slowLine: Deque<UInt32> = []
    private var probeLine: Deque<UInt32> = []

    init(places: Int) { self.places = places }

    // A handful is what one destination may begin with: below that there is nothing to share.
    private var half: Int { max(places / 2, Int(Self.firstWindow)) }
    private var threeQuarters: Int { max(places - places / 4, Int(Self.firstWindow)) }
    private var eighth: Int { places / 8 }

    /// So many attempts more, or fewer, are in flight for destinations of this pace.
    mutating func count(_ pace: Pace, _ change: Int) {
        if pace != .quick { unproven += change }
        if pace == .slow { slow += change }
    }

    /// Whether a destination may have one more place, of which `used` are taken in all.
    /// - Parameters:
    ///   - here: how many it has.
    ///   - isAlone: whether there is no other destination.
    func permit(_ pace: Pace, here: Int32, used: Int, isAlone: Bool) -> Bool {
        if isAlone { return true }
        if here > 0, used >= places - eighth { return false }
        return switch pace {
        case .quick: true
        case .unknown: unproven < (here == 0 ? threeQuarters : half)
        case .slow: unproven < half || slow < eighth
        }
    }

    /// Whether one more destination may be probed.
    func permitProbe(probes: Int, isAlone: Bool) -> Bool {
        probes < max(1, places / 2) && permit(.slow, here: 0, used: 0, isAlone: isAlone)
    }

    mutating func wait(_ number: UInt32, in line: Line) {
        switch line {
        case .none: break
        case .unknown: unknownLine.append(number)
        case .slow: slowLine.append(number)
        case .probe: probeLine.append(number)
        }
    }

    /// The line whose first destination may have a place now, before or after those that merely wait for their turn.
    func open(probes: Int, isAlone: Bool, hasTurns: Bool) -> Line {
        if !probeLine.isEmpty, permitProbe(probes: probes, isAlone: isAlone) { return .probe }
        if !slowLine.isEmpty, slow < eighth { return .slow }
        if !unknownLine.isEmpty, permit(.unknown, here: 0, used: 0, isAlone: isAlone) { return .unknown }
        if !slowLine.isEmpty, !hasTurns, permit(.slow, here: 0, used: 0, isAlone: isAlone) { return .slow }
        return .none
    }

    /// Takes out the first of a line.
    mutating func next(of line: Line) -> UInt32? {
        switch line {
        case .none: nil
        case .unknown: unknownLine.popFirst()
        case .slow: slowLine.popFirst()
        case .probe: probeLine.popFirst()
        }
    }
}
