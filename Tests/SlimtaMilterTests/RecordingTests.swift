// Every recording of ../shared/vectors/milter: what we write is what Postfix wrote, what we say to the client is what Postfix
// said, and what is delivered is what Postfix delivered, apart from what reference/content.md section 7 names.

import Foundation
import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaMilter

@Suite(.enabled(if: SharedFiles.areThere, "../shared/vectors is not there")) struct MilterRecordingTests {
    /// Fields that Postfix adds where the client has none, and counts as its own in the same place; the milter is shown them.
    private static let added: Set<String> = ["message-id", "date", "received"]

    private static func message(_ turn: Recording.Turn) -> ByteBuffer {
        ByteBuffer(bytes: turn.data64.flatMap { Data(base64Encoded: $0) } ?? Data())
    }

    private static func mail(_ turn: Recording.Turn, _ message: ByteBuffer, _ session: RecordedSession?) -> MilterMail {
        let accepted =
            turn.replies?.filter { $0.verb.hasPrefix("RCPT ") && $0.code == 250 }.map { $0.verb.dropFirst(5) }
            ?? (turn.to ?? []).map { $0[...] }
        return MilterMail(
            head: message, sender: turn.mail.flatMap { Mailbox(parsing: $0) },
            recipients: accepted.compactMap { Mailbox(parsing: String($0)) })
    }

    /// Plays all turns; the mails as the milter left them, nil where nothing goes on.
    private static func play(
        _ recording: Recording, _ packets: [Recording.Packet], cutsReplies: Bool = false, startsTLS: Bool = true,
        mails given: [MilterMail]? = nil
    ) -> (RecordedSession, [(mail: MilterMail, message: ByteBuffer)?]) {
        let last = recording.smtp.last.map { Self.message($0) } ?? ByteBuffer()
        let names = HeaderBlock(scanning: last).fields.map { $0.name(in: last).lowercased() }
        let unseen = added.union(["from"]).subtracting(names)
        var session = RecordedSession(packets, unseen: unseen, cutsReplies: cutsReplies)
        session.greet(recording.smtp.compactMap(\.helo).first ?? "", startsTLS: startsTLS)
        var results: [(mail: MilterMail, message: ByteBuffer)?] = []
        for (index, turn) in recording.smtp.enumerated() {
            let message = message(turn)
            var mail = given?[index] ?? mail(turn, message, session)
            let before = session.edits.count
            session.take(
                turn, mail: mail, body: mail.shownBody(of: Message(head: message)), authenticates: startsTLS)
            guard session.edits.count > before, let edits = session.edits.last ?? nil else { continue }
            mail.apply(edits)
            results.append((mail, message))
        }
        session.quit()
        return (session, results)
    }

    @Test(arguments: Recording.names.filter { $0 != "two.edits" }, [false, true])
    func isPostfix(_ name: String, cutsReplies: Bool) throws {
        let recording = try Recording.named(name)
        let packets = try #require(recording.packets)
        let (session, results) = Self.play(recording, packets, cutsReplies: cutsReplies)
        let ours = try ComparablePacket.all(of: session.written)
        // With no header Postfix adds From as well.
        let without = name == "whim.no-header" ? Self.added.union(["from"]) : Self.added
        #expect(
            ComparablePacket.reduced(ours, without: without)
                == ComparablePacket.reduced(packets.filter(\.isOurs).map(\.comparable), without: without))
        if name == "whim.timeout-at-end" {
            #expect(!session.machine.isUsable && session.machine.failure?.cause == .timedOut)
        } else {
            #expect(ours.last?.command == "Q")
            #expect(session.machine.failure == nil)
        }
        // What the client heard.
        let heard = recording.smtp.filter { $0.mail != nil }.flatMap { $0.replies ?? [] }
        #expect(session.replies.map(\.verb) == heard.map(\.verb))
        for (own, other) in zip(session.replies, heard) {
            #expect(own.code == other.code, "\(own) \(other)")
            if other.code >= 400 { #expect(own.text == other.text) }
        }
        let kept = results.compactMap { $0 }.filter { !$0.mail.recipients.isEmpty }
        #expect(kept.filter { $0.mail.heldBecause != nil }.count == recording.held)
        let sent = kept.filter { $0.mail.heldBecause == nil }
        try #require(sent.count == recording.delivered.count)
        for (result, delivered) in zip(sent, recording.delivered) {
            try Self.compare(result.mail, result.message, delivered, name == "whim.no-header" ? ["from"] : [])
        }
    }

    /// One message through two milters, one after the other.
    @Test func isPostfixWithTwo() throws {
        let recording = try Recording.named("two.edits")
        let first = try #require(recording.packetsFirst)
        let second = try #require(recording.packetsSecond)
        let (one, results) = Self.play(recording, first, startsTLS: false)
        // Postfix shows Message-Id and Date, which it added: ours come with the message.
        let between = try #require(results.last ?? nil)
        let (two, ends) = Self.play(recording, second, startsTLS: false, mails: [between.mail])
        for (session, packets) in [(one, first), (two, second)] {
            // Postfix's client here said SIZE.
            let theirs = packets.filter(\.isOurs).map(\.comparable)
            #expect(
                try ComparablePacket.reduced(ComparablePacket.all(of: session.written), without: Self.added)
                    == ComparablePacket.reduced(theirs, without: Self.added).map {
                        $0.replacingOccurrences(of: "\\x00size=227", with: "")
                    })
        }
        let end = try #require(ends.last ?? nil)
        try Self.compare(end.mail, end.message, try #require(recording.delivered.first), [])
    }

    /// Compares a mail with what came out at the next hop.
    private static func compare(
        _ mail: MilterMail, _ message: ByteBuffer, _ delivered: Recording.Delivered, _ alsoAdded: Set<String>
    ) throws {
        #expect("<\(mail.sender?.text ?? "")>" == delivered.mail.split(separator: " ").first ?? "")
        // Postfix delivers twice to a recipient that is added though the client has named it.
        #expect(Set(mail.recipients.map { "<\($0.mailbox.text)>" }) == Set(delivered.rcpt))
        #expect(Set(mail.recipients.map(\.mailbox)).count == mail.recipients.count)
        let theirs = ByteBuffer(bytes: Data(base64Encoded: delivered.data64) ?? Data())
        let clients = HeaderBlock(scanning: message)
        let given = Set(clients.fields.map { $0.name(in: message).lowercased() })
        let block = HeaderBlock(scanning: theirs)
        var expected = ""
        for field in block.fields {
            let name = field.name(in: theirs)
            let text = String(buffer: theirs.getSlice(at: field.range.lowerBound, length: field.range.count)!)
            if name == "Received", text.contains("(Postfix)") {
                expected += "Received: ours\r\n"
            } else if given.contains(name.lowercased()) || !added.union(alsoAdded).contains(name.lowercased()) {
                expected += text
            }
        }
        let body = String(buffer: theirs.getSlice(at: block.end, length: theirs.readableBytes - block.end)!)
        var ours = mail.fieldsAboveReceived
        ours.writeString("Received: ours\r\n")
        let applied = mail.applied(to: Message(head: message)).head
        let own = HeaderBlock(scanning: applied)
        ours.writeImmutableBuffer(applied.getSlice(at: 0, length: own.fields.last?.range.upperBound ?? 0)!)
        // Postfix takes out a blank before a colon; we leave octets as they are.
        #expect(String(buffer: ours).replacing("X-Blank :", with: "X-Blank:") == expected)
        let ownBody = String(buffer: applied.getSlice(at: own.end, length: applied.readableBytes - own.end)!)
        #expect(ownBody == body)
    }

    /// Every packet of a milter is read, and written again it is the same.
    @Test(arguments: Recording.names) func packetsOfMilters(_ name: String) throws {
        let recording = try Recording.named(name)
        let packets = (recording.packets ?? []) + (recording.packetsFirst ?? []) + (recording.packetsSecond ?? [])
        var keepsBlanks = false
        for packet in packets where packet.isMilters {
            guard let octets = packet.octets else { continue }
            let read = MilterPacket(
                command: packet.command!.utf8.first!, data: ByteBuffer(bytes: octets))
            if packet.command == "O" {
                keepsBlanks = try MilterNegotiation(answer: read).bits.contains(.leadingBlanks)
                continue
            }
            let reply = try MilterReply(read, keepsBlanks: keepsBlanks)
            var again = ByteBuffer()
            again.writeMilterReply(reply, keepsBlanks: keepsBlanks, bare: packet.command == "+" && octets[0] != 60)
            var expected = packet.wire()
            // 0 and 1 are the same one.
            if packet.command == "m" { expected.setInteger(max(1, UInt32(octets[3])), at: 5) }
            // What a client is told has no doubled percent signs.
            if packet.command == "y" {
                expected = ByteBuffer()
                let text = String(decoding: octets, as: UTF8.self).replacing("%%", with: "%")
                expected.writeMilterPacket("y") { $0.writeString(text) }
            }
            #expect(again == expected, "\(packet)")
        }
    }

    /// The stream of a milter, cut anywhere.
    @Test(arguments: Recording.names) func cuts(_ name: String) throws {
        let recording = try Recording.named(name)
        let packets = (recording.packets ?? recording.packetsFirst ?? []).filter(\.isMilters)
        let stream = packets.flatMap { Array($0.wire().readableBytesView) }
        let read = try ChunkVerifier.verify(stream) { chunks in
            var reader = MilterPacketReader()
            var read: [MilterPacket] = []
            for chunk in chunks {
                reader.append(chunk)
                while let packet = try reader.next() { read.append(packet) }
            }
            return read
        }
        #expect(read.count == packets.count)
    }
}
