// All that is known of TLS reports: what is counted, what is to be sent, what was. A value without a clock; TLSReports has it
// behind a lock, and TLSReportBook+Text writes it down.
//
//     counted ──the day is over──▶ waits ──its time──▶ is being sent ──somebody takes it──▶ sent
//                                    ▲                      │
//                                    └──nobody does, a day──┘──▶ dropped, as is what waited while nobody could send it
//
// That one is being sent is on the disk before the first octet leaves: a crash costs a report, and not a flood of them.

import SlimtaMail

/// Counts, reports that wait, and what became of the last ones.
struct TLSReportBook: Sendable {
    /// A report on its way.
    struct Letter: Hashable, Sendable {
        let report: TLSReport
        let destinations: [TLSReportRecord.Destination]
        /// When it is sent, or tried again.
        var due: Timestamp
        /// It is dropped then.
        let end: Timestamp
        /// How often it was tried.
        var tries = 0
        /// Why nobody has taken it, in words; nil: it was not tried yet.
        var error: String?

        /// About as many it has in the file.
        fileprivate var octets: Int {
            report.policies.reduce(TLSReportRoom.least + report.domain.octetsAsJSON + destinations.octets) {
                $0 + $1.key.octets + $1.value.octets
            }
        }
    }

    /// A report that is over.
    struct Past: Hashable, Sendable {
        let domain: String
        let day: Int
        let time: Timestamp
        /// Who has taken it; nil: nobody.
        let place: String?
        /// Why not.
        let error: String?
    }

    /// So many of the last ones are remembered.
    static let mostPast = 200
    /// How long is waited after the first try, the second, and so on; the last one repeats.
    static let waits: [Duration] = [300, 900, 3600, 4 * 3600].map { .seconds($0) }

    var counter = TLSReportCounter()
    /// Those that are being sent are not among them: a crash forgets them. The one that is due first is the first.
    private(set) var letters: [Letter] = []
    /// Of all of them, and of those that are being sent: they may come back.
    private var lettersOctets = 0 { didSet { counter.reserved = lettersOctets } }
    private(set) var past: [Past] = []

    init() {}

    init(_ counts: [TLSReportCounter.Count], _ letters: [Letter], _ past: [Past]) {
        (counter, self.letters, self.past) = (TLSReportCounter(counts), letters, past)
        lettersOctets = letters.reduce(0) { $0 + $1.octets }
        counter.reserved = lettersOctets
        sort()
    }

    private mutating func sort() { letters.sort { $0.isBefore($1) } }

    private mutating func add(_ new: [Letter]) {
        if new.isEmpty { return }
        lettersOctets += new.reduce(0) { $0 + $1.octets }
        letters += new
        sort()
    }

    /// Makes reports of the days that are over. `random`: 0 to 1, another one each time.
    mutating func close(at now: Timestamp, by submitter: TLSReport.Submitter, random: () -> Double) {
        add(
            counter.take(at: now, by: submitter).map { report, destinations in
                let due = TLSReportSchedule.time(ofDay: report.day, random: random())
                return Letter(
                    report: report, destinations: destinations, due: due,
                    end: max(due, now) + TLSReportSchedule.lifetime)
            })
    }

    /// The same, and today's as far as it has come, all of them due at once.
    mutating func hurry(at now: Timestamp, withToday: Bool, by submitter: TLSReport.Submitter) {
        add(
            counter.take(at: now, withToday: withToday, by: submitter).map { report, destinations in
                Letter(
                    report: report, destinations: destinations, due: now, end: now + TLSReportSchedule.lifetime)
            })
        for index in letters.indices { letters[index].due = min(letters[index].due, now) }
        sort()
    }

    /// Drops those whose end has come while nobody could send them: the daemon was stopped, or reports were off. Which those
    /// are.
    mutating func dropOld(at now: Timestamp) -> [Past] {
        let old = letters.filter { $0.end <= now }
        letters.removeAll { $0.end <= now }
        return old.map { letter in
            end(letter, nil, letter.error ?? "nobody could send it in its day", at: now)
        }
    }

    /// Those whose time has come, at most so many. They are forgotten here, and that is to be written down before any is sent.
    mutating func takeDue(at now: Timestamp, atMost most: Int) -> [Letter] {
        let due = Array(letters.prefix(most).prefix { $0.due <= now })
        letters.removeFirst(due.count)
        return due
    }

    /// It could not be written down: nothing was sent.
    mutating func untaken(_ taken: some Sequence<Letter>) {
        letters += taken
        sort()
    }

    /// Somebody has it.
    mutating func sent(_ letter: Letter, to place: String, at now: Timestamp) {
        end(letter, place, nil, at: now)
    }

    /// Nobody took it. Whether it is dropped.
    mutating func failed(_ letter: Letter, _ why: String, at now: Timestamp) -> Bool {
        var letter = letter
        letter.due = now + Self.waits[min(letter.tries, Self.waits.count - 1)]
        letter.tries += 1
        letter.error = why
        guard letter.due < letter.end else {
            end(letter, nil, why, at: now)
            return true
        }
        letters.insert(letter, at: letters.firstIndex(where: letter.isBefore) ?? letters.endIndex)
        return false
    }

    @discardableResult
    private mutating func end(_ letter: Letter, _ place: String?, _ error: String?, at now: Timestamp) -> Past {
        lettersOctets -= letter.octets
        let one = Past(domain: letter.report.domain, day: letter.report.day, time: now, place: place, error: error)
        past.append(one)
        if past.count > Self.mostPast { past.removeFirst(past.count - Self.mostPast) }
        return one
    }
}

extension TLSReportBook.Letter {
    fileprivate func isBefore(_ other: Self) -> Bool {
        (due, report.day, report.domain) < (other.due, other.report.day, other.report.domain)
    }
}
