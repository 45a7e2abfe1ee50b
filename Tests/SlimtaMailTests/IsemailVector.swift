// Dominic Sayers' test addresses (isemail 3.05), which both grammars of addresses are held against.

import Foundation
import TestKit

/// A case of isemail's tests.xml.
struct IsemailVector {
    let address: String
    /// How far it is an address at all: ISEMAIL_VALID_CATEGORY to ISEMAIL_ERR.
    let category: String
    let diagnosis: String

    /// All 164.
    static func all() throws -> [IsemailVector] {
        try String(decoding: SharedFiles.vector("isemail/tests.xml"), as: UTF8.self)
            .components(separatedBy: "<test id=").dropFirst().map { test in
                IsemailVector(
                    address: decode(element("address", of: test)), category: element("category", of: test),
                    diagnosis: element("diagnosis", of: test))
            }
    }

    private static func element(_ name: String, of test: String) -> String {
        guard let start = test.range(of: "<\(name)>"), let end = test.range(of: "</\(name)>") else { return "" }
        return String(test[start.upperBound..<end.lowerBound])
    }

    /// Undoes XML's references; the vectors write the control character n as U+2400+n.
    private static func decode(_ text: String) -> String {
        var decoded = text
        while let start = decoded.range(of: "&#x"), let end = decoded.range(of: ";"),
            let value = UInt32(decoded[start.upperBound..<end.lowerBound], radix: 16),
            let scalar = Unicode.Scalar(value)
        {
            decoded.replaceSubrange(start.lowerBound..<end.upperBound, with: String(scalar))
        }
        decoded = decoded.replacingOccurrences(of: "&amp;", with: "&")
        return String(
            String.UnicodeScalarView(
                decoded.unicodeScalars.map { scalar in
                    (0x2400...0x2420).contains(scalar.value) ? Unicode.Scalar(UInt8(scalar.value - 0x2400)) : scalar
                }))
    }
}
