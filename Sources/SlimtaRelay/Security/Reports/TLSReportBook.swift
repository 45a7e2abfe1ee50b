// All that is known of TLS reports: what is counted, what is to be sent, what was. A value without a clock; TLSReports has it
// behind a lock, and TLSReportBook+Text writes it down.
//
//     counted ──the day is over──▶ waits ──its time──▶ is being sent ──somebody takes it──▶ sent
//                                    ▲                      │
//                                    └──nobody does, a day──┘──▶ dropped
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
    /// Those that are being sent are not among them: a crash forgets them.
    private(set) var letters: [Letter] = []
    private(set) var past: [Past] = []

    init() {}

    init(_ counts: [TLSReportCounter.Count], _ letters: [Letter], _ past: [Past]) {
        (counter, self.letters, self.past) = (TLSReportCounter(counts), letters, past)
    }

    /// Makes reports of the days that are over. `random`: 0 to 1, another one each time.
    mutating func close(at now: Timestamp, by submitter: TLSReport.Submitter, random: () -> Double) {
        for (report, destinations) in counter.take(before: now, by: submitter) {
            let due = TLSReportSchedule.time(ofDay: report.day, random: random())
            letters.append(
                Letter(
                    report: report, destinations: destinations, due: due,
                    end: max(due, now) + TLSReportSchedule.lifetime))
        }
    }

    /// The same, and today's as far as it has come, all of them due at once.
    mutating func hurry(at now: Timestamp, withToday: Bool, by submitter: TLSReport.Submitter) {
        let time = withToday ? now + .seconds(86_400) : now
        for (report, destinations) in counter.take(before: time, by: submitter) {
            letters.append(
                Letter(
                    report: report, destinations: destinations, due: now, end: now + TLSReportSchedule.lifetime))
        }
        for index in letters.indices { letters[index].due = min(letters[index].due, now) }
    }

    /// Those whose time has come, at most so many. They are forgotten here, and that is to be written down before any is sent.
    mutating func takeDue(at now: Timestamp, atMost most: Int) -> [Letter] {
        let due = letters.indices.filter { letters[$0].due <= now }.prefix(most)
        let taken = due.map { letters[$0] }
        for index in due.reversed() { letters.remove(at: index) }
        return taken
    }

    /// It could not be written down: nothing was sent.
    mutating func untaken(_ taken: [Letter]) { letters += taken }

    /// Somebody has it.
    mutating func sent(_ letter: Letter, to place: String, at now: Timestamp) {
        end(Past(domain: letter.report.domain, day: letter.report.day, time: now, place: place, error: nil))
    }

    /// Nobody took it. Whether it is dropped.
    mutating func failed(_ letter: Letter, _ why: String, at now: Timestamp) -> Bool {
        var letter = letter
        letter.due = now + Self.waits[min(letter.tries, Self.waits.count - 1)]
        letter.tries += 1
        letter.error = why
        guard letter.due < letter.end else {
            end(Past(domain: letter.report.domain, day: letter.report.day, time: now, place: nil, error: why))
            return true
        }
        letters.append(letter)
        return false
    }

    private mutating func end(_ one: Past) {
        past.append(one)
        if past.count > Self.mostPast { past.removeFirst(past.count - Self.mostPast) }
    }
}
