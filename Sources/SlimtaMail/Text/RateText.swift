// How many in a time, as people write it: "60/m". Read by SlimtaConfiguration and SlimtaControl, written into logs and tables.

/// A rate in words.
package enum RateText {
    private static let units: [(letter: UInt8, seconds: Double)] = [
        (UInt8(ascii: "s"), 1), (UInt8(ascii: "m"), 60), (UInt8(ascii: "h"), 3600), (UInt8(ascii: "d"), 86_400),
    ]

    /// What a text has to be, for messages.
    package static let form = "a rate such as \"2/s\", \"60/m\", \"500/h\" or \"10000/d\""

    /// How many in a second: a number of up to nine digits that is not 0, a slash, and s, m, h or d. nil for all else.
    package static func perSecond(_ text: String) -> Double? {
        let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.count == 2, (1...9).contains(parts[0].count), parts[0].allSatisfy(\.isASCIIDigit),
            let number = Int(Substring(parts[0])), number > 0, parts[1].count == 1,
            let unit = units.first(where: { $0.letter == parts[1].first })
        else { return nil }
        return Double(number) / unit.seconds
    }

    /// By the minute, to a tenth: "48/m", "0.8/m".
    package static func text(_ perSecond: Double) -> String {
        let tenths = (min(perSecond, 1e9) * 600).rounded()
        let isWhole = tenths.truncatingRemainder(dividingBy: 10) == 0
        return isWhole ? "\(Int(tenths / 10))/m" : "\(tenths / 10)/m"
    }
}
