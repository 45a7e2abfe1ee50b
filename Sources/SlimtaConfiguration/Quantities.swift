// Durations and sizes as slimta.conf writes them, "30s" and "50MiB": read by Section, written into its messages.

extension Duration {
    /// From digits and a unit, s, m, h or d; nil if it is not that, or more than fits.
    init?(configured text: String) {
        let digits = text.utf8.dropLast()
        let unit: Int64
        switch text.utf8.last {
        case UInt8(ascii: "s"): unit = 1
        case UInt8(ascii: "m"): unit = 60
        case UInt8(ascii: "h"): unit = 3600
        case UInt8(ascii: "d"): unit = 86400
        default: return nil
        }
        guard let number = Quantity.number(digits) else { return nil }
        let (seconds, overflow) = number.multipliedReportingOverflow(by: unit)
        if overflow { return nil }
        self = .seconds(seconds)
    }

    /// The way back, with the largest unit that is exact.
    var configurationText: String {
        let seconds = components.seconds
        if seconds != 0 {
            for (unit, letter) in [(86400, "d"), (3600, "h"), (60, "m")] as [(Int64, String)]
            where seconds % unit == 0 {
                return "\(seconds / unit)\(letter)"
            }
        }
        return "\(seconds)s"
    }
}

/// Sizes in octets.
enum Size {
    private static let units: [(name: String, factor: Int64)] = [
        ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000),
    ]

    /// From digits and a unit; nil if it is not that, or more than fits.
    static func octets(_ text: String) -> Int? {
        for unit in units where text.hasSuffix(unit.name) {
            guard let number = Quantity.number(text.utf8.dropLast(unit.name.utf8.count)) else { return nil }
            let (octets, overflow) = number.multipliedReportingOverflow(by: unit.factor)
            return overflow ? nil : Int(octets)
        }
        return nil
    }

    /// The way back, with the largest binary unit that is exact.
    static func text(_ octets: Int) -> String {
        for unit in units.prefix(3) where octets != 0 && octets % Int(unit.factor) == 0 {
            return "\(octets / Int(unit.factor))\(unit.name)"
        }
        return "\(octets)"
    }
}

enum Quantity {
    /// Up to 15 digits and nothing else.
    static func number(_ digits: some Collection<UInt8>) -> Int64? {
        guard (1...15).contains(digits.count), digits.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return digits.reduce(0) { $0 * 10 + Int64($1 - 0x30) }
    }
}
