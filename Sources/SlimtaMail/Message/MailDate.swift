// Dates as RFC 5322 section 3.3 wants them: the Date and Received policies, bounces. And as RFC 3339 section
// 5.6 does: what the control socket and HTTP say, and when a message is to be sent later. And as RFC 9110 section 5.6.7
// does: the HTTP server.

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

extension Timestamp {
    /// The time that a date-time of RFC 3339 section 5.6 says, to milliseconds; nil if it is none. Its zone may be any, "T"
    /// and "Z" may be small, and a leap second is the beginning of the next one.
    package init?(isoDate text: String) {
        var rest = Array(text.utf8)[...]
        func number(_ digits: Int, _ range: ClosedRange<Int>, then end: StaticString = "") -> Int? {
            let part = rest.prefix(digits)
            guard part.count == digits, part.allSatisfy(\.isASCIIDigit) else { return nil }
            let value = part.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
            rest = rest.dropFirst(digits)
            guard range.contains(value) else { return nil }
            for index in 0..<end.utf8CodeUnitCount {
                guard rest.popFirst()?.asciiLowercased() == end.utf8Start[index] else { return nil }
            }
            return value
        }
        guard let year = number(4, 0...9999, then: "-"), let month = number(2, 1...12, then: "-"),
            let day = number(2, 1...daysOf(month, year), then: "t"), let hour = number(2, 0...23, then: ":"),
            let minute = number(2, 0...59, then: ":"), let second = number(2, 0...60)
        else { return nil }
        var fraction = 0
        if rest.first == UInt8(ascii: ".") {
            let digits = rest.dropFirst().prefix(while: \.isASCIIDigit)
            guard !digits.isEmpty else { return nil }
            for place in 0..<3 {
                fraction *= 10
                if place < digits.count { fraction += Int(digits[digits.startIndex + place] - UInt8(ascii: "0")) }
            }
            rest = rest[digits.endIndex...]
        }
        var offset = 0
        switch rest.popFirst()?.asciiLowercased() {
        case UInt8(ascii: "z"): break
        case let sign? where sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-"):
            guard let hours = number(2, 0...23, then: ":"), let minutes = number(2, 0...59) else { return nil }
            offset = (hours * 60 + minutes) * (sign == UInt8(ascii: "-") ? -1 : 1)
        default: return nil
        }
        guard rest.isEmpty else { return nil }
        let minutes = Int64(daysSinceEpoch(year, month, day)) * 1440 + Int64(hour * 60 + minute - offset)
        self.init(milliseconds: (minutes * 60 + Int64(second)) * 1000 + Int64(fraction))
    }
}

extension Timestamp {
    /// The IMF-fixdate of RFC 9110 section 5.6.7, such as "Sat, 21 Nov 2026 09:00:00 GMT".
    package var httpDate: String {
        let date = mailDate(offset: 0)
        // Of RFC 5322's, what it always has two digits of, and how it calls UTC.
        let isShort = date.utf8.dropFirst(6).first == UInt8(ascii: " ")
        return "\(date.prefix(5))\(isShort ? "0" : "")\(date.dropFirst(5).dropLast(5))GMT"
    }
}

let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

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

/// The other way round.
func daysSinceEpoch(_ year: Int, _ month: Int, _ day: Int) -> Int {
    // A year begins in March here. None before 0 is asked for, but for January and February of 0.
    let shifted = month <= 2 ? year - 1 : year
    let era = (shifted >= 0 ? shifted : shifted - 399) / 400
    let yearOfEra = shifted - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
}

func daysOf(_ month: Int, _ year: Int) -> Int {
    switch month {
    case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
}
