// The fields of a header, as rules about it see them.

import NIOCore
import Testing

@testable import SlimtaRules

struct HeaderFactsTests {
    /// A condition is met by what is written and by what it says.
    @Test func valuesOfAHeader() {
        let head = ByteBuffer(
            string: "Subject: =?utf-8?q?=C3=BCbel?=\r\n =?utf-8?q?_x?=\r\nX-A: plain\r\nSubject: second\r\n\r\n")
        let facts = HeaderFacts(of: head)
        #expect(
            facts.values(of: "subject") == ["=?utf-8?q?=C3=BCbel?= =?utf-8?q?_x?=", "\u{FC}bel x", "second"])
        #expect(facts.values(of: "X-A") == ["plain"])
    }
}
