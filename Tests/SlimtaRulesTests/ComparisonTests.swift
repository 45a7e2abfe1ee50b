// Numbers and times of a rule, as they are written.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct ComparisonTests {
    @Test(arguments: [
        ("> 100", 101, true), (">100", 100, false), (">= 100", 100, true), ("< 3", 2, true), ("<= 3", 4, false),
        ("= 0", 0, true), ("= 0", 1, false), (">   7", 8, true),
    ])
    func numbers(_ text: String, _ value: Int, _ expected: Bool) throws {
        #expect(try Comparison(text, number: { Int($0) }).holds(value) == expected)
    }

    @Test(arguments: ["", "100", "=> 3", "> ", "> -1", "> 3x", "!= 3", "== 3"])
    func noNumber(_ text: String) {
        #expect(
            throws: RuleError("\"\(text)\"", "a comparison such as \"> 100\", with <, <=, =, >= or >")
        ) { try Comparison(text, number: { Int($0) }) }
    }

    @Test(arguments: [
        ("login > 100/hour", RateSubject.login, RateWindow.hour), ("client >=5/minute", .client, .minute),
        ("login = 3/day", .login, .day),
    ])
    func rates(_ text: String, _ subject: RateSubject, _ window: RateWindow) throws {
        let rate = try RateCondition(text)
        #expect(rate.key == RateFacts.Key(subject, window))
        #expect(try RateCondition(rate.description) == rate)
    }

    @Test(arguments: [
        "", "login", "login > 3", "user > 3/hour", "login > 3/week", "login > x/hour", "login 3/hour",
        "login > 3/hour/day",
    ])
    func noRate(_ text: String) { #expect(throws: RuleError.self) { try RateCondition(text) } }

    @Test(arguments: [
        ("08:00-18:00", 480, true), ("08:00-18:00", 479, false), ("08:00-18:00", 1079, true),
        ("08:00-18:00", 1080, false),
        ("22:00-06:00", 1439, true), ("22:00-06:00", 0, true), ("22:00-06:00", 360, false),
        ("22:00-06:00", 1319, false),
        ("00:00-24:00", 1439, true), ("00:00-24:00", 0, true), ("23:59-00:00", 1439, true), ("23:59-00:00", 0, false),
    ])
    func hours(_ text: String, _ minute: Int, _ expected: Bool) throws {
        let hours = try Hours(text)
        #expect(hours.contains(LocalTime(.mon, minute: minute)) == expected)
        #expect(hours.description == text)
    }

    @Test(arguments: [
        "", "8-18", "08:00", "08:00-08:00", "24:00-25:00", "24:00-08:00", "08:60-09:00", "+8:00-18:00",
        "08:00-18:00-19:00",
    ])
    func noHours(_ text: String) { #expect(throws: RuleError.self) { try Hours(text) } }

    @Test(arguments: [
        ("mon", "mon"), ("mon-fri", "mon tue wed thu fri"), ("sat-mon", "mon sat sun"), ("Sun", "sun"),
        ("wed-wed", "wed"),
        ("tue-mon", "mon tue wed thu fri sat sun"),
    ])
    func weekdays(_ text: String, _ expected: String) throws {
        let days = try LocalTime.Weekday.days(text)
        #expect(LocalTime.Weekday.allCases.filter(days.contains).map(\.rawValue).joined(separator: " ") == expected)
    }

    @Test(arguments: ["", "monday", "mon-", "-", "mon-tue-wed", "1"])
    func noWeekdays(_ text: String) { #expect(throws: RuleError.self) { try LocalTime.Weekday.days(text) } }

    /// Against the calendar: 29 February 2024 was a Thursday.
    @Test(arguments: [
        (0, 0, LocalTime.Weekday.thu, 0), (1_709_164_800, 0, .thu, 0), (1_709_164_799, 0, .wed, 1439),
        (1_709_164_800, 7200, .thu, 120), (1_709_164_800, -5400, .wed, 1350), (-1, 0, .wed, 1439),
        (-86400 * 7, 0, .thu, 0),
    ])
    func localTime(_ seconds: Int64, _ offset: Int, _ day: LocalTime.Weekday, _ minute: Int) {
        #expect(LocalTime(Timestamp(milliseconds: seconds * 1000), offset: offset) == LocalTime(day, minute: minute))
    }
}
