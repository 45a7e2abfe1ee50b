// From and Sender of what a login sends: headers as anybody can write them.

import NIOCore
import SlimtaMail

extension FuzzTarget {
    /// What is let through is let through again, with nothing more to change, and names nobody else. The first octet is the
    /// settings.
    static let senders = FuzzTarget(name: "senders", maximumLength: 600) { octets in
        let settings = octets.first ?? 0
        var rules = SenderRules()
        rules.checksFrom = settings & 1 == 0
        rules.addsSender = settings & 2 == 0 || !rules.checksFrom
        rules.allowsResent = settings & 4 != 0
        if settings & 8 != 0 { rules.matching.separators = "+" }
        let rights = SenderRights(["alice@x.test", "@own.test", "@.below.test"])
        guard let senders = rules.header(of: "alice", rights) else { return }
        let message = Array(octets.dropFirst())
        // As the check of the header leaves it, which comes before.
        guard HeaderBlock(scanning: ByteBuffer(bytes: message)).isWellFormed,
            let changed = try apply(senders, to: message)
        else { return }
        guard let again = try apply(senders, to: changed) else {
            throw Broken(description: "\(message) is let through, and then is not")
        }
        try same(again, changed, "a header, changed twice")
        let buffer = ByteBuffer(bytes: changed)
        let header = HeaderBlock(scanning: buffer)
        try hold(header.fields(named: "sender", in: buffer).count <= 1, "two Sender fields in \(message)")
        guard rules.checksFrom, !rules.allowsResent else { return }
        let from = header.fields(named: "from", in: buffer)
        try hold(from.count == 1, "\(from.count) From fields in \(message)")
        let list = try AddressList(parsing: from[0].value(in: buffer))
        if !list.entries.isEmpty {
            try hold(
                list.entries.contains { rights.allow($0.mailbox, rules.matching) }, "From is not theirs: \(message)")
        }
    }
}

/// A message as it goes out; nil: it is refused.
private func apply(_ senders: HeaderSenders, to message: [UInt8]) throws -> [UInt8]? {
    let buffer = ByteBuffer(bytes: message)
    let edits: [HeaderSenders.Edit]
    do throws(HeaderSenders.Refusal) {
        edits = try senders.edits(
            of: HeaderBlock(scanning: buffer), in: buffer, mailFrom: Mailbox(parsing: "e@own.test"), allowsUTF8: false)
    } catch {
        try hold(
            error.reply.code == 550 && error.reply.text.utf8.allSatisfy { (32...126).contains($0) }, "\(error.reply)")
        return nil
    }
    var changed: [UInt8] = []
    var offset = 0
    for edit in edits {
        try hold(edit.octets.lowerBound >= offset && edit.octets.upperBound <= message.count, "edits out of order")
        changed += message[offset..<edit.octets.lowerBound] + Array(edit.text.utf8)
        offset = edit.octets.upperBound
    }
    return changed + message[offset...]
}
