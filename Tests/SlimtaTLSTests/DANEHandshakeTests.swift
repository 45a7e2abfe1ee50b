// DANE within handshakes: which records let a session come about, which names and roots count beside them, and what is said.

import Foundation
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaTLS

@Suite struct DANEHandshakeTests {
    /// The first certificate of a PEM file, in DER.
    private static func der(_ pair: Certificates.Pair) -> [UInt8] {
        let text = String(decoding: pair.certificatePEM, as: UTF8.self)
        let body = text.split(separator: "-----END CERTIFICATE-----")[0].split(separator: "\n").dropFirst().joined()
        return Array(Data(base64Encoded: body) ?? Data())
    }

    private static func record(_ usage: UInt8, _ pair: Certificates.Pair) -> TLSARecord {
        TLSARecord(usage: usage, selector: 0, matching: 0, data: der(pair))
    }

    private static let wrong = TLSARecord(
        usage: 3, selector: 1, matching: 1, data: [UInt8](repeating: 0xAB, count: 32))

    /// A handshake with the server of Fixture, whose certificate is for mx.example.com.
    private static func shake(
        _ records: [TLSARecord], base: String = "nobody.example", names: [String] = [], pkixName: String? = nil,
        trustFile: String? = nil, pair: Certificates.Pair = Fixture.trusted, newest: Version = .tls13
    ) throws -> Recorder {
        let trusted = try TLSClientContext(
            verifies: true, trustFile: trustFile ?? Fixture.authority.certificateFile)
        let client = try TLSClientContext(comparingRecordsBeside: trusted)
        newest.limit(client.context)
        let demand = DANEDemand(base: base, names: names, records: records, pkixName: pkixName)
        let pair = try Pair(
            server: Fixture.server(pair), client: client, serverName: base, verification: .dane(demand))
        try pair.run()
        if pair.client.recorder.info != nil { #expect(pair.server.recorder.info?.serverName == base) }
        return pair.client.recorder
    }

    /// DANE-EE: that key, whatever its names, dates and issuers.
    @Test(arguments: Version.allCases) func endEntity(_ newest: Version) throws {
        let good = try Self.shake([Self.wrong, Self.record(3, Fixture.trusted)], newest: newest)
        #expect(good.error == nil && good.info?.isPeerVerified == true)
        #expect(good.info?.session.proof?.hasPrefix("TLSA 3 0 0 ") == true, "\(good.info?.session.proof ?? "nil")")
        let past = try Fixture.certificates.issued("mx.example.com", by: Fixture.authority, days: -1)
        #expect(try Self.shake([Self.record(3, past)], pair: past, newest: newest).info != nil)

        for records in [[Self.wrong], [Self.record(3, Fixture.selfSigned)], []] {
            let bad = try Self.shake(records, newest: newest)
            #expect(bad.info == nil && bad.error?.code == .verification && bad.error?.fault == .noMatch)
        }
    }

    /// DANE-TA: what it has issued, for one of the names.
    @Test(arguments: Version.allCases) func trustAnchor(_ newest: Version) throws {
        let records = [Self.record(2, Fixture.authority)]
        #expect(try Self.shake(records, base: "mx.example.com", newest: newest).info != nil)
        #expect(try Self.shake(records, names: ["example.net", "mx.example.com"], newest: newest).info != nil)
        let other = try Self.shake(records, names: ["other.example.com"], newest: newest)
        #expect(other.info == nil && other.error?.fault == .name)
        let stranger = try Fixture.certificates.authority()
        #expect(try Self.shake([Self.record(2, stranger)], base: "mx.example.com", newest: newest).info == nil)
        let past = try Fixture.certificates.issued("mx.example.com", by: Fixture.authority, days: -1)
        #expect(try Self.shake(records, base: "mx.example.com", pair: past, newest: newest).error?.fault == .date)
    }

    /// Both: the records, and a name and a root.
    @Test(arguments: Version.allCases) func beside(_ newest: Version) throws {
        let records = [Self.record(3, Fixture.trusted)]
        let both = try Self.shake(records, pkixName: "mx.example.com", newest: newest)
        #expect(both.info?.session.proof?.hasSuffix(", PKIX") == true, "\(both.error?.message ?? "")")
        #expect(try Self.shake(records, pkixName: "other.example.com", newest: newest).error?.fault == .name)
        #expect(
            try Self.shake([Self.wrong], pkixName: "mx.example.com", newest: newest).error?.fault == .noMatch)
        let stranger = try Fixture.certificates.authority()
        let untrusted = try Self.shake(
            records, pkixName: "mx.example.com", trustFile: stranger.certificateFile, newest: newest)
        #expect(untrusted.info == nil && untrusted.error?.fault == .chain)
    }

    /// Without DANE: one name of several, and never the subject's.
    @Test func names() throws {
        let trusting = try TLSClientContext(verifies: true, trustFile: Fixture.authority.certificateFile)
        func shake(_ verification: TLSVerification) throws -> Recorder {
            let pair = try Pair(server: Fixture.server(), client: trusting, verification: verification)
            try pair.run()
            return pair.client.recorder
        }
        let one = try shake(.system(host: "other.example.com", others: ["mx.example.com"]))
        #expect(one.info?.session.proof == "PKIX")
        let none = try shake(.system(host: "other.example.com", others: ["another.example.com"]))
        #expect(none.error?.code == .verification && none.error?.fault == .name)
        #expect(try shake(.system(host: "192.0.2.1")).info != nil)
    }
}
