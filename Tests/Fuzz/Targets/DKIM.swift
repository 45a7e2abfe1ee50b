// Signatures of mail: bodies and fields in canonical form, against the same computed slowly and at once; signatures, key records
// and kept states as anybody may write them.

import NIOCore
import SlimtaMail

@testable import SlimtaDKIM

extension FuzzTarget {
    /// Nobody's body has two canonical forms, however it comes in; it is RFC 6376 section 3.4's.
    static let dkimBody = FuzzTarget(name: "dkim-body", maximumLength: 2000) { octets in
        for form in Canonicalization.allCases {
            let canonical = try anyCut(octets) { parts in
                var sink = CanonicalOctets()
                var body = BodyCanonicalization(form)
                for part in parts { part.withUnsafeReadableBytes { body.take($0, into: &sink) } }
                body.finish(into: &sink)
                return sink.octets
            }
            try same(canonical, slowBody(octets, form), "\(form) body")
            // Once made, it stays.
            try same(slowBody(canonical, form), canonical, "\(form) body, made again")
        }
    }

    /// The relaxed form of a field is one line, and its own relaxed form; a message that is signed verifies, and with another
    /// body it does not.
    static let dkimHeader = FuzzTarget(name: "dkim-header", maximumLength: 2000) { octets in
        let buffer = ByteBuffer(bytes: octets)
        let block = HeaderBlock(scanning: buffer)
        let header = DKIMHeader(block, in: buffer)
        for field in header.fields {
            let field = Array(field.octets.readableBytesView)
            let relaxed = Canonicalization.relaxed.canonical(field)
            try same(relaxed, slowField(field), "relaxed field")
            try same(Canonicalization.relaxed.canonical(relaxed), relaxed, "relaxed field, made again")
        }
        let hash = BodyHash(of: ByteBuffer(bytes: octets[block.end...]), .relaxed)
        let signer = DKIMSigner(domain: "example.com", selector: "s", key: fuzzKey, lifetime: nil)
        guard let field = try? signer.sign(header, hash, at: Timestamp(milliseconds: 1_800_000_000_000)) else {
            return try hold(
                !header.isWellFormed || header.fields.count { $0.name == "from" } != 1, "a message is not signed")
        }
        let lines = field.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        try hold(lines.allSatisfy { $0.count <= 79 }, "a long line")
        let verifier = DKIMVerifier(header, [hash], at: Timestamp(milliseconds: 0))
        try same(verifier.verify(field, with: fuzzKey.publicKey), .pass(isTesting: false), "signed, verified")
        var other = header
        other.prepend(ByteBuffer(string: "To: somebody@else.example\r\n"))
        try same(
            DKIMVerifier(other, [hash], at: Timestamp(milliseconds: 0)).verify(field, with: fuzzKey.publicKey),
            .fail(.signature), "with another To")
    }

    /// What can be read can be written, and says the same.
    static let dkimSignature = FuzzTarget(name: "dkim-signature", maximumLength: 2000) { octets in
        guard let signature = try? DKIMSignature(parsing: octets) else { return }
        try hold(signature.names.contains("from") && signature.bodyHash.count == 32, "\(signature)")
        var expected = signature
        (expected.identityDomain, expected.bodyLength) = (nil, nil)
        try same(try? DKIMSignature(parsing: signature.field), expected, "written and read again")
        guard let tags = try? DKIMSignature.tags(of: octets) else { return }
        let without = Array("a:".utf8) + tags.octets(without: "b")
        try same(
            (try? DKIMSignature.tags(of: without))?.text("b"), "",
            "b= taken out of \(String(decoding: without, as: UTF8.self))")
    }

    /// A record that is right for a key has that key and no other.
    static let dkimRecord = FuzzTarget(name: "dkim-record", maximumLength: 1000) { octets in
        let records = octets.split(separator: 0, omittingEmptySubsequences: false).map(Array.init)
        let answer = DKIMKeyAnswer.records(records)
        let verdict = answer.judged(for: fuzzKey.publicKey)
        try hold("\(verdict)".utf8.allSatisfy { (32...126).contains($0) }, "\(verdict) cannot be logged")
        guard let record = try? DKIMKeyRecord(parsing: octets) else { return }
        guard case .right(let isTesting) = verdict else {
            return try hold(
                record.key != fuzzKey.publicKey.octets || record.algorithm != .ed25519SHA256,
                "\(verdict) of our own key")
        }
        let text = String(decoding: octets, as: UTF8.self).filter { !$0.isWhitespace }
        try hold(text.contains(Base64Text(encoding: fuzzKey.publicKey.octets).text), "our key is not in it")
        try same(isTesting, record.isTesting, "t=y")
    }

    /// States that were read are kept as they are, and any life goes on from there.
    static let dkimState = FuzzTarget(name: "dkim-state", maximumLength: 1000) { octets in
        var table = SelectorTable(SelectorTimes(signatures: .seconds(7 * 86400)))
        _ = table.read(String(decoding: octets, as: UTF8.self))
        var again = SelectorTable(table.times)
        try hold(again.read(table.text), "what was written cannot be read: \(table.text)")
        try same(again.text, table.text, "written and read again")
        let now = Timestamp(milliseconds: 1_800_000_000_000)
        for (place, name) in table.states.keys.sorted().enumerated() {
            let verdicts: [DKIMRecordVerdict] = [.right(isTesting: false), .absent, .unknown("x"), .several(2)]
            let event = SelectorState.Event.answered(verdicts[place % 4], ttl: .seconds(60), negativeTTL: .seconds(60))
            _ = table.take(event, of: name, at: now)
            guard let next = table.states[name]?.nextQuestion else { continue }
            try hold(next > now && next <= now + .seconds(3600), "\(name) is asked for again at \(next)")
        }
        for domain in Set(table.states.keys.map(\.domain)) {
            for algorithm in DKIMAlgorithm.allCases {
                let active = table.states.values.filter {
                    $0.phase == .active && $0.name.domain == domain && $0.name.algorithm == algorithm
                }
                let before = again.states.values.count {
                    $0.phase == .active && $0.name.domain == domain && $0.name.algorithm == algorithm
                }
                try hold(active.count <= max(1, before), "\(active.count) active keys where \(before) were")
            }
            for gate in SelectorTable.Gate.allCases {
                guard case .sign(let names) = table.choice(for: domain, gate) else { continue }
                try hold(!names.isEmpty && Set(names.map(\.algorithm)).count == names.count, "\(names) sign")
            }
        }
        _ = table.clock(now + .seconds(100 * 86400))
        try hold(!table.states.values.contains { $0.phase == .retiring }, "a key retires for ever")
    }
}

/// RFC 8463 appendix A.2.
private let fuzzKey: DKIMSigningKey = {
    let pem = """
        -----BEGIN PRIVATE KEY-----
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
        -----END PRIVATE KEY-----

        """
    guard let key = try? DKIMSigningKey(pem: Array(pem.utf8)) else { preconditionFailure("a key") }
    return key
}()

private struct CanonicalOctets: OctetSink {
    var octets: [UInt8] = []

    mutating func take(_ octets: UnsafeRawBufferPointer) { self.octets += octets }
}

/// Lines without their CRLF; what is behind the last one, too.
private func lines(_ octets: [UInt8]) -> [[UInt8]] {
    var lines: [[UInt8]] = [[]]
    for octet in octets {
        if octet == 0x0A, lines[lines.count - 1].last == 0x0D {
            lines[lines.count - 1].removeLast()
            lines.append([])
        } else {
            lines[lines.count - 1].append(octet)
        }
    }
    return lines
}

/// Words with one blank between them, one in front if there was any, none at the end.
private func reduced(_ line: [UInt8]) -> [UInt8] {
    let words = line.split { $0 == 0x20 || $0 == 0x09 }
    let start: [UInt8] = line.first.map { $0 == 0x20 || $0 == 0x09 } == true && !words.isEmpty ? [0x20] : []
    return start + Array(words.joined(separator: [0x20]))
}

private func slowBody(_ octets: [UInt8], _ form: Canonicalization) -> [UInt8] {
    var lines = lines(octets)
    if form == .relaxed { lines = lines.map(reduced) }
    while lines.last?.isEmpty == true { lines.removeLast() }
    if lines.isEmpty { return form == .simple ? [0x0D, 0x0A] : [] }
    return lines.flatMap { $0 + [0x0D, 0x0A] }
}

private func slowField(_ field: [UInt8]) -> [UInt8] {
    let unfolded = Array(lines(field).joined())
    let colon = unfolded.firstIndex(of: 0x3A) ?? unfolded.endIndex
    let names = unfolded[..<colon].split { $0 == 0x20 || $0 == 0x09 }
    let name = (names.first.map(Array.init) ?? []).map { $0.asciiLowercased() }
    let words = unfolded[(colon + 1)...].split { $0 == 0x20 || $0 == 0x09 }
    return name + [0x3A] + Array(words.joined(separator: [0x20])) + [0x0D, 0x0A]
}
