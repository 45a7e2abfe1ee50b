// What a fuzzer is: octets in, a property that has to hold for whatever they are. `make fuzz` runs all of them under
// libFuzzer (Driver/main.swift), `make test` runs them over the kept inputs (Replay/FuzzTests.swift).

import NIOCore

/// One fuzzer. ``run`` must come back for any input, and throws ``Broken`` where a property does not hold.
struct FuzzTarget: Sendable {
    /// As `make fuzz ONLY=` and the folders of `corpus` and `found` name it.
    let name: String
    /// Octets of the longest input that is worth a try.
    let maximumLength: Int
    let run: @Sendable ([UInt8]) throws -> Void

    /// All there are.
    static let all: [FuzzTarget] = [
        .command, .mailbox, .reply, .address, .header, .date, .toml, .json, .dns, .records, .data, .content, .pickup,
        .users,
        .encodings,
        .client, .lmtp, .server, .journal, .http, .proxy, .rules, .policy, .message,
        .spfRecord, .spfMacro, .addressList, .submissionKey, .pipe, .pam, .spamd, .forward, .httpAnswer, .token, .keys,
        .httpEdge, .senders, .sasl, .saslClient, .preparation, .dovecot, .dkimBody, .dkimHeader, .dkimSignature,
        .dkimRecord, .dkimState, .milterReply, .milter, .mime, .sevenBit, .containment,
        .stsRecord, .stsPolicy, .stsFile, .reportRecord, .tlsMemory, .repair,
    ]
}

/// A property that does not hold, in words.
struct Broken: Error, CustomStringConvertible {
    let description: String
}

/// Throws ``Broken`` if `condition` does not hold.
func hold(_ condition: Bool, _ what: @autoclosure () -> String) throws {
    if !condition { throw Broken(description: what()) }
}

/// Throws ``Broken`` if `first` and `second`, which should be the same, are not.
func same<Value: Equatable>(_ first: Value, _ second: Value, _ what: @autoclosure () -> String) throws {
    if first != second { throw Broken(description: "\(what()): \(first) and \(second)") }
}

/// An input as a row of choices and texts. At its end it gives zeros, so that every input is a whole one.
struct Choices {
    private(set) var rest: ArraySlice<UInt8>

    init(_ octets: [UInt8]) { rest = octets[...] }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func octet() -> UInt8 { rest.popFirst() ?? 0 }

    mutating func flag() -> Bool { octet() & 1 == 1 }

    /// A number from 0 to `count` - 1, at most 256 of them.
    mutating func number(below count: Int) -> Int { Int(octet()) % count }

    mutating func one<Element>(of elements: [Element]) -> Element { elements[number(below: elements.count)] }

    mutating func integer<Number: FixedWidthInteger>(_: Number.Type = Number.self) -> Number {
        var number: Number = 0
        for _ in 0..<MemoryLayout<Number>.size { number = number << 8 | Number(truncatingIfNeeded: octet()) }
        return number
    }

    /// So many octets as the next octet says, fewer at the end.
    mutating func octets() -> [UInt8] {
        let count = Int(octet())
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
    }

    mutating func text() -> String { String(decoding: octets(), as: UTF8.self) }
}

/// Reads `octets` whole, octet by octet, and cut in several ways that depend on the octets alone: `read` must say the same
/// of all, which is returned.
func anyCut<Result: Equatable>(_ octets: [UInt8], read: ([ByteBuffer]) throws -> Result) throws -> Result {
    let whole = try read([ByteBuffer(bytes: octets)])
    if octets.count <= 1024 {
        try same(whole, read(octets.map { ByteBuffer(integer: $0) }), "whole, and octet by octet")
    }
    var hash = octets.reduce(UInt64(14_695_981_039_346_656_037)) { ($0 ^ UInt64($1)) &* 1_099_511_628_211 }
    for way in 0..<3 {
        var chunks: [ByteBuffer] = []
        var offset = 0
        let most = max(2, octets.count >> (way * 2))
        while offset < octets.count {
            hash = hash &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let end = min(octets.count, offset + 1 + Int(hash >> 33) % most)
            chunks.append(ByteBuffer(bytes: octets[offset..<end]))
            offset = end
        }
        try same(whole, read(chunks), "whole, and cut \(way)")
    }
    return whole
}
