// Dates of other people's Date fields, as RFC 5322 sections 3.3 and 4.3 have them: whether a field says a time at all. The
// repair policy asks.

extension Timestamp {
    /// The time that the value of a Date field says; nil if it is no date-time (RFC 5322 section 3.3, with the obsolete forms
    /// of section 4.3: comments anywhere, years of two or three digits, zones with names; an unknown one counts as UTC).
    ///
    /// A day of the week that is not the date's is no fault: everybody reads over it.
    package init?(mailDate value: some Sequence<UInt8>) {
        guard var words = MailDateWords(value) else { return nil }
        words.dropDayOfWeek()
        guard let day = words.number(1...2), let month = words.month(), let year = words.year(),
            let hour = words.number(1...2), words.sign(UInt8(ascii: ":")), let minute = words.number(2...2)
        else { return nil }
        var second = 0
        if words.sign(UInt8(ascii: ":")) {
            guard let said = words.number(2...2) else { return nil }
            second = said
        }
        // A zone is owed; programs of old leave it out, and mean their own, which nobody knows.
        guard let zone = words.zone(), words.isAtEnd, (1...daysOf(month, year)).contains(day), hour < 24, minute < 60,
            second <= 60
        else {
            return nil
        }
        let minutes = Int64(daysSinceEpoch(year, month, day)) * 1440 + Int64(hour * 60 + minute - zone)
        self.init(milliseconds: (minutes * 60 + Int64(second)) * 1000)
    }
}

/// Words, numbers and signs of a date, comments and blanks (RFC 5322 section 3.2.2) taken out.
private struct MailDateWords {
    private enum Word: Equatable {
        case number(Int, digits: Int)
        /// Letters, in lower case.
        case letters(String)
        case sign(UInt8)
    }

    private var words: ArraySlice<Word> = []

    /// Longer values are no dates.
    private static let longest = 1000

    init?(_ value: some Sequence<UInt8>) {
        let octets = Array(value.prefix(Self.longest + 1))
        guard octets.count <= Self.longest else { return nil }
        var (found, offset, depth): ([Word], Int, Int) = ([], 0, 0)
        while offset < octets.count {
            let octet = octets[offset]
            if depth > 0 || octet == UInt8(ascii: "(") {
                if octet == UInt8(ascii: "(") { depth += 1 }
                if octet == UInt8(ascii: ")") { depth -= 1 }
                offset += octet == UInt8(ascii: "\\") ? 2 : 1
                continue
            }
            let (isNumber, isLetter) = (octet.isASCIIDigit, octet.isASCIIUppercase || octet.isASCIILowercase)
            if isNumber || isLetter {
                let run = octets[offset...].prefix {
                    isNumber ? $0.isASCIIDigit : $0.isASCIIUppercase || $0.isASCIILowercase
                }
                guard let word = Self.word(run, isNumber) else { return nil }
                found.append(word)
                offset = run.endIndex
                continue
            }
            switch octet {
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"), UInt8(ascii: "\n"): break
            case UInt8(ascii: ","), UInt8(ascii: ":"), UInt8(ascii: "+"), UInt8(ascii: "-"): found.append(.sign(octet))
            default: return nil
            }
            offset += 1
        }
        guard depth == 0 else { return nil }
        words = found[...]
    }

    private static func word(_ run: ArraySlice<UInt8>, _ isNumber: Bool) -> Word? {
        guard isNumber else { return .letters(String(decoding: run.map { $0.asciiLowercased() }, as: UTF8.self)) }
        guard run.count <= 5 else { return nil }
        return .number(run.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }, digits: run.count)
    }

    var isAtEnd: Bool { words.isEmpty }

    /// "Tue,"
    mutating func dropDayOfWeek() {
        guard case .letters(let name)? = words.first,
            weekdays.contains(where: { $0.asciiLowercased() == name.prefix(3) })
        else { return }
        words.removeFirst()
        _ = sign(UInt8(ascii: ","))
    }

    mutating func number(_ lengths: ClosedRange<Int>) -> Int? {
        guard case .number(let value, let digits)? = words.first, lengths.contains(digits) else { return nil }
        words.removeFirst()
        return value
    }

    mutating func sign(_ sign: UInt8) -> Bool {
        guard words.first == .sign(sign) else { return false }
        words.removeFirst()
        return true
    }

    /// 1 to 12.
    mutating func month() -> Int? {
        guard case .letters(let name)? = words.first,
            let month = months.firstIndex(where: { $0.asciiLowercased() == name })
        else { return nil }
        words.removeFirst()
        return month + 1
    }

    /// RFC 5322 section 4.3: two digits are of 1950 to 2049, three are counted from 1900.
    mutating func year() -> Int? {
        guard case .number(let value, let digits)? = words.first, (2...4).contains(digits) else { return nil }
        words.removeFirst()
        return switch digits {
        case 2: value < 50 ? 2000 + value : 1900 + value
        case 3: 1900 + value
        default: value < 1900 ? nil : value
        }
    }

    /// What the zone adds to UTC, in minutes.
    mutating func zone() -> Int? {
        if let sign = words.first, sign == .sign(UInt8(ascii: "+")) || sign == .sign(UInt8(ascii: "-")) {
            words.removeFirst()
            guard let value = number(4...4), value % 100 < 60 else { return nil }
            let minutes = value / 100 * 60 + value % 100
            return sign == .sign(UInt8(ascii: "-")) ? -minutes : minutes
        }
        guard case .letters(let name)? = words.first else { return nil }
        words.removeFirst()
        return (zones[name] ?? 0) * 60
    }
}

/// Hours that the zones of RFC 5322 section 4.3 add to UTC.
private let zones = [
    "ut": 0, "gmt": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
]
