// How states are kept between two runs, in STATE/dkim/state: a line for each selector, which a person can read and mend.

import SlimtaMail

extension SelectorTable {
    /// A line for each, ended by LF, the names in their order.
    package var text: String {
        states.values.sorted { $0.name < $1.name }.map { $0.line + "\n" }.joined()
    }

    /// Adds what `text` has. Whether all of it was understood; what was not is left out.
    package mutating func read(_ text: String) -> Bool {
        var isWhole = true
        for line in text.split(separator: "\n") {
            if let state = SelectorState(line, times), states[state.name] == nil {
                add(state)
            } else {
                isWhole = false
            }
        }
        return isWhole
    }
}

extension SelectorState {
    /// "example.com r2026a rsa-sha256 active since=2026-11-29T20:00:00.000Z ...".
    fileprivate var line: String {
        var words = [name.domain, name.selector, name.algorithm.rawValue, phase.rawValue]
        func put(_ key: String, _ value: some CustomStringConvertible) { words.append("\(key)=\(value)") }
        put("since", since.isoDate)
        put("made", made.isoDate)
        if let key { put("key", key) }
        if let lastSigned { put("signed", lastSigned.isoDate) }
        if let leaving { put("leaving", leaving.isoDate) }
        if let isRight = row.isRight {
            put("record", isRight ? "right" : "wrong")
            put("times", row.count)
        }
        put("from", row.since.isoDate)
        put("until", row.last.isoDate)
        put("settling", settling.milliseconds / 1000)
        put("ask", nextQuestion.isoDate)
        if row.isTesting { put("testing", "yes") }
        if isStale { put("stale", "yes") }
        return words.joined(separator: " ")
    }

    fileprivate init?(_ line: Substring, _ times: SelectorTimes) {
        let words = line.split(separator: " ").map(String.init)
        guard words.count >= 4, let algorithm = DKIMAlgorithm(rawValue: words[2]),
            let name = SelectorName(domain: words[0], selector: words[1], algorithm: algorithm),
            name.domain == words[0], name.selector == words[1], let phase = Phase(rawValue: words[3])
        else { return nil }
        var values: [String: String] = [:]
        for word in words.dropFirst(4) {
            let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2, values.updateValue(parts[1], forKey: parts[0]) == nil else { return nil }
        }
        func time(_ key: String) -> Timestamp? { values[key].flatMap(Self.time) }
        guard let since = time("since"), let made = time("made"), let from = time("from"), let until = time("until"),
            let ask = time("ask"), let settling = values["settling"].flatMap({ Int32($0) }), settling >= 0,
            (values["signed"] == nil) == (time("signed") == nil),
            (values["leaving"] == nil) == (time("leaving") == nil),
            values["key"].map({ Base64.decode($0.utf8) != nil }) ?? true
        else { return nil }
        self.init(name, made: made, times, key: values["key"])
        (self.phase, self.since, lastSigned, nextQuestion) = (phase, since, time("signed"), ask)
        leaving = time("leaving")
        self.settling = .seconds(Int64(settling))
        row = Row(since: from, last: until)
        switch values["record"] {
        case nil: guard phase == .made else { return nil }
        case "right"?, "wrong"?:
            guard let count = values["times"].flatMap({ Int32($0) }), count > 0 else { return nil }
            (row.isRight, row.count) = (values["record"] == "right", Int(count))
        default: return nil
        }
        row.isTesting = values["testing"] == "yes"
        isStale = values["stale"] == "yes"
    }

    /// Of this era: times before are no clock's.
    private static func time(_ text: String) -> Timestamp? {
        Timestamp(isoDate: text).flatMap { (0..<253_402_300_800_000).contains($0.milliseconds) ? $0 : nil }
    }
}
