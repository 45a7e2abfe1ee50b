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

    /// All values count, wherever they are.
    @Test func valuesAreBounded() throws {
        let text = #"[1, {"a": [], "b": null}]"#
        #expect(try JSON(parsing: text.utf8, values: 5) == JSON(parsing: text.utf8))
        #expect(throws: JSONError(offset: 19, what: "too many values")) { try JSON(parsing: text.utf8, values: 4) }
    }

    @Test func readsEscapes() throws {
        let text = #" { "aA\/\b\f" : "😀 \u00e9" } "#
        #expect(try JSON(parsing: text.utf8) == .object([.init("aA/\u{8}\u{C}", .string("😀 é"))]))
    }

    @Test(arguments: [
        "", " ", "{", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":}", "{1:2}", "tru", "01", "+1", "--1", "-", "-01", "1.", ".5",
        "1.e1", "1e", "1e+", "1E-", "0x1", "1_0", "Infinity", "NaN", "- 1", "1 .5",
        "{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}", "{,}", "[,1]", "[1,,2]", "{\"a\":1,}", "\u{FEFF}1",
        "\"\\udc00\"", "\"\\ud800\\u0041\"", "'a'",
        "nul", "True", "//\n1", "\"a\tb\"", "\"", "\"\\x\"",
        "\"\\ud800\"", "\"\\u12\"", "\"\u{1}\"", "1 2", "[", "\"\\u+123\"",
    ])
    func refuses(_ text: String) {
        #expect(throws: JSONError.self) { try JSON(parsing: text.utf8) }
    }

    /// Written as it was read: nothing is lost, whatever a Double would make of it.
    @Test(arguments: [
        ("0", 0.0), ("-1", -1), ("1.5", 1.5), ("1.0", 1), ("1e3", 1000), ("1E+3", 1000), ("25e-2", 0.25), ("-0.0", 0),
        ("9223372036854775807", 0x1p63), ("9223372036854775808", 0x1p63),
        ("-9223372036854775809", -0x1p63), ("0.1000000000000000055511151231257827", 0.1),
        ("123456789012345678901234567890", 1.2345678901234568e29), ("1e400", nil), ("1e-400", 0),
    ])
    func numbers(_ text: String, _ double: Double?) throws {
        let value = try JSON(parsing: text.utf8)
        #expect(value.line == text)
        #expect(value.double == double)
        #expect((value.integer != nil) == (Int64(text) != nil))
    }

    @Test(arguments: [0.5, -1e-7, 1e300, .leastNonzeroMagnitude, 0.1 + 0.2])
    func doublesThereAndBack(_ number: Double) throws {
        let value = JSON.decimal(try #require(JSON.Decimal(number)))
        #expect(try JSON(parsing: value.line.utf8).double == number)
        #expect(JSON.Decimal(.infinity) == nil)
        #expect(JSON.Decimal(.nan) == nil)
    }

    @Test func sizeAndDepthHaveLimits() throws {
        #expect(try JSON(parsing: "[[1]]".utf8, upTo: 5, depth: 2).line == "[[1]]")
        #expect(throws: JSONError.self) { try JSON(parsing: "[[1]]".utf8, upTo: 4) }
        #expect(throws: JSONError.self) { try JSON(parsing: "[[1]]".utf8, depth: 1) }
        #expect(throws: JSONError.self) { try JSON(parsing: "{\"a\":{}}".utf8, depth: 1) }
        let deepest = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
        #expect(try JSON(parsing: deepest.utf8).line == deepest)
        #expect(throws: JSONError.self) { try JSON(parsing: "[\(deepest)]".utf8, depth: 1000) }
        #expect(throws: JSONError.self) { try JSON(parsing: [0x22, 0xC3, 0x28, 0x22]) }
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
