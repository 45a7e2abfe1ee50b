// Dates as RFC 5322 section 3.3 wants them: the Date and Received policies, bounces. And as RFC 3339 section
// 5.6 does: what the control socket says.

extension Timestamp {
    /// The date-time of RFC 5322 section 3.3, such as "Sat, 21 Nov 2026 10:00:00 +0100".
    ///
    /// - Parameter offset: what the zone adds to UTC, in seconds (east is positive), as `localOffset` gives it. Parts
    ///   of a minute cannot be written and are dropped.
    package func mailDate(offset: Int) -> String {
        let minutes = offset / 60
        let local = seconds + Int64(minutes) * 60
        let days = local >= 0 ? local / 86400 : (local - 86399) / 86400
        let second = Int(local - days * 86400)
        let (year, month, day) = civilDate(daysSinceEpoch: days)
        let weekday = Int(((days + 4) % 7 + 7) % 7)
        let zone = abs(minutes)
        return "\(weekdays[weekday]), \(day) \(months[month - 1]) \(year) "
            + "\(twoDigits(second / 3600)):\(twoDigits(second / 60 % 60)):\(twoDigits(second % 60)) "
            + "\(minutes < 0 ? "-" : "+")\(twoDigits(zone / 60))\(twoDigits(zone % 60))"
    }
}

extension Timestamp {
    /// The date-time of RFC 3339 section 5.6 in UTC with milliseconds, such as "2026-11-21T09:00:00.250Z".
    package var isoDate: String {
        let days = seconds >= 0 ? seconds / 86400 : (seconds - 86399) / 86400
        let second = Int(seconds - days * 86400)
        let (year, month, day) = civilDate(daysSinceEpoch: days)
        let fraction = String(1000 + (milliseconds % 1000 + 1000) % 1000).dropFirst()
        return "\(year)-\(twoDigits(month))-\(twoDigits(day))T"
            + "\(twoDigits(second / 3600)):\(twoDigits(second / 60 % 60)):\(twoDigits(second % 60)).\(fraction)Z"
    }
}

private let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
private let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

private func twoDigits(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

/// The date in the proleptic Gregorian calendar. Months are counted from March, so that the leap day is a year's last.
private func civilDate(daysSinceEpoch: Int64) -> (year: Int, month: Int, day: Int) {
    let days = daysSinceEpoch + 719_468  // since 0000-03-01
    let era = (days >= 0 ? days : days - 146_096) / 146_097
    let dayOfEra = days - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    let day = Int(dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
    let month = Int(monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9)
    return (Int(yearOfEra + era * 400) + (month <= 2 ? 1 : 0), month, day)
}
