// What the tests of this target share.

/// The octets that pairs of hexadecimal digits are.
func octets(hex: String) -> [UInt8] {
    let digits = Array(hex)
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...$0 + 1]), radix: 16)! }
}
