// How an envelope is written down: octet for octet the same wherever it is stored.

import NIOCore
package import SlimtaMail
import SlimtaQueue

/// An envelope:
///
///     1 id  2 sender  3 recipient, once for each, in order  4 received  5 due  6 body type  7 SMTPUTF8
///     8 client's address  9 its name  10 protocol word  11 TLS version  12 cipher  13 login  14 edge
///     15 prepended fields  17 whom the sender has named instead of a recipient: its index (4 octets), a mailbox
///     18 when the sender is told of a recipient, where that was said: its index, 1 success + 2 failure + 4 delay (1 octet)
///     20 whether it brings a TLS report (1 octet)
///     240 to 255 are the storage's own, for what it has to know beside it
///
/// A mailbox is the length of the local part (4 octets), local part, domain; no sender field is the null reverse-path.
/// Times are milliseconds since 1970. `due` is when the first attempt was to be made.
package enum EnvelopeCodec {
    /// Appends `envelope` as a field.
    package static func encode(_ envelope: Envelope, due: Timestamp, tag: UInt8, into output: OutputBuffer) {
        let start = output.begin(tag)
        output.field(1, envelope.id)
        if let sender = envelope.sender { mailbox(sender, 2, output) }
        for recipient in envelope.recipients { mailbox(recipient, 3, output) }
        output.field(4, envelope.received.milliseconds)
        output.field(5, due.milliseconds)
        output.field(6, envelope.body.rawValue)
        output.field(7, UInt8(envelope.smtpUTF8 ? 1 : 0))
        let client = envelope.client
        output.field(8, client.address)
        output.field(9, client.name)
        output.field(10, client.protocolWord)
        if let tls = client.tls {
            // Empty texts are no fields elsewhere; here the field's presence tells that there was TLS.
            let version = output.begin(11)
            output.append(tls.version)
            output.end(version)
            output.field(12, tls.cipher)
        }
        if let login = client.login {
            let field = output.begin(13)
            output.append(login)
            output.end(field)
        }
        output.field(14, client.edge)
        if envelope.prependedFields.readableBytes > 0 {
            let field = output.begin(15)
            output.append(envelope.prependedFields)
            output.end(field)
        }
        if !envelope.originals.isEmpty {
            for (index, recipient) in envelope.recipients.enumerated() {
                guard let original = envelope.original(of: recipient) else { continue }
                mailbox(original, 17, index: UInt32(index), output)
            }
        }
        if !envelope.notifications.isEmpty {
            for (index, recipient) in envelope.recipients.enumerated() {
                guard let conditions = envelope.notifications[recipient] else { continue }
                let value = output.field(18, size: 5)
                value.store(UInt32(index))
                value.store(conditions.rawValue, at: 4)
            }
        }
        if envelope.isTLSReport { output.field(20, UInt8(1)) }
        output.end(start)
    }

    /// Reads the value of what `encode` wrote.
    package static func decode(_ octets: UnsafeRawBufferPointer) throws(FormatError) -> (Envelope, due: Timestamp) {
        var cursor = InputCursor(octets)
        var id: QueueID?
        var sender: Mailbox?
        var recipients: [Mailbox] = []
        var received: Timestamp?
        var due: Timestamp?
        var body = BodyType.sevenBit
        var smtpUTF8 = false
        var client = ClientInfo(address: "", name: "", protocolWord: "")
        var tls: (version: String?, cipher: String) = (nil, "")
        var prepended = ByteBuffer()
        var originals: [(index: Int, mailbox: Mailbox)] = []
        var notifications: [(index: Int, conditions: NotifyConditions)] = []
        var isTLSReport = false
        while let field = try cursor.field() {
            switch field.tag {
            case 1: id = try field.id()
            case 2: sender = try mailbox(field)
            case 3: recipients.append(try mailbox(field))
            case 4: received = Timestamp(milliseconds: try field.number())
            case 5: due = Timestamp(milliseconds: try field.number())
            case 6:
                guard let known = BodyType(rawValue: try field.number()) else { throw FormatError("body type") }
                body = known
            case 7: smtpUTF8 = try field.number(UInt8.self) != 0
            case 8: client.address = field.text
            case 9: client.name = field.text
            case 10: client.protocolWord = field.text
            case 11: tls.version = field.text
            case 12: tls.cipher = field.text
            case 13: client.login = field.text
            case 14: client.edge = field.text
            case 15: prepended = ByteBuffer(bytes: field.value)
            case 17:
                var cursor = field.cursor
                originals.append((Int(try cursor.number(UInt32.self)), try mailbox(&cursor)))
            case 18:
                var cursor = field.cursor
                notifications.append(
                    (Int(try cursor.number(UInt32.self)), NotifyConditions(rawValue: try cursor.number(UInt8.self))))
            case 20: isTLSReport = try field.number(UInt8.self) != 0
            default: break  // from a newer version
            }
        }
        guard let id, let received, let due else { throw FormatError("envelope") }
        if let version = tls.version { client.tls = TLSDescription(version: version, cipher: tls.cipher) }
        var envelope = Envelope(
            id: id, sender: sender, recipients: recipients, received: received, body: body, smtpUTF8: smtpUTF8,
            client: client, prependedFields: prepended)
        envelope.isTLSReport = isTLSReport
        for original in originals where original.index < recipients.count {
            envelope.setOriginal(original.mailbox, of: recipients[original.index])
        }
        for entry in notifications where entry.index < recipients.count {
            envelope.setNotifications(entry.conditions, of: recipients[entry.index])
        }
        return (envelope, due)
    }

    /// - Parameter index: is put before it.
    private static func mailbox(_ mailbox: Mailbox, _ tag: UInt8, index: UInt32? = nil, _ output: OutputBuffer) {
        let before = index == nil ? 0 : 4
        let local = mailbox.domainOffset - 1
        var text = mailbox.text
        text.withUTF8 { octets in
            precondition(local < octets.count)
            var value = output.field(tag, size: before + 4 + octets.count - 1)
            if let index { value.store(index) }
            value += before
            value.store(UInt32(local))
            (value + 4).copyMemory(from: octets.baseAddress!, byteCount: local)
            (value + 4 + local).copyMemory(
                from: octets.baseAddress! + local + 1, byteCount: octets.count - local - 1)
        }
    }

    private static func mailbox(_ field: Field) throws(FormatError) -> Mailbox {
        var cursor = field.cursor
        return try mailbox(&cursor)
    }

    private static func mailbox(_ cursor: inout InputCursor) throws(FormatError) -> Mailbox {
        let length: UInt32 = try cursor.number()
        let local = try cursor.octets(Int(length))
        return Mailbox(
            localPart: String(decoding: local, as: UTF8.self), domain: String(decoding: cursor.rest, as: UTF8.self))
    }
}
