// Times and durations, up to the ends of what they can be.

import SlimtaMail
import Testing

@Suite struct TimestampTests {
    static let seconds: [(Int64, Int64)] = [
        (0, 0), (1, 0), (999, 0), (1000, 1), (-1, -1), (-999, -1), (-1000, -1), (-1001, -2),
        (.max, 9_223_372_036_854_775), (.min, -9_223_372_036_854_776),
    ]

    @Test(arguments: seconds) func areRoundedDown(_ milliseconds: Int64, _ seconds: Int64) {
        #expect(Timestamp(milliseconds: milliseconds).seconds == seconds)
    }

    static let sums: [(Int64, Duration, Int64)] = [
        (0, .seconds(1), 1000), (1000, .seconds(-1), 0), (5, .zero, 5), (0, .microseconds(999), 0),
        (.max, .milliseconds(1), .max), (.max - 1, .milliseconds(1), .max), (.max - 1, .seconds(9), .max),
        (.min, .milliseconds(-1), .min), (.min + 1, .seconds(-9), .min), (0, .seconds(Int64.max), .max),
        (0, .seconds(Int64.min), .min), (-1, .seconds(Int64.max), .max - 1), (.max, .seconds(Int64.min), -1),
    ]

    @Test(arguments: sums) func additionStopsAtTheEnds(_ start: Int64, _ duration: Duration, _ sum: Int64) {
        #expect((Timestamp(milliseconds: start) + duration).milliseconds == sum)
    }

    static let differences: [(Int64, Int64, Int64)] = [
        (0, 0, 0), (5, 3, 2), (3, 5, -2), (.max, 0, .max), (.max, -1, .max), (.max, .min, .max), (.min, .max, .min),
        (.min, 1, .min), (0, .max, -.max),
    ]

    @Test(arguments: differences) func subtractionStopsAtTheEnds(_ a: Int64, _ b: Int64, _ difference: Int64) {
        #expect((Timestamp(milliseconds: a) - Timestamp(milliseconds: b)).milliseconds == difference)
    }

    static let durations: [(Duration, Int64)] = [
        (.zero, 0), (.seconds(3), 3000), (.milliseconds(1500), 1500), (.microseconds(1999), 1),
        (.microseconds(-1999), -1), (.nanoseconds(-1), 0), (.seconds(Int64.max), .max), (.seconds(Int64.min), .min),
        (.milliseconds(Int64.max), .max), (.milliseconds(Int64.min), .min),
        (.milliseconds(Int64.max) + .milliseconds(1), .max), (.milliseconds(Int64.min) - .milliseconds(1), .min),
    ]

    @Test(arguments: durations) func wholeMilliseconds(_ duration: Duration, _ milliseconds: Int64) {
        #expect(duration.milliseconds == milliseconds)
    }

    @Test func order() {
        #expect(Timestamp(milliseconds: .min) < Timestamp(milliseconds: -1))
        #expect(Timestamp(milliseconds: -1) < Timestamp(milliseconds: 0))
        #expect(Timestamp.now() > Timestamp(milliseconds: 1_700_000_000_000))
    }
}
