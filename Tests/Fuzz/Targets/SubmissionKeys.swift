// Idempotency-Key as clients send it, and answers as receipts keep them.

@testable import SlimtaEdge

extension FuzzTarget {
    /// A key is one to 255 visible characters, and the same between quotes; an answer that is read is written as the same.
    static let submissionKey = FuzzTarget(name: "submission-key", maximumLength: 600) { octets in
        if let key = try? IdempotencyKey(fields: [String(decoding: octets, as: UTF8.self)]) {
            try hold((1...255).contains(key.text.utf8.count), "a key of \(key.text.utf8.count) characters")
            try hold(key.text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }, "a key with \(key.text.debugDescription)")
            var quoted = "\""
            for character in key.text {
                if character == "\"" || character == "\\" { quoted += "\\" }
                quoted.append(character)
            }
            try same(try IdempotencyKey(fields: [quoted + "\""]), key, "a key between quotes")
        }
        if let answer = KeptAnswer(octets) {
            try same(KeptAnswer(answer.octets), answer, "an answer")
            try hold((200...299).contains(answer.status), "an answer of \(answer.status)")
        }
    }
}
