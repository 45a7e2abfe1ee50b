// What a directory edge reads: the top of a file, what inotify says, names.

import NIOCore
import SlimtaMail

@testable import SlimtaEdge

extension FuzzTarget {
    /// The envelope of a message in a file, the events of a folder, and the names of files in `taken`.
    static let pickup = FuzzTarget(name: "pickup", maximumLength: 2048) { octets in
        // Line ends are CRLF, and the last line has one.
        var (content, head) = (ContentReader(limit: .max), ByteBuffer())
        content.read(ByteBuffer(bytes: octets), into: &head)
        content.finish(into: &head)
        if content.fault == nil, let envelope = try? PickupEnvelope(reading: head, hostname: "here.test") {
            try hold(!envelope.recipients.isEmpty, "an envelope for nobody")
            try hold(envelope.topLength <= head.readableBytes, "\(envelope.topLength) of \(head.readableBytes)")
            var rest = head
            rest.moveReaderIndex(forwardBy: envelope.topLength)
            // Lines at the top are whole, and gone: what is left does not say it again.
            try hold(
                envelope.topLength == 0 || head.getInteger(at: envelope.topLength - 1) == UInt8(ascii: "\n"),
                "half a line is gone")
            if case .given = envelope.sender, let again = try? PickupEnvelope(reading: rest, hostname: "here.test") {
                if case .given = again.sender { throw Broken(description: "a sender is left at the top") }
            }
            for mailbox in envelope.recipients {
                try hold(mailbox.text.hasNoASCIIControl, "\(mailbox) in a command")
                try same(Mailbox(parsing: mailbox.text), mailbox, "the address \(mailbox)")
            }
        }
        var changes = FolderChanges()
        var events = ByteBuffer(bytes: octets)
        changes.add(&events)
        try hold(changes.changes.count <= FolderChanges.limit, "\(changes.changes.count) changes")
        try hold(changes.changes.allSatisfy { $0.name.mayBeMessage }, "names that are none")
        let name = PickupName(octets.prefix { $0 != 0 && $0 != UInt8(ascii: "/") }.prefix(255))
        if name.mayBeMessage {
            let file = TakenFile(id: QueueID(high: 1, low: 2), name: name)
            try same(TakenFile(file.path), file, "a name in taken")
            try hold(file.path.octets.count <= 255, "a name of \(file.path.octets.count) octets")
        }
        try hold(name.description.isVisible, "a name in a log")
    }
}
