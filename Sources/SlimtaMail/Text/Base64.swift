// Base64 (RFC 4648 section 4), for SASL on both sides, and base64url (section 5) for tokens. Strict: what another decoder
// would read otherwise is refused here. And for what others have encoded in mail: the alphabet, and what clients read.

/// Standard base64 with padding, and base64url without.
package enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let values: [UInt8] = {
        var values = [UInt8](repeating: 0xFF, count: 256)
        for (value, octet) in alphabet.enumerated() { values[Int(octet)] = UInt8(value) }
        return values
    }()

    /// What a letter of the alphabet stands for; nil if it is none.
    @inlinable package static func value(of octet: UInt8) -> UInt8? {
        switch octet {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): octet - UInt8(ascii: "A")
        case UInt8(ascii: "a")...UInt8(ascii: "z"): octet - UInt8(ascii: "a") + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): octet - UInt8(ascii: "0") + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }

    /// The letter for the lower six bits.
    package static func letter(_ bits: UInt32) -> UInt8 { alphabet[Int(bits & 0x3F)] }

    /// What the letters of the alphabet in `text` encode, whatever else is in it: for what is read as others read it.
    package static func decode(anyOf text: some Sequence<UInt8>) -> [UInt8] {
        var octets: [UInt8] = []
        var (bits, count) = (UInt32(0), 0)
        for octet in text {
            guard let value = value(of: octet) else { continue }
            (bits, count) = (bits << 6 | UInt32(value), count + 6)
            if count >= 8 {
                count -= 8
                octets.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
            }
        }
        return octets
    }

    /// The octets that `text` encodes; nil if it is not canonical base64 with padding.
    package static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        if let octets = text.withContiguousStorageIfAvailable({ decode($0) }) { return octets }
        return Array(text).withUnsafeBufferPointer { decode($0) }
    }

    /// Other modules have no code of their own for a generic function: a call for each octet would be most of the work.
    private static func decode(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        guard text.count % 4 == 0 else { return nil }
        var octets: [UInt8] = []
        octets.reserveCapacity(text.count / 4 * 3)
        var bits: UInt32 = 0
        var count = 0
        var padding = 0
        for octet in text {
            if octet == UInt8(ascii: "=") {
                padding += 1
                continue
            }
            let value = values[Int(octet)]
            guard value != 0xFF, padding == 0 else { return nil }
            bits = bits << 6 | UInt32(value)
            count += 1
            if count == 4 {
                octets.append(UInt8(truncatingIfNeeded: bits >> 16))
                octets.append(UInt8(truncatingIfNeeded: bits >> 8))
                octets.append(UInt8(truncatingIfNeeded: bits))
                (bits, count) = (0, 0)
            }
        }
        switch (count, padding) {
        case (0, 0): break
        case (2, 2):
            guard bits & 0xF == 0 else { return nil }
            octets.append(UInt8(truncatingIfNeeded: bits >> 4))
        case (3, 1):
            guard bits & 0x3 == 0 else { return nil }
            octets.append(UInt8(truncatingIfNeeded: bits >> 10))
            octets.append(UInt8(truncatingIfNeeded: bits >> 2))
        default: return nil
        }
        return octets
    }

    /// The octets that `text` encodes as base64url without padding (RFC 7515 section 2); nil if it does not, or not
    /// canonically.
    package static func decode(url text: some Collection<UInt8>) -> [UInt8]? {
        var standard = text.map { octet in
            switch octet {
            case UInt8(ascii: "-"): UInt8(ascii: "+")
            case UInt8(ascii: "_"): UInt8(ascii: "/")
            case UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="): 0 as UInt8
            default: octet
            }
        }
        standard += repeatElement(UInt8(ascii: "="), count: -standard.count & 3)
        return decode(standard)
    }

    /// The text for `octets`.
    package static func encode(_ octets: some Collection<UInt8>) -> String {
        if let text = octets.withContiguousStorageIfAvailable({ encode($0) }) { return text }
        return Array(octets).withUnsafeBufferPointer { encode($0) }
    }

    private static func encode(_ octets: UnsafeBufferPointer<UInt8>) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((octets.count + 2) / 3 * 4)
        var bits: UInt32 = 0
        var count = 0
        for octet in octets {
            bits = bits << 8 | UInt32(octet)
            count += 1
            if count == 3 {
                text.append(letter(bits >> 18))
                text.append(letter(bits >> 12))
                text.append(letter(bits >> 6))
                text.append(letter(bits))
                (bits, count) = (0, 0)
            }
        }
        if count > 0 {
            bits <<= UInt32(8 * (3 - count))
            for position in 0..<4 {
                text.append(position <= count ? letter(bits >> UInt32(18 - 6 * position)) : UInt8(ascii: "="))
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
