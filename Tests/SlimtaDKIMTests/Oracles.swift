// Canonical forms once more, slowly and from all octets at once, as RFC 6376 section 3.4 says it step by step: what the code that
// has to be fast is compared with. And messages for tests.

import Foundation
import NIOCore
import SlimtaCrypto
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaDKIM

enum Oracle {
    /// Sections 3.4.3 and 3.4.4.
    static func body(_ octets: [UInt8], _ canonicalization: Canonicalization) -> [UInt8] {
        var lines = split(octets)
        // What is behind the last CRLF is a line, too, if there is anything.
        if lines.last == [] { lines.removeLast() }
        if canonicalization == .relaxed { lines = lines.map { withoutBlanks(reduced($0)) } }
        while lines.last == [] { lines.removeLast() }
        if lines.isEmpty { return canonicalization == .simple ? Array("\r\n".utf8) : [] }
        return lines.flatMap { $0 + "\r\n".utf8 }
    }

    /// Section 3.4.2; of 3.4.1 there is nothing to say.
    static func header(_ field: [UInt8]) -> [UInt8] {
        let unfolded = split(field).flatMap(\.self)
        let colon = unfolded.firstIndex(of: 0x3A)!
        let name = withoutBlanks(Array(unfolded[..<colon])).map { $0.asciiLowercased() }
        var value = withoutBlanks(reduced(Array(unfolded[(colon + 1)...])))
        if value.first == 0x20 { value.removeFirst() }
        return name + [0x3A] + value + [0x0D, 0x0A]
    }

    /// Lines without their CRLF; the last has none.
    private static func split(_ octets: [UInt8]) -> [[UInt8]] {
        var lines: [[UInt8]] = [[]]
        var place = 0
        while place < octets.count {
            if octets[place] == 0x0D, place + 1 < octets.count, octets[place + 1] == 0x0A {
                lines.append([])
                place += 2
            } else {
                lines[lines.count - 1].append(octets[place])
                place += 1
            }
        }
        return lines
    }

    private static func reduced(_ line: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        for octet in line.map({ $0 == 0x09 ? 0x20 : $0 }) where octet != 0x20 || result.last != 0x20 {
            result.append(octet)
        }
        return result
    }

    private static func withoutBlanks(_ line: [UInt8]) -> [UInt8] {
        var line = line
        while line.last == 0x20 || line.last == 0x09 { line.removeLast() }
        return line
    }
}

/// Collects canonical octets.
struct Collected: OctetSink {
    var octets: [UInt8] = []

    mutating func take(_ octets: UnsafeRawBufferPointer) { self.octets += octets }

    /// What a body that comes in these parts becomes.
    static func body(_ parts: [ByteBuffer], _ canonicalization: Canonicalization) -> [UInt8] {
        var collected = Collected()
        var body = BodyCanonicalization(canonicalization)
        for part in parts { part.withUnsafeReadableBytes { body.take($0, into: &collected) } }
        body.finish(into: &collected)
        return collected.octets
    }
}

/// A message, taken apart.
struct SampleMessage {
    let octets: [UInt8]
    let header: DKIMHeader
    let body: ByteBuffer

    init(_ octets: [UInt8]) {
        self.octets = octets
        let buffer = ByteBuffer(bytes: octets)
        let block = HeaderBlock(scanning: buffer)
        header = DKIMHeader(block, in: buffer)
        body = ByteBuffer(bytes: octets[block.end...])
    }

    init(_ text: String) { self.init(Array(text.utf8)) }

    var hashes: [BodyHash] { Canonicalization.allCases.map { BodyHash(of: body, $0) } }

    /// Each signature with the header that it signed.
    var signatures: [(field: [UInt8], header: DKIMHeader)] {
        header.fields.enumerated().filter { $0.element.name == "dkim-signature" }.map { place, field in
            (Array(field.octets.readableBytesView), header.without(place))
        }
    }
}

/// Line ends as on the wire.
func withCRLF(_ octets: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    for octet in octets where octet != 0x0D {
        if octet == 0x0A { result.append(0x0D) }
        result.append(octet)
    }
    return result
}

func base64(_ text: String) -> [UInt8] { Array(Data(base64Encoded: text)!) }

func text(_ octets: some Sequence<UInt8>) -> String { String(decoding: Array(octets), as: UTF8.self) }

/// Keys for tests.
enum SampleKeys {
    /// That of sign-kat.json, RSA 2048.
    static func rsa() throws -> DKIMSigningKey {
        let der = text(try SharedFiles.vector("dkim/rsakat-key.der.b64")).filter { !$0.isWhitespace }
        let lines = stride(from: 0, to: der.count, by: 64).map { String(der.dropFirst($0).prefix(64)) + "\n" }.joined()
        // PKCS #1.
        return try DKIMSigningKey(
            pem: Array("-----BEGIN RSA PRIVATE KEY-----\n\(lines)-----END RSA PRIVATE KEY-----\n".utf8))
    }

    /// RFC 8463 appendix A.2.
    static func ed25519() throws -> DKIMSigningKey {
        try DKIMSigningKey(PrivateKey(ed25519: base64("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")))
    }

    static func of(_ algorithm: DKIMAlgorithm) throws -> DKIMSigningKey {
        algorithm == .rsaSHA256 ? try rsa() : try ed25519()
    }
}

let sharedComment: Comment = "../shared/vectors is not there"
