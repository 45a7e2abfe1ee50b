// Certificates and TLSA records: OpenSSL's own cases (../shared/vectors/dane) by the rules of mail, and the rules themselves
// on certificates of ours.

import Foundation
import TestKit
import Testing

@testable import SlimtaTLS

@Suite struct DANEVerifierTests {
    /// A block of danetest.in: records, a chain, and what OpenSSL says of it.
    struct Case: Sendable, CustomTestStringConvertible {
        let number: Int
        let records: [TLSARecord]
        let chain: [[UInt8]]
        let checksNames: Bool
        let isGood: Bool
        let depth: Int

        var testDescription: String { "block \(number)" }
    }

    static let cases: [Case] = {
        guard SharedFiles.areThere, let file = try? SharedFiles.vector("dane/danetest.in") else { return [] }
        var lines = String(decoding: file, as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix("#") }[...]
        var cases: [Case] = []
        while let head = lines.popFirst() {
            let numbers = head.split(separator: " ").compactMap { Int($0) }
            guard numbers.count == 5 else { return [] }
            let records = lines.prefix(numbers[0]).map(record)
            lines = lines.dropFirst(numbers[0])
            var chain: [[UInt8]] = []
            while chain.count < numbers[1], let line = lines.popFirst() {
                guard line == "-----BEGIN CERTIFICATE-----" else { continue }
                let end = lines.firstIndex(of: "-----END CERTIFICATE-----") ?? lines.endIndex
                chain.append(Array(Data(base64Encoded: lines[..<end].joined()) ?? Data()))
                lines = lines[(end + 1)...]
            }
            cases.append(
                Case(
                    number: cases.count + 1, records: records, chain: chain, checksNames: numbers[2] == 0,
                    isGood: numbers[3] == 0 && numbers[4] >= 0, depth: numbers[4]))
        }
        return cases
    }()

    private static func record(_ line: Substring) -> TLSARecord {
        let words = line.split(separator: " ")
        let digits = Array(words.dropFirst(3).joined())
        let data = stride(from: 0, to: digits.count - 1, by: 2).map {
            UInt8(String(digits[$0...$0 + 1]), radix: 16) ?? 0
        }
        return TLSARecord(
            usage: UInt8(words[0]) ?? 255, selector: UInt8(words[1]) ?? 255, matching: UInt8(words[2]) ?? 255,
            data: data)
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there")) func nothingIsLeftOut() {
        #expect(Self.cases.count == 54)
        #expect(Self.cases.allSatisfy { !$0.chain.isEmpty && $0.chain.allSatisfy { !$0.isEmpty } })
        #expect(Self.cases.count { $0.records.allSatisfy(\.isUsable) } == 34)
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there"), arguments: cases)
    func vectors(_ one: Case) throws {
        let verdict = try DANEVerifier().verify(
            one.chain, one.records, names: ["example.com"], checksNamesOfEndEntities: one.checksNames)
        if one.records.allSatisfy(\.isUsable) {
            switch verdict {
            case .matched(let record, let depth):
                #expect(one.isGood && depth == one.depth && one.records.contains(record), "\(record) at \(depth)")
            case .refused(let why): #expect(!one.isGood, "\(why)")
            case .noUsableRecord: #expect(!one.isGood, "nothing is usable")
            }
        } else if !one.records.contains(where: \.isUsable) {
            // PKIX usages never count in mail, however well they match.
            #expect(verdict == .noUsableRecord)
        } else if case .matched(let record, _) = verdict {
            #expect(record.isUsable)
        }
    }

    // MARK: Records

    @Test func records() {
        let digest = [UInt8](repeating: 0xAB, count: 32)
        let record = TLSARecord(rdata: [3, 1, 1] + digest)
        #expect(record == TLSARecord(usage: 3, selector: 1, matching: 1, data: digest))
        #expect(record?.description == "3 1 1 " + String(repeating: "AB", count: 32))
        for short in [[], [3], [3, 1], [3, 1, 1]] as [[UInt8]] { #expect(TLSARecord(rdata: short) == nil) }
    }

    @Test func usable() {
        for usage in 0...4 as ClosedRange<UInt8> {
            for selector in 0...2 as ClosedRange<UInt8> {
                for matching in 0...3 as ClosedRange<UInt8> {
                    for count in [0, 1, 31, 32, 33, 63, 64, 65] {
                        let record = TLSARecord(
                            usage: usage, selector: selector, matching: matching,
                            data: [UInt8](repeating: 1, count: count))
                        // These octets are no certificate and no key.
                        let fits = [false, count == 32, count == 64, false][Int(matching)]
                        #expect(record.isUsable == ((2...3).contains(usage) && selector < 2 && fits), "\(record)")
                    }
                }
            }
        }
    }

    @Test func whatIsNoCertificate() throws {
        let verifier = try DANEVerifier()
        let record = TLSARecord(usage: 3, selector: 1, matching: 1, data: [UInt8](repeating: 1, count: 32))
        #expect(verifier.verify([], [record], names: ["a.example"]) != .noUsableRecord)
        #expect(verifier.verify([[0x30, 0x00]], [record], names: ["a.example"]) == .refused("not a certificate"))
        #expect(verifier.verify([], [], names: ["a.example"]) == .noUsableRecord)
        // A whole certificate that is none.
        let broken = TLSARecord(usage: 3, selector: 0, matching: 0, data: [1, 2, 3])
        #expect(verifier.verify([], [broken], names: ["a.example"]) == .noUsableRecord)
        #expect(verifier.verify([], [record], names: []) == .refused("no name that could be matched"))
    }
}
