// What is in the content of a part, as far as it decides whether and how that is made 7-bit. Counted by ConversionPlanner
// while the content passes, some octets at a time.

internal import SlimtaMail

/// The octets of one part, counted.
struct OctetCensus {
    /// All of them.
    private(set) var total = 0
    /// Above 127.
    private(set) var eightBit = 0
    /// What quoted-printable has to encode: those, controls, and "=".
    private(set) var special = 0
    /// Whether there is a NUL, a CR without LF or a LF without CR: they cannot be in a line of SMTP.
    private(set) var isBinary = false
    /// Octets of the longest line that has ended.
    private var longestEnded = 0
    /// Octets of the line that has not.
    private var line = 0
    /// Of blanks one after another.
    private(set) var longestBlank = 0
    private var blank = 0
    private var isAfterCR = false
    private var utf8 = UTF8Check()
    private var letters = 0
    private var padding = 0
    private var isPaddedWithin = false

    /// Takes the next octets.
    mutating func take(_ octets: UnsafeRawBufferPointer) {
        total += octets.count
        for octet in octets {
            switch octet {
            case 0x0D:
                if isAfterCR { isBinary = true }
                isAfterCR = true
                utf8.take(octet)
                continue
            case 0x0A:
                if !isAfterCR { isBinary = true }
                (longestEnded, line, blank) = (max(longestEnded, line), 0, 0)
            default:
                line += isAfterCR ? 2 : 1
                if isAfterCR { isBinary = true }
                count(octet)
            }
            utf8.take(octet)
            isAfterCR = false
        }
    }

    private mutating func count(_ octet: UInt8) {
        if octet == 0x20 || octet == 0x09 {
            blank += 1
            longestBlank = max(longestBlank, blank)
            return
        }
        blank = 0
        if octet >= 0x80 {
            eightBit += 1
            special += 1
        } else if octet.isASCIIControl {
            special += 1
            if octet == 0 { isBinary = true }
        } else if octet == UInt8(ascii: "=") {
            special += 1
            padding += 1
        } else if Base64.value(of: octet) != nil {
            letters += 1
            if padding > 0 { isPaddedWithin = true }
        }
    }

    /// Octets of the longest line, without its end.
    var longestLine: Int { max(longestEnded, line) }

    /// Whether it cannot go where lines are of 7 bits (RFC 2045 section 2.7).
    var mustChange: Bool { eightBit > 0 || isAfterCR || isBinary || longestLine > HeaderContainment.longestLine }

    /// Whether bare CR, LF or NUL are in it.
    var hasBareOctets: Bool { isBinary || isAfterCR }

    /// Whether it is UTF-8.
    var isUTF8: Bool { utf8.isValid }

    /// Whether quoted-printable is the shorter one, and can carry it: it is in lines.
    var isTextLike: Bool { !hasBareOctets && special * 100 < total * 17 }

    /// Whether what is of base64's alphabet in it decodes (RFC 2045 section 6.8).
    var isBase64: Bool {
        !isPaddedWithin && padding <= 2 && (letters + padding) % 4 == 0 && (padding == 0 || letters > 0)
    }
}

/// Whether octets are UTF-8 (RFC 3629 section 4), some at a time.
struct UTF8Check {
    /// Octets that the character still wants.
    private var wanted = 0
    /// What the next octet of it may be.
    private var range: ClosedRange<UInt8> = 0x80...0xBF
    private var isBroken = false

    /// Takes the next octet.
    mutating func take(_ octet: UInt8) {
        if wanted > 0 {
            if !range.contains(octet) { isBroken = true }
            (wanted, range) = (wanted - 1, 0x80...0xBF)
            return
        }
        switch octet {
        case 0..<0x80: break
        case 0xC2...0xDF: wanted = 1
        case 0xE0: (wanted, range) = (2, 0xA0...0xBF)
        case 0xED: (wanted, range) = (2, 0x80...0x9F)
        case 0xE1...0xEF: wanted = 2
        case 0xF0: (wanted, range) = (3, 0x90...0xBF)
        case 0xF1...0xF3: wanted = 3
        case 0xF4: (wanted, range) = (3, 0x80...0x8F)
        default: isBroken = true
        }
    }

    /// Whether all that was taken is UTF-8, whole characters of it.
    var isValid: Bool { !isBroken && wanted == 0 }
}
