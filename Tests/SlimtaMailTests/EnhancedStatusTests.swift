// RFC 3463 status codes against tables.

import SlimtaMail
import Testing

@Suite struct EnhancedStatusTests {
    static let good: [(String, EnhancedStatus)] = [
        ("2.0.0", .init(2, 0, 0)), ("4.3.1 text", .init(4, 3, 1)), ("5.1.1", .init(5, 1, 1)),
        ("5.7.28 Mail flood", .init(5, 7, 28)), ("5.999.999", .init(5, 999, 999)), ("4.0.10 ", .init(4, 0, 10)),
    ]

    @Test(arguments: good) func parses(_ text: String, _ status: EnhancedStatus) {
        #expect(EnhancedStatus(prefixOf: text) == status)
        #expect(text.hasPrefix(status.description))
    }

    static let bad = [
        "", " ", "5", "5.1", "5.1.", "5..1", ".1.1", "5.1.1.", "5.1.1.1", "5.1.1text", "5.1.1\ttext", " 5.1.1", "3.1.1",
        "1.0.0", "0.0.0", "6.1.1", "9.1.1", "5.1000.1", "5.1.1000", "5.1.99999999999999999999", "-5.1.1", "5,1,1",
        "5.1.x", "5.1.1;", "#5.1.1", "550 5.1.1", "5.1.1\r\n", "५.1.1", "25.1.1", "2.0,0",
        // RFC 3463 section 2: without leading zeros
        "05.1.1", "005.1.1", "5.01.1", "5.1.01", "5.00.0", "5.1.000",
    ]

    @Test(arguments: bad) func refuses(_ text: String) { #expect(EnhancedStatus(prefixOf: text) == nil) }

    @Test func prefixOfSubstring() {
        let reply = "550 5.1.1 no such user"
        #expect(EnhancedStatus(prefixOf: reply.dropFirst(4)) == .init(5, 1, 1))
    }

    @Test func anotherClass() { #expect(EnhancedStatus(4, 4, 1).with(class: 5) == .init(5, 4, 1)) }
}
