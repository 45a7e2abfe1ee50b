// Keys of submissions: the forms of the field, who shares one, what a fingerprint is of, and the table of those in progress.

import NIOCore
import SlimtaMail
import SlimtaQueue
import Testing

@testable import SlimtaEdge

@Suite struct IdempotencyKeyTests {
    @Test(arguments: [
        ("abc", "abc"), (" abc\t", "abc"), ("\"abc\"", "abc"), ("\"a\\\"b\\\\c\"", "a\"b\\c"), ("a\"b\\", "a\"b\\"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"), ("a,b;c", "a,b;c"),
        (String(repeating: "~", count: 255), String(repeating: "~", count: 255)),
    ])
    func isRead(_ field: String, _ text: String) throws {
        #expect(try IdempotencyKey(fields: [field])?.text == text)
    }

    @Test func thereIsNone() throws { #expect(try IdempotencyKey(fields: []) == nil) }

    @Test(arguments: [
        "", "  ", "\"\"", "\"", "\"abc", "\"abc\"x", "\"abc\";p=1", "\"a\\b\"", "\"a\\", "a b", "\"a b\"", "ü",
        "a\u{7F}",
        String(repeating: "a", count: 256), "\"\(String(repeating: "a", count: 256))\"",
    ])
    func isRefused(_ field: String) {
        #expect(throws: IdempotencyKey.Mistake.self) { try IdempotencyKey(fields: [field]) }
    }

    @Test func twoFieldsAreRefused() {
        #expect(throws: IdempotencyKey.Mistake(text: "Idempotency-Key is there 2 times")) {
            try IdempotencyKey(fields: ["a", "a"])
        }
    }

    @Test func aKeyIsTheSubmittersOwn() throws {
        let key = try #require(try IdempotencyKey(fields: ["k"]))
        let other = try #require(try IdempotencyKey(fields: ["l"]))
        let submitters: [Submitter] = [
            .login("a"), .login("b"), .localUser("a"), .client(edge: "a", network: "192.0.2.1"),
            .client(edge: "a1", network: "92.0.2.1"), .client(edge: "a", network: "192.0.2.2"),
        ]
        var digests: [Receipt.Digest] = []
        for submitter in submitters {
            digests.append(submitter.digest(key, method: "POST", path: "/"))
            digests.append(submitter.digest(key, method: "PUT", path: "/"))
            digests.append(submitter.digest(key, method: "POST", path: "/v1/messages"))
            digests.append(submitter.digest(other, method: "POST", path: "/"))
        }
        #expect(Set(digests).count == digests.count)
        #expect(Set(submitters.flatMap(\.owners)).count == 2 * submitters.count)
        #expect(submitters[0].digest(key, method: "POST", path: "/") == digests[0])
    }

    @Test func aFingerprintIsOfAllAndOfNoPieces() {
        func digest(_ fields: [String], _ content: [String]) -> Receipt.Digest {
            var digest = SubmissionDigest()
            digest.add(fields)
            for piece in content { digest.addContent(Array(piece.utf8)) }
            return digest.finish()
        }
        #expect(digest(["a", "b"], ["xy", "z"]) == digest(["a", "b"], ["x", "yz"]))
        let all = [
            digest(["a", "b"], ["xyz"]), digest(["ab"], ["xyz"]), digest(["ab", ""], ["xyz"]),
            digest(["b", "a"], ["xyz"]),
            digest(["a", "b"], ["xy"]), digest(["a", "bx"], ["yz"]), digest([], ["xyz"]),
        ]
        #expect(Set(all).count == all.count)
    }

    @Test func anAnswerIsKeptAsItIs() throws {
        let answer = KeptAnswer(
            status: 202, fields: [("X-Queue-Id", "1"), ("Content-Type", "application/json"), ("Empty", "")],
            body: Array("{\"id\": \"ü\"}".utf8))
        let octets = answer.octets
        let again = try #require(KeptAnswer(octets))
        #expect(again == answer && again.body == answer.body && again.fields.map(\.name) == answer.fields.map(\.name))
        #expect(KeptAnswer(KeptAnswer(status: 200, fields: []).octets) == KeptAnswer(status: 200, fields: []))
        // Whatever becomes of the octets: another answer or none, and never a trap.
        for bit in 0..<(octets.count * 8) {
            var changed = octets
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(KeptAnswer(changed) != answer)
        }
        for length in octets.indices { #expect(KeptAnswer(Array(octets.prefix(length))) != answer) }
    }

    @Test func aKeyInProgressIsHeld() async throws {
        let storage = AcceptingStorage()
        let keys = SubmissionKeys(storage)
        let key = Receipt.Digest(1, 2, 3, 4)
        let fingerprint = Receipt.Digest(5, 6, 7, 8)
        do {
            let opening = try await keys.open(key)
            #expect(opening.name == "first")
            #expect(try await keys.open(key).name == "in progress")
            #expect(try await keys.open(fingerprint).name == "first")
            #expect(await keys.answer(to: key, fingerprint).name == "in progress")
            withExtendedLifetime(opening) {}
        }
        do {
            // It has not been, so its key is free.
            let opening = try await keys.open(key)
            #expect(opening.name == "first")
            submit(key, fingerprint, to: storage)
            withExtendedLifetime(opening) {}
        }
        guard case .repeated(let receipt) = try await keys.open(key) else {
            Issue.record("a submission that was made is not known")
            return
        }
        #expect(keys.answer(to: receipt, fingerprint).name == "replay")
        #expect(keys.answer(to: receipt, key).name == "other")
        #expect(await keys.answer(to: key, fingerprint).name == "replay")
    }

    private func submit(_ key: Receipt.Digest, _ fingerprint: Receipt.Digest, to storage: AcceptingStorage) {
        let envelope = Envelope(
            id: QueueID(high: 1, low: 1), sender: nil, recipients: [Mailbox(localPart: "a", domain: "x.test")],
            received: .now(), client: ClientInfo(address: "", name: "", protocolWord: ""))
        let receipt = Receipt(
            key: key, owner: Submitter.login("a").owner(hasKey: true), fingerprint: fingerprint, id: envelope.id,
            answer: KeptAnswer(status: 200, fields: []).octets, expires: nil)
        storage.submit(envelope, Message(head: ByteBuffer()), terms: .init(), receipt: receipt, session: "") { _ in }
    }
}

extension SubmissionKeys.Opening {
    fileprivate var name: String {
        switch self {
        case .first: "first"
        case .repeated: "repeated"
        case .inProgress: "in progress"
        }
    }
}

extension SubmissionKeys.Repetition {
    fileprivate var name: String {
        switch self {
        case .replay: "replay"
        case .other: "other"
        case .inProgress: "in progress"
        }
    }
}
