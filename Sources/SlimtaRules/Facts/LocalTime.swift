// The time of day and the day of the week: what `hours` and `weekdays` of a rule are about.

package import SlimtaMail

/// A minute of a week, in the machine's time zone.
package struct LocalTime: Hashable, Sendable {
    /// A day of the week. The raw value is the word of slimta.conf.
    package enum Weekday: String, CaseIterable, Hashable, Sendable {
        case mon, tue, wed, thu, fri, sat, sun
    }

    /// The day.
    package var weekday: Weekday
    /// Minutes since midnight, 0 to 1439.
    package var minute: Int

    /// A minute of a day.
    package init(_ weekday: Weekday, minute: Int) {
        self.weekday = weekday
        self.minute = minute
    }

    /// `time` at `offset` seconds east of UTC.
    package init(_ time: Timestamp, offset: Int) {
        let minutes = (Int(time.seconds) + offset).floorDivided(by: 60)
        let day = minutes.floorDivided(by: 24 * 60)
        minute = minutes - day * 24 * 60
        // 1 January 1970 was a Thursday.
        let days = Weekday.allCases
        let index = (day + 3) - (day + 3).floorDivided(by: 7) * 7
        weekday = days[index]
    }
}

extension Int {
    fileprivate func floorDivided(by divisor: Int) -> Int {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? quotient - 1 : quotient
    }
}
