// Dates of other people's Date fields, as RFC 5322 sections 3.3 and 4.3 have them: whether a field says a time at all. The
// repair policy asks.

extension Timestamp {
    /// The time that the value of a Date field says; nil if it is no date-time (RFC 5322 section 3.3, with the obsolete forms
    /// of section 4.3: comments anywhere, years of two or three digits, zones with names; an unknown one counts as UTC).
    ///
    /// A day of the week that is not the date's is no fault: everybody reads over it.
    package init?(mailDate value: some Sequence<UInt8>) {
        // Every message is asked: where the octets lie in a row, nothing is copied.
        let time = value.withContiguousStorageIfAvailable(Self.read) ?? Array(value).withUnsafeBufferPointer(Self.read)
        guard let time else { return nil }
        self = time
    }

    private static func read(_ octets: UnsafeBufferPointer<UInt8>) -> Timestamp? {
        guard octets.count <= MailDateWords.longest else { return nil }
        var words = MailDateWords(octets)
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
        return Timestamp(milliseconds: (minutes * 60 + Int64(second)) * 1000)
    }
}

/// Letters in lower case, the first eight of them as one number: names are compared without a string.
private struct Name: Hashable {
    private var octets: UInt64 = 0
    private(set) var count = 0

    init() {}

    init(_ text: String) { for octet in text.utf8 { append(octet) } }

    mutating func append(_ letter: UInt8) {
        if count < 8 { octets |= UInt64(letter.asciiLowercased()) << (8 * UInt64(count)) }
        count += 1
    }

    /// Of three letters.
    var short: Name {
        var name = self
        name.octets &= 0xFF_FFFF
        name.count = Swift.min(count, 3)
        return name
    }
}

/// Words, numbers and signs of a date, one after the other, comments and blanks (RFC 5322 section 3.2.2) taken out.
private struct MailDateWords {
    private enum Word: Equatable {
        case number(Int, digits: Int)
        case name(Name)
        case sign(UInt8)
    }

    private let octets: UnsafeBufferPointer<UInt8>
    private var offset = 0
    private var next: Word?
    private var isBroken = false

    /// Longer values are no dates.
    static let longest = 1000

    init(_ octets: UnsafeBufferPointer<UInt8>) {
        self.octets = octets
        advance()
    }

    /// On to the next word; what belongs into no date ends the words, and is remembered.
    private mutating func advance() {
        next = nil
        var depth = 0
        while offset < octets.count {
            let octet = octets[offset]
            if depth > 0 || octet == UInt8(ascii: "(") {
                if octet == UInt8(ascii: "(") { depth += 1 }
                if octet == UInt8(ascii: ")") { depth -= 1 }
                offset += octet == UInt8(ascii: "\\") ? 2 : 1
                continue
            }
            switch octet {
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"), UInt8(ascii: "\n"): offset += 1
            case UInt8(ascii: "0")...UInt8(ascii: "9"): return takeNumber()
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"): return takeName()
            case UInt8(ascii: ","), UInt8(ascii: ":"), UInt8(ascii: "+"), UInt8(ascii: "-"):
                next = .sign(octet)
                offset += 1
                return
            default:
                isBroken = true
                return
            }
        }
        if depth > 0 { isBroken = true }
    }

    private mutating func takeNumber() {
        let start = offset
        var value = 0
        while offset < octets.count, octets[offset].isASCIIDigit {
            guard offset - start < 5 else {
                isBroken = true
                return
            }
            value = value * 10 + Int(octets[offset] - UInt8(ascii: "0"))
            offset += 1
        }
        next = .number(value, digits: offset - start)
    }

    private mutating func takeName() {
        var name = Name()
        while offset < octets.count, octets[offset].isASCIILowercase || octets[offset].isASCIIUppercase {
            name.append(octets[offset])
            offset += 1
        }
        next = .name(name)
    }

    var isAtEnd: Bool { next == nil && !isBroken }

    /// "Tue,"
    mutating func dropDayOfWeek() {
        guard case .name(let name)? = next, weekdayNames.contains(name.short) else { return }
        advance()
        _ = sign(UInt8(ascii: ","))
    }

    mutating func number(_ lengths: ClosedRange<Int>) -> Int? {
        guard case .number(let value, let digits)? = next, lengths.contains(digits) else { return nil }
        advance()
        return value
    }

    mutating func sign(_ sign: UInt8) -> Bool {
        guard next == .sign(sign) else { return false }
        advance()
        return true
    }

    /// 1 to 12.
    mutating func month() -> Int? {
        guard case .name(let name)? = next, let month = monthNames.firstIndex(of: name) else { return nil }
        advance()
        return month + 1
    }

    /// RFC 5322 section 4.3: two digits are of 1950 to 2049, three are counted from 1900.
    mutating func year() -> Int? {
        guard case .number(let value, let digits)? = next, (2...4).contains(digits) else { return nil }
        advance()
        return switch digits {
        case 2: value < 50 ? 2000 + value : 1900 + value
        case 3: 1900 + value
        default: value < 1900 ? nil : value
        }
    }

    /// What the zone adds to UTC, in minutes.
    mutating func zone() -> Int? {
        switch next {
        case .sign(let sign) where sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-"):
            advance()
            guard let value = number(4...4), value % 100 < 60 else { return nil }
            let minutes = value / 100 * 60 + value % 100
            return sign == UInt8(ascii: "-") ? -minutes : minutes
        case .name(let name):
            advance()
            return (zones[name] ?? 0) * 60
        default: return nil
        }
    }
}

private let weekdayNames = weekdays.map { Name($0) }
private let monthNames = months.map { Name($0) }

/// Hours that the zones of RFC 5322 section 4.3 add to UTC.
private let zones: [Name: Int] = {
    let hours = [
        "ut": 0, "gmt": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
    ]
    return Dictionary(uniqueKeysWithValues: hours.map { (Name($0), $1) })
}()
