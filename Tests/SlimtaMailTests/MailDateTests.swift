// Dates of RFC 5322 against a table and against date(1) in many zones.

import Foundation
import SlimtaMail
import TestKit
import Testing

@Suite struct MailDateTests {
    static let table: [(Int64, Int, String)] = [
        (0, 0, "Thu, 1 Jan 1970 00:00:00 +0000"),
        (-1, 0, "Wed, 31 Dec 1969 23:59:59 +0000"),
        (0, -1800, "Wed, 31 Dec 1969 23:30:00 -0030"),
        (0, -60, "Wed, 31 Dec 1969 23:59:00 -0001"),
        (951_782_399, 0, "Mon, 28 Feb 2000 23:59:59 +0000"),
        (951_782_400, 0, "Tue, 29 Feb 2000 00:00:00 +0000"),
        (951_868_800, 0, "Wed, 1 Mar 2000 00:00:00 +0000"),
        (1_709_164_799, 0, "Wed, 28 Feb 2024 23:59:59 +0000"),
        (1_709_251_199, 0, "Thu, 29 Feb 2024 23:59:59 +0000"),
        (4_107_542_399, 0, "Sun, 28 Feb 2100 23:59:59 +0000"),
        (4_107_542_400, 0, "Mon, 1 Mar 2100 00:00:00 +0000"),
        (-2_203_891_200, 0, "Thu, 1 Mar 1900 00:00:00 +0000"),
        (-2_203_891_201, 0, "Wed, 28 Feb 1900 23:59:59 +0000"),
        (1_795_251_600, 3600, "Sat, 21 Nov 2026 10:00:00 +0100"),
        (1_795_251_600, 20700, "Sat, 21 Nov 2026 14:45:00 +0545"),
        (1_795_251_600, -12600, "Sat, 21 Nov 2026 05:30:00 -0330"),
        (1_795_251_600, 50400, "Sat, 21 Nov 2026 23:00:00 +1400"),
        (1_795_251_600, -43200, "Fri, 20 Nov 2026 21:00:00 -1200"),
        (253_402_300_799, 0, "Fri, 31 Dec 9999 23:59:59 +0000"),
        (2_147_483_648, 0, "Tue, 19 Jan 2038 03:14:08 +0000"),
        // Seconds of an offset cannot be written: the time shown fits what is written.
        (0, 1172, "Thu, 1 Jan 1970 00:19:00 +0019"),
        (0, -1172, "Wed, 31 Dec 1969 23:41:00 -0019"),
    ]

    @Test(arguments: table) func asInTable(_ seconds: Int64, _ offset: Int, _ text: String) {
        #expect(Timestamp(milliseconds: seconds * 1000).mailDate(offset: offset) == text)
        #expect(Timestamp(milliseconds: seconds * 1000 + 999).mailDate(offset: offset) == text)
    }

    static let zones = [
        "UTC", "Europe/Berlin", "Europe/London", "America/St_Johns", "America/New_York", "Asia/Kathmandu",
        "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Chatham", "Pacific/Kiritimati", "Pacific/Pago_Pago",
        "Africa/Casablanca", "America/Caracas", "XXX+12", "YYY-14", "ZZZ+0:30",
    ]

    /// date(1) says the same of random times from 1973 to 2286, and of times around the leap days of centuries.
    @Test(arguments: zones) func likeDate(_ zone: String) throws {
        var generator = SeededGenerator(seed: 5322)
        var times = (0..<300).map { _ in Int64.random(in: 94_694_400...9_999_999_999, using: &generator) }
        times += [951_782_400, 951_868_799, 951_868_800, 4_107_542_399, 4_107_542_400, 1_709_251_199, 1_709_251_200]
        let lines = try dates(times.map { "@\($0)" }, "+%z %a, %-d %b %Y %H:%M:%S %z", zone)
        #expect(lines.count == times.count)
        for (time, line) in zip(times, lines) {
            let (zone, date) = (line.prefix(5), line.dropFirst(6))
            #expect(Timestamp(milliseconds: time * 1000).mailDate(offset: offset(zone)) == date)
        }
    }

    /// date(1) reads the same instant out of what we write, for any offset, also before the epoch.
    @Test func readByDate() throws {
        var generator = SeededGenerator(seed: 822)
        var times: [Int64] = []
        var texts: [String] = []
        for _ in 0..<600 {
            // The years 1001 to 9999
            let time = Int64.random(in: -30_578_688_000...253_370_764_800, using: &generator)
            times.append(time)
            let offset = Int.random(in: -50400...50400, using: &generator)
            texts.append(Timestamp(milliseconds: time * 1000).mailDate(offset: offset))
        }
        let read = try dates(texts, "+%s", "UTC").compactMap { Int64($0) }
        #expect(read == times)
    }

    /// As `date -R` prints: all of the line, but for the zero before days of one digit.
    @Test func likeDateR() throws {
        let times = (0..<400).map { Int64($0) * 7_654_321 }
        let lines = try output(
            of: "/usr/bin/date", ["-R", "-f", "/dev/stdin"], zone: "America/Toronto",
            input: Array(times.map { "@\($0)\n" }.joined().utf8)
        ).split(separator: "\n")
        #expect(lines.count == times.count)
        for (time, line) in zip(times, lines) {
            let expected = line.replacingOccurrences(of: ", 0", with: ", ")
            #expect(Timestamp(milliseconds: time * 1000).mailDate(offset: offset(line.suffix(5))) == expected)
        }
    }

    /// The proleptic calendar, day by day over the 400 years in which it repeats: each day follows from the one before.
    @Test func everyDayOfTheCycle() {
        let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        var (year, month, day, weekday) = (1800, 0, 1, 3)
        var wrong: [String] = []
        for number in Int64(-62091)..<Int64(-62091 + 146_097) {
            let expected = "\(weekdays[weekday]), \(day) \(names[month]) \(year) 12:00:00 +0000"
            let date = Timestamp(milliseconds: (number * 86400 + 43200) * 1000).mailDate(offset: 0)
            if date != expected { wrong.append("\(date) is \(expected)") }
            let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
            day += 1
            weekday = (weekday + 1) % 7
            if day > [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month] {
                (day, month) = (1, month + 1)
            }
            if month == 12 { (month, year) = (0, year + 1) }
        }
        #expect(wrong.isEmpty)
        #expect((year, month, day, weekday) == (2200, 0, 1, 3))
    }

    @Test func anyTimeHasADate() {
        for milliseconds in [.min, .max, .min + 1, -62_135_596_800_001, -62_167_219_200_000] as [Int64] {
            for offset in [0, 86_399, -86_399, 3600] {
                #expect(!Timestamp(milliseconds: milliseconds).mailDate(offset: offset).isEmpty)
            }
        }
    }

    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z"),
            (1_709_164_800_250, "2024-02-29T00:00:00.250Z"),
            (1_795_255_199_007, "2026-11-21T09:59:59.007Z"), (-1500, "1969-12-31T23:59:58.500Z"),
        ] as [(Int64, String)])
    func isoDates(_ milliseconds: Int64, _ text: String) {
        #expect(Timestamp(milliseconds: milliseconds).isoDate == text)
    }

    @Test(
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("2024-02-29T00:00:00.250Z", 1_709_164_800_250),
            ("2026-11-21t09:59:59.0079z", 1_795_255_199_007), ("2026-11-21T11:00:00+01:00", 1_795_255_200_000),
            ("2026-11-20T23:30:00-10:30", 1_795_255_200_000), ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000), ("1969-12-31T23:59:58.5Z", -1500),
            ("2026-11-21", nil), ("2026-11-21T10:00:00", nil), ("2026-02-29T10:00:00Z", nil),
            ("2026-13-01T10:00:00Z", nil),
            ("2026-11-21T24:00:00Z", nil), ("2026-11-21T10:00Z", nil), ("2026-11-21T10:00:00.Z", nil),
            ("2026-11-21T10:00:00+0100", nil), ("2026-11-21 10:00:00Z", nil), ("2026-11-21T10:00:00Zx", nil), ("", nil),
        ] as [(String, Int64?)])
    func readDates(_ text: String, _ milliseconds: Int64?) {
        #expect(Timestamp(isoDate: text)?.milliseconds == milliseconds)
    }

    @Test func readsWhatItWrites() {
        for day in stride(from: Int64(-719_162), to: 2_932_896, by: 97) {
            let time = Timestamp(milliseconds: day * 86_400_000 + 12_345_678)
            let text = time.isoDate
            if text.utf8.count == 24 { #expect(Timestamp(isoDate: text) == time) }
        }
    }

    @Test func localOffset() throws {
        for time in [0, 1_709_251_199, 1_721_000_000] as [Int64] {
            let local = ProcessInfo.processInfo.environment["TZ"] ?? ":/etc/localtime"
            let zone = try output(of: "/usr/bin/date", ["-d", "@\(time)", "+%z"], zone: local, input: [])
            #expect(Timestamp(milliseconds: time * 1000).localOffset == offset(zone.prefix(5)))
        }
        // Years that do not fit: no zone, no trap.
        _ = Timestamp(milliseconds: .max).localOffset
        _ = Timestamp(milliseconds: .min).localOffset
    }

    private func dates(_ lines: [String], _ format: String, _ zone: String) throws -> [Substring] {
        let input = lines.map { $0 + "\n" }.joined()
        return try output(of: "/usr/bin/date", ["-f", "/dev/stdin", format], zone: zone, input: Array(input.utf8))
            .split(separator: "\n")
    }

    private func offset(_ zone: some StringProtocol) -> Int {
        let digits = zone.utf8.dropFirst().map { Int($0) - 48 }
        let minutes = (digits[0] * 10 + digits[1]) * 60 + digits[2] * 10 + digits[3]
        return zone.hasPrefix("-") ? -minutes * 60 : minutes * 60
    }
}

/// Dates of others (RFC 5322 sections 3.3 and 4.3).
extension MailDateTests {
    @Test(arguments: table) func readsWhatItWrites(_ seconds: Int64, _ offset: Int, _ text: String) {
        #expect(Timestamp(mailDate: text.utf8)?.seconds == seconds)
    }

    static let read: [(String, String)] = [
        (" Fri, 21 Nov 1997 09(comment (within)):   55  :  06 -0600", "1997-11-21T15:55:06.000Z"),
        ("21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06.000Z"), ("1 Jan 49 00:00 UT", "2049-01-01T00:00:00.000Z"),
        ("1 Jan 50 00:00 Z", "1950-01-01T00:00:00.000Z"), ("1 Jan 126 00:00 EST", "2026-01-01T05:00:00.000Z"),
        ("Thu,\r\n 13\r\n\tFeb\r\n 1969 23:32 -0330 (Newfoundland \\) Time)", "1969-02-14T03:02:00.000Z"),
        ("31 dec 2016 23:59:60 +0000", "2017-01-01T00:00:00.000Z"),
        ("Mon 2 Feb 2026 1:02:03 PDT", "2026-02-02T08:02:03.000Z"),
        ("Tuesday, 3 Feb 2026 01:02:03 XYZ", "2026-02-03T01:02:03.000Z"),
        ("29 Feb 2028 00:00 +0000", "2028-02-29T00:00:00.000Z"),
    ]

    @Test(arguments: read) func readsOldForms(_ text: String, _ time: String) {
        #expect(Timestamp(mailDate: text.utf8)?.isoDate == time)
    }

    static let none = [
        "", " ", "now", "Tue, 32 Jan 2026 00:00 +0000", "29 Feb 2026 00:00 +0000", "1 Jan 2026 24:00 +0000",
        "1 Jan 2026 00:60 +0000", "1 Jan 2026 00:00:61 +0000", "1 Jan 2026 00:00 +0060", "1 Jan 2026 00:00",
        "1 Jan 2026 00:00 0000", "1 Jan 2026 +0000", "1 Foo 2026 00:00 +0000", "Jan 1 2026 00:00 +0000",
        "2026-01-01T00:00:00Z", "1 Jan 2026 00:00 +0000 1", "1 Jan 2026 00:00 (+0000", "1 Jan 2026 00:00 +0000)",
        "1 Jan 1899 00:00 +0000", "1 Jan 20261 00:00 +0000", "99999999999999999999 Jan 2026 00:00 +0000",
        "1 Jan 2026 00:00 +0000" + String(repeating: " ", count: 1000), "1 J\u{e4}n 2026 00:00 +0000",
    ]

    @Test(arguments: none) func readsNothingElse(_ text: String) { #expect(Timestamp(mailDate: text.utf8) == nil) }

    struct Vector: Decodable {
        struct Time: Decodable {
            let year, month, day, hour, minute, second, tzHour, tzMinute: Int; let tzBeforeGmt: Bool
        }
        let header: String
        let expected: Time?
    }

    /// What another parser reads, but for what it guesses.
    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func vectors() throws {
        let guessed = ["20 11 (some", " 4 8 15 16", "by 2002:", "Thu, 10 Jul 1997 14:53:31 EST5EDT"]
        for vector in try SharedFiles.vector([Vector].self, "header-fields/date.json") {
            // Folded as in a header; a line end without a blank behind it ends the field.
            let value = vector.header.replacingOccurrences(of: "\n\\S.*", with: "", options: .regularExpression)
            let time = Timestamp(mailDate: value.utf8)
            guard let expected = vector.expected, !guessed.contains(where: { value.hasPrefix($0) }) else {
                #expect(time == nil, "\(value)")
                continue
            }
            let zone = (expected.tzHour * 3600 + expected.tzMinute * 60) * (expected.tzBeforeGmt ? -1 : 1)
            let date = try #require(time, "\(value)").mailDate(offset: zone)
            let numbers = date.split { !$0.isNumber }.compactMap { Int($0) }
            #expect(
                Array(numbers.prefix(5)) == [
                    expected.day, expected.year, expected.hour, expected.minute, expected.second,
                ])
        }
    }
}
