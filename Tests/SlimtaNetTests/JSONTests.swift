// JSON there and back, and what is not JSON.

import Testing

@testable import SlimtaNet

@Suite struct JSONTests {
    @Test func writesWhatItReads() throws {
        let value = JSON.object([
            .init("text", .string("a \"quoted\" \\ line\nend\u{7F}\u{1}é😀")),
            .init("n", .number(-9_007_199_254_740_993)),
            .init("none", .null), .init("yes", .bool(true)), .init("no", .bool(false)),
            .init("list", .array([.number(0), .array([]), .object([])])),
        ])
        #expect(try JSON(parsing: value.line.utf8) == value)
        #expect(value.line.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F })
    }

    @Test func readsEscapes() throws {
        let text = #" { "aA\/\b\f" : "😀 \u00e9" } "#
        #expect(try JSON(parsing: text.utf8) == .object([.init("aA/\u{8}\u{C}", .string("😀 é"))]))
    }

    @Test(arguments: [
        "", " ", "{", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":}", "{1:2}", "tru", "01", "1.5", "+1", "--1", "\"", "\"\\x\"",
        "\"\\ud800\"", "\"\\u12\"", "\"\u{1}\"", "1 2", "[", "9223372036854775808", "\"\\u+123\"",
    ])
    func refuses(_ text: String) {
        #expect(throws: JSONError.self) { try JSON(parsing: text.utf8) }
    }

    @Test func refusesWhatIsTooDeep() {
        #expect(throws: JSONError.self) { try JSON(parsing: String(repeating: "[", count: 100_000).utf8) }
    }

    @Test func membersAndElements() throws {
        let value = try JSON(parsing: #"{"a":[1,2],"b":"x","c":true}"#.utf8)
        #expect(value["a"].elements == [.number(1), .number(2)])
        #expect(value["b"].text == "x")
        #expect(value["c"].isTrue)
        #expect(value["missing"] == .null)
        #expect(value["b"]["deeper"] == .null)
    }
}
