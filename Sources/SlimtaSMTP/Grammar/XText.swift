// xtext (RFC 3461 section 4): what an address is written in as the value of a parameter. Of AUTH= and ORCPT=.

internal import SlimtaMail

extension String {
    /// "+" and two hexadecimal digits are an octet; nil if it is no xtext.
    package var xtextDecoded: [UInt8]? {
        var octets: [UInt8] = []
        var rest = Array(utf8)[...]
        while let octet = rest.popFirst() {
            guard octet == UInt8(ascii: "+") else {
                octets.append(octet)
                continue
            }
            guard let high = rest.popFirst()?.hexadecimalValue, let low = rest.popFirst()?.hexadecimalValue else {
                return nil
            }
            octets.append(high << 4 | low)
        }
        return octets
    }

    /// The text as xtext.
    package var xtext: String {
        utf8.reduce(into: "") { text, octet in
            let isPlain = (33...126).contains(octet) && octet != UInt8(ascii: "+") && octet != UInt8(ascii: "=")
            let digits = String(octet, radix: 16, uppercase: true)
            text += isPlain ? String(Unicode.Scalar(octet)) : "+" + (digits.count == 1 ? "0" : "") + digits
        }
    }
}
