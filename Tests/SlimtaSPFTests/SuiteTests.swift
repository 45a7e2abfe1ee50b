// The whole test suite of RFC 7208 (openspf.org, release 2014.04): 16 scenarios, 203 cases, none left out.

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaSPF

@Suite struct SuiteTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var scenario: String
        var name: String
        var client: String
        var helo: String
        var sender: String
        /// The first is the one that the suite prefers.
        var results: [String]
        var explanation: String?
        var zone: Zone

        var testDescription: String { "\(scenario): \(name)" }
    }

    static let cases: [Case] = {
        guard SharedFiles.areThere, let file = try? SharedFiles.vector("spf-rfc7208/rfc7208-tests.yml") else {
            return []
        }
        return SuiteReader.documents(file).flatMap { document in
            let zone = Zone(suite: document["zonedata"])
            return (document["tests"]?.pairs ?? []).map { name, test in
                Case(
                    scenario: document["description"]?.text ?? "", name: String(decoding: name, as: UTF8.self),
                    client: test["host"]?.text ?? "", helo: test["helo"]?.text ?? "",
                    sender: test["mailfrom"]?.text ?? "", results: test["result"]?.members.map(\.text) ?? [],
                    explanation: test["explanation"]?.text, zone: zone)
            }
        }
    }()

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there"), arguments: cases)
    func check(_ test: Case) throws {
        var sender: Mailbox?
        if let at = test.sender.lastIndex(of: "@") {
            sender = Mailbox(
                localPart: String(test.sender[..<at]), domain: String(test.sender[test.sender.index(after: at)...]))
        }
        let check = SPFCheck(
            client: try #require(IPAddress(test.client)), helo: test.helo, sender: sender, receiver: "receiver.example",
            time: 0, wantsExplanation: true)
        var lookups: [SPFLookup] = []
        let outcome = test.zone.run(check, lookups: &lookups)
        #expect(test.results.contains(outcome.result.rawValue), "\(outcome) after \(lookups.count) lookups")
        if let explanation = test.explanation {
            #expect(outcome.explanation == (explanation == "DEFAULT" ? nil : explanation))
        }
        // What nobody reads is not fetched, and changes nothing.
        let brief = SPFCheck(of: check.subject, wantsExplanation: false)
        #expect(test.zone.run(brief, lookups: &lookups).result == outcome.result)
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there")) func nothingIsLeftOut() {
        #expect(Self.cases.count == 203)
        #expect(Set(Self.cases.map(\.scenario)).count == 16)
        #expect(Self.cases.allSatisfy { !$0.results.isEmpty && !$0.results.contains("") && !$0.client.isEmpty })
    }
}

extension Zone {
    /// `zonedata` of a scenario.
    init(suite: SuiteNode?) {
        self.init()
        for (key, records) in suite?.pairs ?? [] {
            var name = Name()
            for record in records.members {
                guard let (type, value) = record.pairs.first else {
                    name.timesOut = record.text == "TIMEOUT"
                    continue
                }
                let joined = value.members.flatMap(\.octets)
                switch String(decoding: type, as: UTF8.self) {
                case "TXT": name.texts = (name.texts ?? []) + (value.text == "NONE" ? [] : [joined])
                case "SPF": name.policies.append(joined)
                case "A": name.addresses[.a, default: []] += IPAddress(value.text).map { [$0] } ?? []
                case "AAAA": name.addresses[.aaaa, default: []] += IPAddress(value.text).map { [$0] } ?? []
                case "MX": name.exchangers.append(value.members.last?.text ?? "")
                case "PTR": name.names.append(value.text)
                case "CNAME": name.alias = value.text
                case let other: Issue.record("a record of type \(other)")
                }
            }
            self[key] = name
        }
    }
}
