// Dates in fields of HTTP. Read by HTTPAnswer.

package import SlimtaMail

extension Timestamp {
    /// An HTTP-date (RFC 9110 section 5.6.7) in any of its three forms; nil if it is none.
    ///
    /// "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994".
    package init?(httpDate text: String) {
        guard text.utf8.count <= 64 else { return nil }
        var words = text.split { " ,-".contains($0) }[...]
        guard words.popFirst() != nil else { return nil }
        if words.count == 5, words.popLast() != "GMT" { return nil }
        guard words.count == 4 else { return nil }
        // Only asctime has the time before the year, and the month before the day.
        let isOld = words[words.startIndex + 2].contains(":")
        let (first, second, third, fourth) = (words[1], words[2], words[3], words[4])
        guard let month = Self.months.firstIndex(of: isOld ? first : second),
            let day = Self.number(isOld ? second : first, 1...31),
            var year = Self.number(isOld ? fourth : third, 0...9999)
        else { return nil }
        let time = (isOld ? third : fourth).split(separator: ":", omittingEmptySubsequences: false)
        guard time.count == 3, let hour = Self.number(time[0], 0...23), let minute = Self.number(time[1], 0...59),
            let leapSecond = Self.number(time[2], 0...60)
        else { return nil }
        if year < 100 { year += year < 70 ? 2000 : 1900 }
        let seconds = Self.days(year, month + 1, day) * 86_400 + hour * 3600 + minute * 60 + leapSecond
        self.init(milliseconds: Int64(seconds) * 1000)
    }

    private static let months: [Substring] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    private static func number(_ text: Substring, _ range: ClosedRange<Int>) -> Int? {
        guard (1...4).contains(text.utf8.count), text.utf8.allSatisfy(\.isASCIIDigit), let number = Int(text) else {
            return nil
        }
        return range.contains(number) ? number : nil
    }

    /// Days since 1970-01-01 of a date in the Gregorian calendar. Months are counted from March, so that the leap day is
    /// a year's last.
    private static func days(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let year = month <= 2 ? year - 1 : year
        let dayOfYear = (153 * ((month + 9) % 12) + 2) / 5 + day - 1
        return year * 365 + year / 4 - year / 100 + year / 400 + dayOfYear - 719_468
    }
}
