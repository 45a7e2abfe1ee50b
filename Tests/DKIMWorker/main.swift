// Signs, verifies and canonicalises what comes on standard input, so that other people's programs can say what they think of it.
// Run by Tests/Interop/test_dkim.py; not installed. A request is a line of words, of which the last is how many octets follow:
//
//   sign DOMAIN C SELECTOR=FILE,... COUNT    the message, signed by each key of PEM files, or "refused" and why
//   verify RECORD COUNT                      what comes of each signature in a message; RECORD is base64
//   body FORM STEP COUNT                     the hash of a body that comes in parts of STEP octets, in base64
//   header FORM COUNT                        a field in canonical form
//
// An answer is a line too: a word, how many octets follow, and these.

import Glibc
import NIOCore
import SlimtaCrypto
import SlimtaDKIM
import SlimtaMail

/// Standard input, by lines and by counts.
struct Input {
    private var octets: [UInt8] = []
    private var place = 0

    private mutating func fill() -> Bool {
        var room = [UInt8](repeating: 0, count: 1 << 16)
        let count = read(STDIN_FILENO, &room, room.count)
        guard count > 0 else { return false }
        octets = Array(octets[place...]) + room[..<count]
        place = 0
        return true
    }

    mutating func line() -> [Substring]? {
        while true {
            if let end = octets[place...].firstIndex(of: UInt8(ascii: "\n")) {
                defer { place = end + 1 }
                return String(decoding: octets[place..<end], as: UTF8.self).split(separator: " ")
            }
            guard fill() else { return nil }
        }
    }

    mutating func take(_ count: Int) -> [UInt8] {
        while octets.count - place < count, fill() {}
        defer { place += count }
        return Array(octets[place..<place + count])
    }
}

func answer(_ word: String, _ octets: [UInt8]) {
    let all = Array("\(word) \(octets.count)\n".utf8) + octets
    all.withUnsafeBytes { octets in
        var rest = octets
        while !rest.isEmpty {
            let count = write(STDOUT_FILENO, rest.baseAddress, rest.count)
            guard count > 0 else { exit(EX_IOERR) }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }
}

func file(_ path: String) -> [UInt8] {
    guard let file = fopen(path, "r") else { exit(EX_NOINPUT) }
    defer { fclose(file) }
    var octets = [UInt8](repeating: 0, count: 1 << 16)
    let count = fread(&octets, 1, octets.count, file)
    return Array(octets.prefix(count))
}

/// A message as an edge would have repaired it: no blanks before colons, and an empty line where the header ends.
func repaired(_ message: [UInt8]) -> [UInt8] {
    let buffer = ByteBuffer(bytes: message)
    let header = HeaderBlock(scanning: buffer)
    var message = message
    if !header.isWellFormed { message.insert(contentsOf: "\r\n".utf8, at: header.end) }
    for blanks in DKIMHeader.blanksBeforeColons(header, in: buffer).reversed() { message.removeSubrange(blanks) }
    return message
}

func sign(_ message: [UInt8], _ domain: String, _ form: String, _ keys: String) throws -> [UInt8] {
    let message = repaired(message)
    let buffer = ByteBuffer(bytes: message)
    let block = HeaderBlock(scanning: buffer)
    let header = DKIMHeader(block, in: buffer)
    let forms = form.split(separator: "/").compactMap { Canonicalization(rawValue: String($0)) }
    let canonicalizations = Canonicalizations(header: forms[0], body: forms[1])
    let hash = BodyHash(of: ByteBuffer(bytes: message[block.end...]), canonicalizations.body)
    var fields: [UInt8] = []
    for key in keys.split(separator: ",") {
        let parts = key.split(separator: "=", maxSplits: 1).map(String.init)
        let signer = DKIMSigner(
            domain: domain, selector: parts[0], key: try DKIMSigningKey(pem: file(parts[1])),
            canonicalizations: canonicalizations, lifetime: .seconds(7 * 86400))
        let field = try signer.sign(header, hash, at: .now())
        let verdict = DKIMVerifier(header, [hash], at: .now()).verify(field, with: signer.key.publicKey)
        guard verdict == .pass(isTesting: false) else { exit(EX_SOFTWARE) }
        fields += field
    }
    return fields + message
}

func verify(_ message: [UInt8], _ record: [UInt8]) -> [String] {
    let buffer = ByteBuffer(bytes: message)
    let block = HeaderBlock(scanning: buffer)
    let header = DKIMHeader(block, in: buffer)
    let hashes = Canonicalization.allCases.map { BodyHash(of: ByteBuffer(bytes: message[block.end...]), $0) }
    return header.fields.enumerated().filter { $0.element.name == "dkim-signature" }.map { place, field in
        let verifier = DKIMVerifier(header.without(place), hashes, at: .now())
        return "\(verifier.verify(Array(field.octets.readableBytesView), with: .records([record])))"
    }
}

var input = Input()
while let words = input.line()?.map(String.init) {
    let octets = input.take(Int(words.last ?? "") ?? 0)
    switch (words[0], words.count) {
    case ("sign", 5):
        do { answer("signed", try sign(octets, words[1], words[2], words[3])) } catch {
            answer("refused", Array("\(error)".utf8))
        }
    case ("verify", 3):
        answer("verdicts", Array(verify(octets, Base64.decode(words[1].utf8) ?? []).joined(separator: "\n").utf8))
    case ("body", 4):
        guard let form = Canonicalization(rawValue: words[1]), let step = Int(words[2]) else { exit(EX_USAGE) }
        var hasher = BodyHasher(form)
        for start in stride(from: 0, to: octets.count, by: step) {
            hasher.update(ByteBuffer(bytes: octets[start..<min(octets.count, start + step)]))
        }
        answer("hash", Array(Base64.encode(hasher.finish().digest).utf8))
    case ("header", 3):
        guard let form = Canonicalization(rawValue: words[1]) else { exit(EX_USAGE) }
        answer("field", form.canonical(octets))
    default: exit(EX_USAGE)
    }
}
