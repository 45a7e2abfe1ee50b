// Records, policies and patterns of MTA-STS: other people's cases (../shared/vectors/mta-sts), and ours.

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaRelay

/// A value of JSON: the vectors have rows of different kinds.
private enum Loose: Decodable, Sendable {
    case text(String)
    case flag(Bool)
    case policy(Policy)

    struct Policy: Decodable, Sendable {
        let mode: String
        let mx: [String]
        let maxAge: Int
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let flag = try? container.decode(Bool.self) {
            self = .flag(flag)
        } else if let text = try? container.decode(String.self) {
            self = .text(text)
        } else {
            self = .policy(try container.decode(Policy.self))
        }
    }

    var text: String? { if case .text(let text) = self { text } else { nil } }
    var flag: Bool? { if case .flag(let flag) = self { flag } else { nil } }
    var policy: Policy? { if case .policy(let policy) = self { policy } else { nil } }
}

@Suite struct STSParserTests {
    private struct Vectors: Decodable {
        let txtValid: [[String]]
        let txtInvalid: [String]
        let txtStrictParsersRefuse: [String]
        let policyValid: [[Loose]]
        let policyInvalid: [String]
        let mxMatch: [[Loose]]
    }

    private func vectors() throws -> Vectors { try SharedFiles.vector(Vectors.self, "mta-sts/vectors.json") }

    private func finding(_ texts: String...) -> STSRecord.Finding {
        STSRecord.finding(among: texts.map { Array($0.utf8) })
    }

    // MARK: Records

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there")) func recordVectors() throws {
        let vectors = try vectors()
        #expect(vectors.txtValid.count == 5 && vectors.txtInvalid.count == 12)
        for row in vectors.txtValid { #expect(finding(row[0]) == .record(STSRecord(id: row[1])), "\(row)") }
        for text in vectors.txtInvalid {
            if case .record = finding(text) { Issue.record("\(text) was taken") }
        }
        // Fields that nobody knows mean nothing, however they are written.
        for text in vectors.txtStrictParsersRefuse { #expect(finding(text) == .record(STSRecord(id: "a")), "\(text)") }
    }

    @Test func oneRecordAndNoOther() {
        #expect(finding() == .absent)
        #expect(finding("v=spf1 -all", "v=STSv1") == .absent)
        #expect(finding("v=spf1 -all", "v=STSv1; id=a") == .record(STSRecord(id: "a")))
        #expect(finding("v=STSv1; id=a", "v=STSv1; id=a") == .unusable(.several(2)))
        #expect(finding("v=STSv1;") == .unusable(.noID))
        #expect(finding("v=STSv1; id=a b") == .unusable(.badID))
        #expect(finding("v=STSv1; id=a; id=b") == .record(STSRecord(id: "a")))
        #expect(finding("V=STSv1; id=a") == .absent)
        for count in [1, 32] {
            let id = String(repeating: "7", count: count)
            #expect(finding("v=STSv1; id=\(id)") == .record(STSRecord(id: id)))
        }
    }

    // MARK: Policies

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there")) func policyVectors() throws {
        let vectors = try vectors()
        #expect(vectors.policyValid.count == 6 && vectors.policyInvalid.count == 23)
        for row in vectors.policyValid {
            let text = try #require(row[0].text)
            let expected = try #require(row[1].policy)
            let policy = try STSPolicy(parsing: Array(text.utf8))
            #expect(policy.mode.rawValue == expected.mode && policy.maxAge == expected.maxAge, "\(text)")
            #expect(policy.patterns.map(\.description) == expected.mx, "\(text)")
        }
        for text in vectors.policyInvalid {
            #expect(throws: STSPolicyFault.self, "\(text)") { try STSPolicy(parsing: Array(text.utf8)) }
        }
    }

    @Test func orderAndRepetition() throws {
        let text =
            "mx: A.example\r\nmode: testing\nmax_age: 60\nmode: enforce\nversion: STSv1\n\n \nmx: *.b.example\nnew: x:y\n"
        let policy = try STSPolicy(parsing: Array(text.utf8))
        #expect(policy.mode == .testing && policy.maxAge == 60)
        #expect(policy.patterns.map(\.description) == ["a.example", "*.b.example"])
        // As a report returns them: nothing is changed but the ends.
        #expect(
            policy.lines == [
                "mx: A.example", "mode: testing", "max_age: 60", "mode: enforce", "version: STSv1", "mx: *.b.example",
                "new: x:y",
            ])
    }

    @Test(arguments: [
        ("version: STSv1\nmode: none\nmax_age: 1\ngarbage\n", STSPolicyFault.line(4)),
        ("version: STSv1\nmode: none\n", .missing("max_age")),
        ("version: stsv1\nmode: none\nmax_age: 1", .value("version")),
        ("version: STSv1\nmode: Enforce\nmax_age: 1\nmx: a.b", .value("mode")),
        ("version: STSv1\nmode: none\nmax_age: -1", .value("max_age")),
        ("version: STSv1\nmode: none\nmax_age: 1.0", .value("max_age")),
        ("version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.b\nmx: *.", .value("mx")),
        ("version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.*.b", .value("mx")),
        ("version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.b.", .value("mx")),
        ("version: STSv1\nmode: enforce\nmax_age: 1\nmx: a_b.c", .value("mx")),
    ])
    func faults(_ text: String, _ fault: STSPolicyFault) {
        #expect(throws: fault) { try STSPolicy(parsing: Array(text.utf8)) }
    }

    @Test func limits() throws {
        let text = "version: STSv1\nmode: none\nmax_age: \(STSPolicy.longestAge)\nx: "
        let padding = String(repeating: "p", count: STSPolicy.longest - text.utf8.count)
        #expect(try STSPolicy(parsing: Array("\(text)\(padding)".utf8)).maxAge == 31_557_600)
        #expect(throws: STSPolicyFault.tooLong) { try STSPolicy(parsing: Array("\(text)\(padding)p".utf8)) }
        #expect(throws: STSPolicyFault.encoding) { try STSPolicy(parsing: Array("\(text)".utf8) + [0xFF]) }
    }

    // MARK: Patterns

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there")) func patternVectors() throws {
        let rows = try vectors().mxMatch
        #expect(rows.count == 9)
        for row in rows {
            let pattern = try #require(row[0].text.flatMap { STSPattern($0) })
            #expect(pattern.matches(row[1].text ?? "") == row[2].flag, "\(row)")
        }
    }

    /// Microsoft's customers have hosts two labels below what their policies name, and Google counts them as failed.
    @Test func noLenience() throws {
        let pattern = try #require(STSPattern("*.mx.microsoft"))
        #expect(pattern.matches("tenant.mx.microsoft"))
        #expect(!pattern.matches("tenant.h-v1.mx.microsoft"))
        #expect(!pattern.matches("mx.microsoft") && !pattern.matches("") && !pattern.matches("."))
        for text in [
            "", "*", "*.", "*.*.a", "a..b", ".a", "-a.b", "a-.b", "m\u{FC}.b", "a b", "a\0b", "a/b", "[192.0.2.1]",
        ] {
            #expect(STSPattern(text) == nil, "\(text)")
        }
    }

    // MARK: Answers

    @Test func answers() throws {
        let good = Array("version: STSv1\nmode: none\nmax_age: 1\n".utf8)
        for type in ["text/plain", "Text/Plain; charset=utf-8", "text/plain;charset=utf-8", "text/plain ; x"] {
            #expect(try STSFetch.policy(status: 200, mediaType: type, body: good).mode == .none)
        }
        for type in [nil, "", "text/html", "text/plainly", "application/text"] {
            #expect(throws: STSFetch.Failure.self) { try STSFetch.policy(status: 200, mediaType: type, body: good) }
        }
        for status in [0, 199, 201, 204, 301, 302, 304, 404, 500] {
            #expect(throws: STSFetch.Failure.transport("HTTP status \(status)")) {
                try STSFetch.policy(status: status, mediaType: "text/plain", body: good)
            }
        }
        let failures: [(STSFetch.Failure, TLSResult.Kind)] = [
            (.tls("x"), .policyWebPKIInvalid), (.transport("x"), .policyFetchError),
            (.contents(.encoding), .policyInvalid),
        ]
        for (failure, kind) in failures { #expect(failure.result.kind == kind && failure.result.policy == .sts) }
    }
}
