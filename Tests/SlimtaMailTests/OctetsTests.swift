// What an octet is, against the C library in its own locale, and where octets are, against the standard library.

import Foundation
import SlimtaMail
import Testing

@Suite struct OctetsTests {
    @Test(arguments: UInt8.min...UInt8.max) func areWhatTheCLibrarySays(_ octet: UInt8) {
        let c = CInt(octet)
        #expect(octet.isASCIIDigit == (isdigit(c) != 0))
        #expect(octet.isASCIIUppercase == (isupper(c) != 0))
        #expect(octet.isASCIILowercase == (islower(c) != 0))
        #expect(octet.isASCIILetterOrDigit == (isalnum(c) != 0))
        #expect(octet.isASCIIControl == (iscntrl(c) != 0))
        #expect(CInt(octet.asciiLowercased()) == tolower(c))
        #expect((octet.hexadecimalValue != nil) == (isxdigit(c) != 0))
    }

    @Test(arguments: UInt8.min...UInt8.max) func hexadecimalBothWays(_ octet: UInt8) {
        for uppercase in [false, true] {
            let text = String(hexadecimal: octet, digits: 2, uppercase: uppercase)
            #expect(text == String(format: uppercase ? "%02X" : "%02x", CUnsignedInt(octet)))
            let digits = [octet >> 4, octet].map { UInt8(hexadecimalDigit: $0, uppercase: uppercase) }
            #expect(digits == Array(text.utf8))
            #expect(digits.compactMap(\.hexadecimalValue) == [octet >> 4, octet & 0xF])
        }
    }

    @Test func hexadecimalIsNeverCut() {
        #expect(String(hexadecimal: 0x1F600, digits: 4) == "1f600")
        #expect(String(hexadecimal: 0, digits: 0) == "0")
    }

    @Test func areFound() {
        for count in 0...20 {
            for place in 0...count {
                var octets = [UInt8](repeating: 7, count: count)
                if place < count { octets[place] = 10 }
                octets.withUnsafeBytes { bytes in
                    for start in 0...count {
                        let expected = octets[start...].firstIndex(of: 10)
                        #expect(bytes.firstOffset(of: 10, from: start) == expected)
                        #expect(bytes.endOfLine(from: start) == expected.map { $0 + 1 } ?? count)
                        for end in start...count {
                            #expect(
                                bytes.firstOffset(of: 10, from: start, to: end)
                                    == octets[start..<end].firstIndex(of: 10))
                        }
                    }
                }
            }
        }
        #expect(UnsafeRawBufferPointer(start: nil, count: 0).firstOffset(of: 0) == nil)
    }

    @Test func texts() {
        #expect("".isASCII && "az\u{7F}".isASCII && !"a\u{80}".isASCII)
        #expect("a b\u{85}".hasNoASCIIControl && !"a\u{7F}".hasNoASCIIControl && !"\u{1F}".hasNoASCIIControl)
        #expect("AZ@[`\u{C4}".asciiLowercased() == "az@[`\u{C4}")
    }
}
