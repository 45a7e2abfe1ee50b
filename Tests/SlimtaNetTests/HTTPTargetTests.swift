// Request targets there and back, and what is none.

import Testing

@testable import SlimtaNet

@Suite struct HTTPTargetTests {
    @Test func thereAndBack() throws {
        let query = [
            HTTPTarget.Parameter("sender", "a+b@é.example&x=1%"), .init("age", "1h-2h"), .init("content", ""),
        ]
        let target = HTTPTarget(["queue", "a/b c"], query)
        #expect(target.description.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F })
        #expect(HTTPTarget(target.description) == target)
    }

    @Test(arguments: ["", "queue", "/%", "/%4", "/%zz", "/x?a=%ff", "ftp://x/queue"])
    func refuses(_ text: String) { #expect(HTTPTarget(text) == nil) }

    /// RFC 9112 section 3.2.2: servers take the absolute form too.
    @Test func absoluteForm() { #expect(HTTPTarget("http://x/queue?a=b") == HTTPTarget(["queue"], [.init("a", "b")])) }

    @Test func plusIsASpaceInQueriesOnly() {
        #expect(HTTPTarget("/a+b?c+d=e+f") == HTTPTarget(["a+b"], [.init("c d", "e f")]))
    }
}
