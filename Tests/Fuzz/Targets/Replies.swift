// What a server's octets become: replies.

import NIOCore
import SlimtaMail

@testable import SlimtaSMTP

extension FuzzTarget {
    /// Replies of a server that lies, and what may be shown of them.
    static let reply = FuzzTarget(name: "reply", maximumLength: 8192) { octets in
        let heard = try anyCut(octets) { chunks in
            var parser = ReplyParser()
            var heard = Heard()
            for chunk in chunks {
                parser.append(chunk)
                do throws(ReplyError) {
                    while let reply = try parser.next() { heard.replies.append(reply) }
                } catch {
                    heard.error = error
                    return heard
                }
            }
            heard.halfYes = parser.halfYes
            return heard
        }
        for reply in heard.replies + [heard.halfYes].compactMap({ $0 }) {
            try hold((200...599).contains(reply.code), "\(reply.code) is no code of a reply")
            try hold((1...ReplyParser.maximumLines).contains(reply.lines.count), "\(reply.lines.count) lines")
            for line in reply.lines {
                // What is no printable octet is one "?", which has not more octets.
                try hold(line.utf8.count <= ReplyParser.maximumLine, "a line of \(line.utf8.count) octets")
                try hold(!line.hasControls, "controls in \(line)")
            }
        }
        try hold(heard.halfYes?.isPositive ?? true, "half a yes is \(heard.halfYes.map(\.code) ?? 0)")
        for reply in heard.replies { try checkReply(reply) }
    }

    private struct Heard: Equatable {
        var replies: [Reply] = []
        var error: ReplyError?
        var halfYes: Reply?
    }
}

/// A reply that was heard, said by us, is heard as the same.
private func checkReply(_ reply: Reply) throws {
    // What was a status of another class, or another line's, is text that would now be taken for one.
    guard !reply.lines.contains(where: { EnhancedStatus(prefixOf: $0) != nil }),
        reply.lines.allSatisfy({ $0.utf8.count < 2000 })
    else { return }
    var octets = ByteBuffer()
    reply.encode(into: &octets)
    var parser = ReplyParser()
    parser.append(octets)
    try same(try parser.next(), reply, "a reply, and as it is encoded")
    try hold(!parser.hasUnread, "something is left behind a reply")
}
