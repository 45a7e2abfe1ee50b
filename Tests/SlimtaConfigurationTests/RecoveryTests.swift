// Text that is not TOML: it is reported, the rest is judged all the same, and nothing is said that is not true.

import Glibc
import TestKit
import Testing

@testable import SlimtaConfiguration

@Suite struct RecoveryTests {
    @Test func twoThatAreNotTOMLAndThreeOthers() {
        let errors = mistakes(
            """
            [log]
            level = info
            target = "stdout"

            [[edge]]
            name = "in"
            type = "smtp"
            listen = ["127.0.0.1:25"]
            tls = "none
            auth = "none"

            [limits]
            errors = 0
            recipient = 5
            """)
        #expect(errors.count == 5)
        #expect(
            errors.map { $0.prefix { $0 != ";" } }.map { $0.prefix(60) } == [
                "2: not TOML: Error while parsing floating-point: expected va",
                "3: log.target: found \"stdout\"",
                "9: not TOML: the string has no end in this line",
                "13: limits.errors: found the number 0",
                "14: limits.recipient: unknown key",
            ])
    }

    /// Behind a sound edge of seven lines.
    @Test(arguments: [
        // A list without an end takes nothing else with it.
        Case(
            "[queue]\nretry = [\n  \"1m\",\nexpire = \"x\"\n[log]\nlevel = \"x\"",
            "9: not TOML: the array that begins here has no end", "11: queue.expire: found \"x\"",
            "13: log.level: found \"x\""),
        Case(
            "[dns]\nservers = [\"127.0.0.1\",\n[log]\nlevel = \"x\"",
            "9: not TOML: the array that begins here has no end", "11: log.level: found \"x\""),
        Case(
            "[dns]\nservers = [\"127.0.0.1\",\n  [[route]]\n  domains = [\"x y\"]",
            "9: not TOML: the array that begins here has no end", "11: route[0].domains[0]: found \"x y\""),
        Case(
            "[queue]\nretry = [\n  \"1m\",\n  \"2m,\n  \"3m\",\n]\nexpire = \"x\"",
            "11: not TOML: the string has no end in this line", "14: queue.expire: found \"x\""),
        Case(
            "[queue]\nretry = [\n  \"1m\",\n  \"2m\"\n  \"3m\",\n]\nexpire = \"x\"",
            "12: not TOML: Error while parsing array", "14: queue.expire: found \"x\""),
        // To the end of the file: what was there before is judged, what may be in it is not called missing.
        Case(
            "[log]\nlevel = \"x\"\n[tls]\ncertificate = \"\"\"\n/c\nkey = \"/k\"\n",
            "9: log.level: found \"x\"", "11: not TOML: the multi-line string that begins here has no end"),
        Case(
            "[log]\nlevel = '''\n[tls]\ncertificate = '/c'\n[[edge]]\n",
            "9: not TOML: the multi-line string that begins here has no end"),
        // Headers
        Case("[log\nlevel = \"x\"", "8: not TOML: Error while parsing table header", "9: log.level: found \"x\""),
        Case("[[log]\nlevel = \"x\"", "8: not TOML: Error while parsing", "8: log: found a list of tables"),
        Case("[log]]\nlevel = \"x\"", "8: not TOML: Error while parsing table header", "9: log.level: found \"x\""),
        Case("[]\nlevel = \"x\"\nlevel = 1", "8: not TOML: Error while parsing table header", "10: not TOML:"),
        Case(
            "[log]\n[limits]\n[log] # again\nlevel = \"x\"\n[dns]\ndnssec = 1",
            "10: not TOML: [log] is there already, from line 8 on: what is in it belongs there",
            "13: dns.dnssec: found the number 1"),
        Case(
            "[[edge]\nname = \"b\"\ntype = \"smtp\"\nlisten = [\"127.0.0.1:2525\"]\ntls = \"none\"\nauth = \"none\"",
            "8: not TOML: Error while parsing", "11: edge[1].listen[0]: found \"127.0.0.1:2525\", which is edge[0]"),
        // Keys
        Case(
            "[tls]\ncertificate \"/c\"\nkey = \"/k\"", "9: not TOML: Error while parsing key-value pair: expected '='"),
        Case("[tls]\n = \"/c\"\nkey = \"/k\"", "9: not TOML:"),
        Case("[tls]\ncertificate = /c\nkey = \"/k\"", "9: not TOML: Error while parsing value"),
        Case("[tls]\ncertificate = \"/c\"\nkey =\n", "10: not TOML: Error while parsing"),
        Case(
            "[log]\nlevel = \"x\"\nlevel = \"info\"", "9: log.level: found \"x\"",
            "10: not TOML: log.level is there already, in line 9"),
        Case(
            "[log]\nlevel = \"x\" target = \"y\"", "9: not TOML: Error while parsing key-value pair"),
        Case("limits = { errors = 0, # no\n}", "8: not TOML: the inline table has no end in this line"),
        Case(
            "limits = {\n  errors = 0\n\n[log]\nlevel = 1", "8: not TOML: the inline table has no end",
            "9: edge[0].errors", "12: log.level"),
        Case("[log]\nlevel = \"\\q\"", "9: not TOML: Error while parsing string"),
        // What the parser would end the process for: it has assertions for these, and aborts.
        Case("[.tls]\nkey = 1", "8: not TOML: the table's name is missing or begins with what needs quotes"),
        Case("[ \nkey = 1", "8: not TOML: the table's name is missing or begins with what needs quotes"),
        Case("[[\r\nkey = 1", "8: not TOML: the table's name is missing or begins with what needs quotes"),
        Case("[\rtls]\nkey = 1", "8: not TOML: the table's name is missing or begins with what needs quotes"),
        Case("[é]\nkey = 1", "8: not TOML: the table's name is missing or begins with what needs quotes"),
        Case("[log]\nlevel = [ } ]", "9: not TOML: a value in the list begins with what cannot begin one"),
        Case("[log]\nlevel = [\n\u{2028}]", "10: not TOML: a value in the list begins with what cannot begin one"),
        Case(
            "[log]\nlevel = 1979-05-27 7\ntarget = 1", "9: not TOML: a date is followed by what",
            "10: log.target: found"),
        Case("[log]\nlevel = [ 1979-05-27 0, 1]", "9: not TOML: a date is followed by what is no time"),
        // What it would let pass at the very end.
        Case("[log]\nlevel =", "9: not TOML: Error while parsing key-value pair: expected value"),
        Case("[log]\nlevel = [", "9: not TOML: the array that begins here has no end"),
        Case("[log]\nlevel = {", "9: not TOML: the inline table has no end in this line"),
        Case("[log", "8: not TOML: Error while parsing table header"),
        Case("[", "8: not TOML: the table's name is missing or begins with what needs quotes"),
        Case("level", "8: not TOML: Error while parsing key-value pair: expected '='"),
        // NUL, which would end the text or the value for the parser
        Case("hostname = \"a\\u0000b\"\nx = 1", "8: not TOML: an escape stands for NUL", "9: edge[0].x: unknown key"),
        Case("\"na\\U00000000me\" = 1", "8: not TOML: an escape stands for NUL"),
        Case("# \0\nx = 1", "8: not TOML: a NUL octet is in the text", "9: edge[0].x: unknown key"),
        Case("# \u{1}\nx = 1", "8: not TOML: ", "9: edge[0].x: unknown key"),
    ])
    func theRestIsJudged(_ given: Case) {
        let errors = mistakes(edge + given.text)
        #expect(errors.count == given.errors.count, "\(errors)")
        for (error, start) in zip(errors, given.errors) { #expect(error.hasPrefix(start)) }
    }

    /// What the parser's own words leave out.
    @Test(arguments: [
        // Said twice: where it is already.
        ("[log]\nlevel = \"info\"\nlevel = \"error\"", "10: not TOML: log.level is there already, in line 9"),
        (
            "[log]\n[limits]\n[log]",
            "10: not TOML: [log] is there already, from line 8 on: what is in it belongs there"
        ),
        ("[log]\n[[log]]\nlevel = \"x\"", "9: not TOML: log is there already, in line 8, and no list of tables"),
        // As web pages have it.
        ("[log]\nlevel = “info”", "; “ is no quote of TOML: write \""),
        ("[log]\nlevel = \"info”", "9: not TOML: the string has no end in this line; ” is no quote of TOML: write \""),
        ("[dns]\nservers = [„127.0.0.1”]", "; „ is no quote of TOML: write \""),
        ("[log]\nlevel\u{A0}= \"info\"", "; an invisible character U+00A0 is in the line: write a plain space"),
        ("[log]\nlevel = \"“x”\" y", "9: not TOML: Error while parsing key-value pair: expected"),
    ])
    func whatIsWrongIsNamed(_ text: String, _ told: String) {
        let errors = mistakes(edge + text)
        let text = errors.first ?? ""
        #expect(errors.count == 1 && text.contains(told), "\(errors)")
        #expect(text.contains("quote of TOML") == told.contains("quote of TOML"))
    }

    @Test func deepNestingEnds() {
        let deep = String(repeating: "[", count: 100_000)
        #expect(mistakes(edge + "x = \(deep)").count >= 1)
        #expect(mistakes(edge + "x = " + String(repeating: "{a=", count: 10_000)).count >= 1)
        #expect(mistakes(edge + String(repeating: "x = {\n", count: 200)).count >= 1)
        #expect(mistakes(edge + "x = [" + String(repeating: "{\n", count: 200)).count >= 1)
    }

    @Test func hundredsOfMistakesEnd() {
        let errors = mistakes((0..<500).map { "k\($0) = =" }.joined(separator: "\n"))
        #expect(errors.count == 64)
    }

    /// Changes the sample at random: it parses or tells at least one error, in a line that there is. Of the comments only
    /// those are made settings that are: a sentence is a mistake each, and what was changed would be lost among them.
    @Test(arguments: 0..<8 as Range<UInt64>)
    func randomMutations(seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let setting = /# (\[|[a-z_]+ = ).*/
        let lines = try readFile("etc/slimta.conf").split(separator: "\n").map {
            $0.wholeMatch(of: setting) == nil ? String($0) : String($0.dropFirst(2))
        }
        let sample = Array(lines.joined(separator: "\n").utf8)
        for _ in 0..<rounds {
            var text = sample
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let at = Int.random(in: 0..<text.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: text[at] = UInt8.random(in: 0...127, using: &random)
                case 1: text.removeSubrange(at..<min(text.count, at + Int.random(in: 1...40, using: &random)))
                case 2: text.insert(contentsOf: (fragments.randomElement(using: &random) ?? "").utf8, at: at)
                default:
                    let other = Int.random(in: 0..<text.count, using: &random)
                    text.insert(contentsOf: Array(text[other..<min(text.count, other + 60)]), at: at)
                }
            }
            parse(String(decoding: text, as: UTF8.self))
            await Task.yield()
        }
    }

    /// Short texts of what TOML is made of, in any order.
    @Test(arguments: 0..<8 as Range<UInt64>)
    func randomFragments(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<rounds * 20 {
            let count = Int.random(in: 1...12, using: &random)
            parse((0..<count).map { _ in fragments.randomElement(using: &random) ?? "" }.joined())
        }
    }

    private func parse(_ text: String) {
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).count
        do {
            _ = try Configuration.parse(text, file: "f")
        } catch {
            #expect(!error.errors.isEmpty)
            for error in error.errors {
                #expect((1...lines).contains(error.line), "\(error) of \(text.debugDescription)")
            }
            #expect(zip(error.errors, error.errors.dropFirst()).allSatisfy { $0.line <= $1.line })
        }
    }

    /// More in a long run: SLIMTAD_FUZZ_ROUNDS.
    private let rounds = getenv("SLIMTAD_FUZZ_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 10

    private let fragments = [
        "[", "]", "[[", "]]", "\"", "\"\"\"", "'", "'''", "{", "}", "=", ",", "\n", "\n", "#", "\\", ".", "\\u0000",
        "\0",
        "edge", "tls", "\r", "\r\n", "1e9", "é", "[tls]", "[[edge]]\n", "never", "-1", "9999999999999999999", "true",
        " ",
        "\t", " = ", "a", "0", "+", "-", "_", ":", "0x", "0b1", "1979-05-27", "07:32:00", "T", "Z", "inf", "nan", "e",
        "\u{2028}", "\u{85}", "\u{A0}", "\u{FEFF}", "\u{1F600}", "\u{7F}", "\u{1}", "\u{B}", "level = ", "[log]\n",
        "[1, ",
        "{ a = ", "a.b", "\\", "\\x", "\\U0010FFFF", "\\uD800", "1_000", "1__0", ".5", "5.", "x = [", "]\n",
    ]
}

@Suite struct ScannerTests {
    @Test func linesOfPaths() {
        let scanner = TOMLScanner(
            Array(
                #"""
                a = 1
                b.c = { d = [ 1, 2 ], "e f" = '''x''' } # c
                list = [ # first
                  "]", # "
                  [ "#",
                    '\' ],
                ]
                text = """
                [[no]]
                x = 1 \"""
                """"

                [[t]]
                k = 07:32:00
                [[t]]
                k = 1979-05-27 07:32:00
                [t.sub]
                k = 1
                [ "q.r" . s ]
                k = 1
                """#.utf8))
        #expect(
            scanner.lineOf == [
                "a": 1, "b": 2, "b.c": 2, "b.c.d": 2, "b.c.d[0]": 2, "b.c.d[1]": 2, "b.c.\"e f\"": 2, "list": 3,
                "list[0]": 4, "list[1]": 5, "list[1][0]": 5, "list[1][1]": 6, "text": 8, "t": 13, "t[0]": 13,
                "t[0].k": 14, "t[1]": 15, "t[1].k": 16, "t[1].sub": 17, "t[1].sub.k": 18, "\"q.r\"": 19,
                "\"q.r\".s": 19, "\"q.r\".s.k": 20,
            ])
        #expect(scanner.statements.map(\.lines.lowerBound) == [1, 2, 3, 8, 13, 14, 15, 16, 17, 18, 19, 20])
        #expect(scanner.statements.allSatisfy { $0.problem == nil && $0.poison == nil })
    }
}
