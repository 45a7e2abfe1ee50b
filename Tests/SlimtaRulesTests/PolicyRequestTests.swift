// Requests to policy servers: what Postfix was recorded to ask in the same sessions, and values that must not get out.

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaRules

@Suite struct PolicyRequestTests {
    // MARK: What Postfix asks

    struct Recording: Decodable, Sendable, CustomTestStringConvertible {
        struct Step: Decodable, Sendable {
            let request: [[String]]?
        }
        let name: String?
        let dialogue: [String]
        let policy: [Step]
        var testDescription: String { name ?? "?" }
    }

    static let names = [
        "client-ipv6", "client-names", "fail-close-after-request", "fail-close-once", "fail-crlf", "fail-hang",
        "fail-no-action", "fail-rubbish", "fail-two-attributes", "helo-null-sender", "odd-addresses", "plain", "reuse",
        "smtputf8", "tls12-client-certificate", "tls13-sasl", "vrfy-etrn",
    ]

    /// `delayed` is plain.json with all but RCPT left out, which is how its edge is configured; actions.json is
    /// PolicyAnswerTests'.
    @Test(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there"), arguments: names + ["delayed"])
    func recorded(_ name: String) throws {
        let recording = try SharedFiles.vector(Recording.self, "policy-delegation/\(name).json")
        var requests = recording.policy.compactMap(\.request).map { attributes in
            attributes.map { Attribute(name: $0[0], value: $0[1]) }
        }
        let facts = RecordedFacts(requests[0], last: requests[requests.count - 1])
        // States that we never ask in.
        let asked = ["VRFY", "ETRN", "XCLIENT"]
        requests.removeAll { request in asked.contains { value in request.contains { $0.value == value } } }
        // Tries of one question are one question here.
        requests = requests.reduce(into: []) { all, one in if all.last != one || name == "reuse" { all.append(one) } }
        let isDelayed = name == "delayed"
        let ours = Dialogue(recording.dialogue, facts).requests.filter {
            !isDelayed || $0.contains(Attribute(name: "protocol_state", value: "RCPT"))
        }
        try #require(ours.count == requests.count)
        for (ours, theirs) in zip(ours, requests) {
            #expect(ours.map(\.name) == theirs.map(\.name))
            for (our, their) in zip(ours, theirs) where !Self.isOurs(our.name) {
                #expect(our == their, "\(theirs[1].value)")
            }
            // Ours is another word, but there where theirs is, and the same for a message.
            #expect(ours.isEmpty(at: "instance") == theirs.isEmpty(at: "instance"))
        }
        for (a, b) in zip(ours.indices, ours.indices.dropFirst()) {
            let (our, their) = (
                ours[a].value("instance") == ours[b].value("instance"),
                requests[a].value("instance") == requests[b].value("instance")
            )
            #expect(our == their)
        }
    }

    /// What cannot be the same: `instance` is a token, the id in the queue is known later here, `policy_context` is the
    /// service's.
    private static func isOurs(_ name: String) -> Bool { ["instance", "queue_id", "policy_context"].contains(name) }

    // MARK: Values

    private static func attributes(
        at stage: Stage = .rcpt, _ change: (inout Facts, inout PolicySession) -> Void = { _, _ in }
    ) throws -> [Attribute] {
        let client = ConnectionFacts.Endpoint.ip(try #require(IPAddress("192.0.2.7")), port: 40000)
        var facts = Facts(client: client, edge: "submission", now: LocalTime(.now(), offset: 0))
        var session = PolicySession(id: 0xABC, server: client)
        change(&facts, &session)
        return try #require(PolicyRequest(facts, at: stage, in: session)).attributes.map {
            Attribute(name: $0.name, value: $0.value)
        }
    }

    @Test func onlyStagesOfTheProtocol() throws {
        let facts = Facts(client: .unix, edge: "e", now: LocalTime(.now(), offset: 0))
        for stage in Stage.allCases {
            let request = PolicyRequest(facts, at: stage, in: PolicySession(id: 1, server: .unix))
            #expect((request != nil) == PolicyRequest.stages.contains(stage))
        }
    }

    /// Nobody adds an attribute or ends the request.
    @Test func valuesAreClean() throws {
        let evil = "a\nrecipient=b\u{0}\r\nc"
        let attributes = try Self.attributes { facts, session in
            facts.ehlo = evil
            facts.login = evil
            facts.recipient = Mailbox(localPart: "\"\(evil)\"", domain: "x.example")
            facts.ptr = PTRFact(confirmed: [evil], reverse: evil)
            facts.certificate = CertificateIdentity(
                emailAddresses: [], hostNames: [], commonName: evil, fingerprint: [1, 0xAB], isVerified: true)
            (session.saslMethod, session.saslSender, session.queueID) = (evil, evil, evil)
        }
        #expect(attributes.allSatisfy { $0.value.hasNoASCIIControl })
        #expect(attributes.value("helo_name") == "a?recipient=b???c")
        #expect(attributes.value("ccert_subject") == "a+0Arecipient+3Db+00+0D+0Ac")
        #expect(attributes.value("ccert_fingerprint") == "01:AB")
        let client = ConnectionFacts.Endpoint.unknown
        let facts = Facts(client: client, edge: "e", now: LocalTime(.now(), offset: 0))
        let text = try #require(PolicyRequest(facts, at: .connect, in: PolicySession(id: 1, server: client)))
            .text(context: evil)
        #expect(text.hasSuffix("\npolicy_context=a?recipient=b???c\n\n"))
        #expect(text.split(separator: "\n", omittingEmptySubsequences: false).count == 29 + 2)
    }

    @Test(arguments: [
        ("\"two words\"@x.test", "two words@x.test"), ("\"a\\\"b\\\\c\"@x.test", "a\"b\\c@x.test"),
        ("a\\b@x.test", "a\\b@x.test"), ("\"\"@x.test", "@x.test"), ("MiXed+Ext@X.test", "MiXed+Ext@X.test"),
        ("δοκιμή@bücher.test", "δοκιμή@bücher.test"),
    ])
    func unquoted(_ text: String, _ unquoted: String) {
        let at = text.lastIndex(of: "@")!
        let mailbox = Mailbox(localPart: String(text[..<at]), domain: String(text[text.index(after: at)...]))
        #expect(mailbox.unquoted == unquoted)
    }

    @Test(arguments: [
        ("TLS_AES_256_GCM_SHA384", 256), ("TLS_AES_128_GCM_SHA256", 128), ("TLS_CHACHA20_POLY1305_SHA256", 256),
        ("ECDHE-RSA-AES256-GCM-SHA384", 256), ("ECDHE-ECDSA-AES128-SHA256", 128), ("AES128-SHA", 128),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", 256), ("ECDHE-ARIA256-GCM-SHA384", 256), ("CAMELLIA128-SHA256", 128),
        ("TLS_AES_128_CCM_8_SHA256", 128), ("ECDHE-ECDSA-AES256-CCM8", 256), ("NULL-SHA256", 0), ("unknown", 0),
        ("", 0),
    ])
    func keySize(_ cipher: String, _ bits: Int) { #expect(PolicyRequest.keySize(of: cipher) == bits) }

    @Test func aCertificateThatNobodyTrusts() throws {
        let attributes = try Self.attributes { facts, _ in
            facts.certificate = CertificateIdentity(
                emailAddresses: [], hostNames: [], commonName: "root", issuerName: "root", fingerprint: [1],
                keyFingerprint: [2], isVerified: false)
        }
        #expect(attributes.isEmpty(at: "ccert_subject") && attributes.isEmpty(at: "ccert_issuer"))
        #expect(attributes.value("ccert_fingerprint") == "01" && attributes.value("ccert_pubkey_fingerprint") == "02")
    }

    @Test func clientsWithoutAnAddress() throws {
        let local = try Self.attributes { facts, _ in facts.client = .unix }
        #expect(local.value("client_address") == "127.0.0.1" && local.value("client_name") == "localhost")
        let gone = try Self.attributes { facts, _ in facts.client = .unknown }
        #expect(gone.value("client_address") == "unknown" && gone.value("client_name") == "unknown")
        let unconfirmed = try Self.attributes { facts, _ in facts.ptr = PTRFact(reverse: "mail.example") }
        #expect(
            unconfirmed.value("client_name") == "unknown" && unconfirmed.value("reverse_client_name") == "mail.example")
    }

    @Test func eachMessageHasAnInstance() throws {
        func instance(_ id: UInt64, _ transaction: UInt64, _ stage: Stage) throws -> String {
            try Self.attributes(at: stage) { facts, session in
                session = PolicySession(id: id, server: facts.client)
                session.transaction = transaction
            }.value("instance")
        }
        #expect(try instance(1, 1, .mail).isEmpty)
        let first = try instance(0x1F, 1, .rcpt)
        #expect(try first == instance(0x1F, 1, .message) && first == instance(0x1F, 1, .data) && !first.isEmpty)
        #expect(try first != instance(0x1F, 2, .rcpt) && first != instance(0x2F, 1, .rcpt))
    }
}

/// An attribute of a request.
struct Attribute: Equatable {
    let name: String
    let value: String
}

extension [Attribute] {
    func value(_ name: String) -> String { first { $0.name == name }?.value ?? "?" }
    func isEmpty(at name: String) -> Bool { value(name).isEmpty }
}

/// What a recording's session had besides what was said in it.
private struct RecordedFacts {
    var client: [Attribute]
    var last: [Attribute]
    init(_ first: [Attribute], last: [Attribute]) {
        client = first
        self.last = last
    }
}

/// The session of a recording, played with our values.
private struct Dialogue {
    private(set) var requests: [[Attribute]] = []
    private var facts: Facts
    private var session: PolicySession
    private let recorded: RecordedFacts
    private var login: String?

    init(_ lines: [String], _ recorded: RecordedFacts) {
        self.recorded = recorded
        facts = Facts(client: .unknown, edge: "e", now: LocalTime(.now(), offset: 0))
        let server = recorded.client
        session = PolicySession(
            id: 7, server: .ip(IPAddress(server.value("server_address"))!, port: Int(server.value("server_port"))!))
        take(recorded.client)
        ask(.connect)
        for (line, reply) in Self.commands(lines) { said(line, reply) }
    }

    /// Commands, each with its last reply; in a line without "C:" something else has happened.
    private static func commands(_ lines: [String]) -> [(String, String)] {
        var commands: [(String, String)] = []
        for line in lines {
            if line.hasPrefix("S: ") {
                if !commands.isEmpty { commands[commands.count - 1].1 = String(line.dropFirst(3)) }
            } else {
                commands.append((line.hasPrefix("C: ") ? String(line.dropFirst(3)) : line, ""))
            }
        }
        return commands
    }

    private mutating func take(_ attributes: [Attribute]) {
        facts.client = .ip(IPAddress(attributes.value("client_address"))!, port: Int(attributes.value("client_port"))!)
        func name(_ key: String) -> String? { attributes.value(key) == "unknown" ? nil : attributes.value(key) }
        facts.ptr = PTRFact(confirmed: name("client_name").map { [$0] } ?? [], reverse: name("reverse_client_name"))
    }

    private mutating func ask(_ stage: Stage) {
        let request = PolicyRequest(facts, at: stage, in: session)!
        requests.append(
            request.text(context: "").split(separator: "\n").map { line in
                let parts = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                return Attribute(name: String(parts[0]), value: String(parts[1]))
            })
    }

    private mutating func said(_ line: String, _ reply: String) {
        let words = line.split(separator: " ").map(String.init)
        switch words[0] {
        case "EHLO", "HELO":
            session.isExtended = words[0] == "EHLO"
            facts.ehlo = words[1]
            ask(.ehlo)
            session.helloAccepted(isExtended: session.isExtended)
        // Postfix asks about the new client in a state that is no stage of ours, and is greeted again.
        case "XCLIENT":
            take(recorded.last)
            session = PolicySession(id: session.id, server: session.server)
        case "(TLS": begunTLS(words[1], words[2].replacing(")", with: ""))
        case "AUTH":
            facts.login = recorded.last.value("sasl_username")
            session.saslMethod = words[1]
        case "MAIL": mail(line)
        case "RCPT": recipient(line, isAccepted: reply.hasPrefix("250"))
        case "DATA":
            ask(.data)
        case "VRFY", "ETRN", "RSET", "QUIT", "STARTTLS": break
        default:
            // The message, up to the line of the dot.
            facts.size = line.utf8.count - ".".utf8.count
            ask(.message)
        }
    }

    private mutating func begunTLS(_ version: String, _ cipher: String) {
        facts.tls = TLSFacts(TLSDescription(version: version, cipher: cipher))
        facts.ehlo = nil
        guard !recorded.last.isEmpty(at: "ccert_fingerprint") else { return }
        func octets(_ key: String) -> [UInt8] {
            recorded.last.value(key).split(separator: ":").map { UInt8($0, radix: 16)! }
        }
        facts.certificate = CertificateIdentity(
            emailAddresses: [], hostNames: [], commonName: "client one@test", issuerName: "client one@test",
            fingerprint: octets("ccert_fingerprint"), keyFingerprint: octets("ccert_pubkey_fingerprint"),
            isVerified: true)
    }

    private mutating func mail(_ line: String) {
        let path = Self.path(line)
        facts.sender = Facts.Sender(Self.mailbox(path))
        facts.recipients = []
        facts.recipient = nil
        facts.size = line.firstRange(of: "SIZE=").flatMap { Int(line[$0.upperBound...].prefix { $0 != " " }) }
        session.saslSender = line.contains("AUTH=<>") ? "" : nil
        session.transaction += 1
        ask(.mail)
    }

    private mutating func recipient(_ line: String, isAccepted: Bool) {
        // Without a domain nobody is asked, by Postfix either.
        guard let mailbox = Self.mailbox(Self.path(line)) else {
            facts.recipients.append(Mailbox(localPart: "postmaster", domain: "mx.test"))
            return
        }
        facts.recipient = mailbox
        ask(.rcpt)
        if isAccepted { facts.recipients.append(mailbox) }
    }

    /// What is in angle brackets, without a source route.
    private static func path(_ line: String) -> String {
        var path = String(line[line.index(after: line.firstIndex(of: "<")!)...])
        if path.hasPrefix("@") { path = String(path[path.index(after: path.firstIndex(of: ":")!)...]) }
        return String(path[..<path.firstIndex(of: ">")!])
    }

    private static func mailbox(_ path: String) -> Mailbox? {
        guard let at = path.lastIndex(of: "@") else { return nil }
        return Mailbox(localPart: String(path[..<at]), domain: String(path[path.index(after: at)...]))
    }
}
