// Who a message from a file is from and for: lines at its top, or its header. Used by DirectorySubmission.

internal import NIOCore
internal import SlimtaMail
internal import SlimtaSMTP

/// The envelope of a message in a file.
///
/// Either fields that stand first say it, and then the header's addresses are no recipients:
///
///     X-Envelope-Sender: <a@example.com>          X-Sender: <a@example.com> BODY=8bitmime RET=HDRS ENVID=x
///     X-Envelope-Recipient: b@example.com, ...    X-Receiver: <b@example.com> NOTIFY=FAILURE ORCPT=rfc822;b@example.com
///
/// (the second kind is IIS's, Exchange's and .NET's; what comes behind a field X-Envelope-End is the message's own), or the header does, as for `sendmail -t`. RET, ENVID, NOTIFY and ORCPT
/// (RFC 3461) have to be well-formed and change nothing yet.
struct PickupEnvelope: Equatable {
    /// Who sends it.
    enum Sender: Equatable {
        /// nil: the null reverse-path.
        case given(Mailbox?)
        /// It is not said: the owner of the file, if that is somebody; else whom the header names (RFC 5322 section 3.6.2:
        /// Sender, or the first of From), nil: nobody.
        case header(Mailbox?)
    }

    private(set) var sender: Sender
    private(set) var recipients: [Mailbox] = []
    private(set) var body = BodyType.sevenBit
    private(set) var smtpUTF8 = false
    /// How many octets of the beginning are no part of the message.
    private(set) var topLength = 0

    /// Reads what `head` begins with, all of a message's header at least.
    ///
    /// - Parameter hostname: the domain of addresses in header fields that have none.
    init(reading head: ByteBuffer, hostname: String) throws(PickupRefusal) {
        let lines = head.withUnsafeReadableBytes { HeaderBlock.mailboxLines(in: $0).end }
        var content = head
        content.moveReaderIndex(forwardBy: lines)
        let header = HeaderBlock(scanning: content)
        var top = header.fields.prefix { Self.Line($0, content) != nil }
        if let end = top.firstIndex(where: { Self.Line($0, content) == .end }) { top = top[...end] }
        topLength = lines + (top.last?.range.upperBound ?? 0)
        sender = .header(Self.author(header, content, hostname))
        if top.isEmpty {
            do throws(HeaderEnvelope.Fault) {
                recipients = try HeaderEnvelope(reading: header, in: content, qualifiedWith: hostname).recipients
            } catch {
                throw PickupRefusal("\(error)")
            }
        } else {
            try read(top, content)
        }
        guard !recipients.isEmpty else {
            throw PickupRefusal(
                top.isEmpty
                    ? "No recipients: neither X-Receiver or X-Envelope-Recipient at the top nor To, Cc or Bcc"
                    : "No recipients: X-Receiver or X-Envelope-Recipient is missing at the top")
        }
    }

    private static func author(_ header: HeaderBlock, _ head: ByteBuffer, _ hostname: String) -> Mailbox? {
        for name in ["sender", "from"] as [StaticString] {
            guard let field = header.fields(named: name, in: head).first else { continue }
            let list = try? AddressList(parsing: field.value(in: head), qualifiedWith: hostname)
            return list?.entries.first?.mailbox
        }
        return nil
    }

    // MARK: Lines at the top

    private enum Line: CaseIterable {
        case sender, receiver, envelopeSender, envelopeRecipient, end

        init?(_ field: HeaderBlock.Field, _ head: ByteBuffer) {
            guard let line = Line.allCases.first(where: { field.isNamed($0.name, in: head) }) else { return nil }
            self = line
        }

        private var name: StaticString {
            switch self {
            case .sender: "x-sender"
            case .receiver: "x-receiver"
            case .envelopeSender: "x-envelope-sender"
            case .envelopeRecipient: "x-envelope-recipient"
            case .end: "x-envelope-end"
            }
        }

        var isOfEnvelope: Bool { self == .envelopeSender || self == .envelopeRecipient }
    }

    private mutating func read(_ top: ArraySlice<HeaderBlock.Field>, _ head: ByteBuffer) throws(PickupRefusal) {
        var isOfEnvelope: Bool?
        var senders = 0
        for field in top {
            guard let line = Line(field, head), line != .end else { continue }
            guard isOfEnvelope ?? line.isOfEnvelope == line.isOfEnvelope else {
                throw PickupRefusal("X-Sender or X-Receiver beside X-Envelope-Sender or X-Envelope-Recipient")
            }
            isOfEnvelope = line.isOfEnvelope
            let name = field.name(in: head)
            let value = String(decoding: field.value(in: head), as: UTF8.self).trimmed
            switch line {
            case .sender: try readSender(value, name)
            case .receiver: recipients.append(try Self.recipient(value, name))
            case .envelopeSender:
                sender = .given(value.isEmpty || value == "<>" ? nil : try Self.only(field.value(in: head), name))
            case .envelopeRecipient: recipients += try Self.list(field.value(in: head), name)
            case .end: break
            }
            if line == .sender || line == .envelopeSender { senders += 1 }
        }
        guard senders <= 1 else { throw PickupRefusal("\(senders) senders at the top") }
    }

    private static func list(_ value: ByteBufferView, _ name: String) throws(PickupRefusal) -> [Mailbox] {
        do throws(AddressList.Fault) {
            return try AddressList(parsing: value, qualifiedWith: nil).entries.map(\.mailbox)
        } catch {
            throw PickupRefusal("found \(error.reason.rawValue) in \(name)")
        }
    }

    private static func only(_ value: ByteBufferView, _ name: String) throws(PickupRefusal) -> Mailbox {
        let list = try list(value, name)
        guard list.count == 1 else { throw PickupRefusal("\(name) has \(list.count) addresses") }
        return list[0]
    }

    // MARK: Lines of Exchange

    /// As MAIL has it (RFC 5321 section 4.1.1.2), RET and ENVID apart.
    private mutating func readSender(_ value: String, _ name: String) throws(PickupRefusal) {
        let path = value.isEmpty ? "<>" : try Self.withoutNotices(value, name, ["RET": isRET, "ENVID": isXText])
        guard case .mail(let mail) = Self.command("MAIL FROM:\(path)") else {
            throw PickupRefusal("\(name) is no address with parameters of MAIL: \(value.visible.cut(toOctets: 200))")
        }
        sender = .given(mail.sender)
        (body, smtpUTF8) = (mail.body, mail.smtpUTF8)
    }

    /// As RCPT has it (section 4.1.1.3), NOTIFY and ORCPT apart.
    private static func recipient(_ value: String, _ name: String) throws(PickupRefusal) -> Mailbox {
        let path = try withoutNotices(
            value, name, ["NOTIFY": { NotifyConditions(parsing: $0) != nil }, "ORCPT": isORCPT])
        guard case .rcpt(.mailbox(let mailbox)) = command("RCPT TO:\(path)") else {
            throw PickupRefusal("\(name) is no address with parameters of RCPT: \(value.visible.cut(toOctets: 200))")
        }
        return mailbox
    }

    /// What a line of SMTP says; nil: nothing that is one. An address with UTF-8 needs no word for that here.
    private static func command(_ line: String) -> SMTPCommand? {
        let suffix = !line.isASCII && line.utf8.starts(with: "MAIL".utf8) && !line.uppercased().contains(" SMTPUTF8")
        let octets = Array((line + (suffix ? " SMTPUTF8" : "")).utf8)
        return try? SMTPCommand(parsing: octets.span, lenientPaths: true)
    }

    /// The value without the parameters of RFC 3461 behind the address, each of which must be what its check says.
    private static func withoutNotices(
        _ value: String, _ name: String, _ checks: [String: (String) -> Bool]
    ) throws(PickupRefusal) -> String {
        let octets = Array(value.utf8)
        let (address, words) = (octets[..<endOfPath(octets)], octets[endOfPath(octets)...])
        var kept: [ArraySlice<UInt8>] = [address]
        for word in words.split(separator: UInt8(ascii: " ")) {
            let sides = word.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            let keyword = String(decoding: sides[0], as: UTF8.self).uppercased()
            guard let check = checks[keyword] else {
                kept.append(word)
                continue
            }
            guard sides.count == 2, check(String(decoding: sides[1], as: UTF8.self)) else {
                throw PickupRefusal("\(name) has a malformed \(keyword)")
            }
        }
        return String(decoding: Array(kept.joined(separator: [UInt8(ascii: " ")])), as: UTF8.self)
    }

    /// The offset behind the address: one in quotes may have blanks and brackets.
    private static func endOfPath(_ octets: [UInt8]) -> Int {
        guard octets.first == UInt8(ascii: "<") else {
            return Mailbox.endOfPath(in: octets.span, at: UInt8(ascii: " "), allowsUTF8: true) ?? 0
        }
        let end = Mailbox.endOfPath(in: octets.span.extracting(1..<octets.count), allowsUTF8: true) ?? 0
        return min(octets.count, end + 2)
    }
}

/// RFC 3461 sections 4.3 and 4.4.
private func isRET(_ value: String) -> Bool { ["FULL", "HDRS"].contains(value.uppercased()) }

/// Section 4.2: the type of the address, and the address.
private func isORCPT(_ value: String) -> Bool {
    let sides = value.split(separator: ";", maxSplits: 1, omittingEmptySubsequences: false)
    return sides.count == 2 && !sides[0].isEmpty && isXText(String(sides[1]))
}

/// Section 4: printable octets, "+" and "=" as "+" and two hexadecimal digits. Exchange does not encode "=": it is let pass.
private func isXText(_ value: String) -> Bool { !value.isEmpty && value.utf8.allSatisfy { (33...126).contains($0) } }

extension String {
    /// Without blanks at both ends.
    fileprivate var trimmed: String {
        let isBlank = { (character: Character) in character == " " || character == "\t" }
        return String(drop(while: isBlank).reversed().drop(while: isBlank).reversed())
    }
}

/// Why a file is no message that could be submitted.
struct PickupRefusal: Error, Equatable {
    let reply: Reply

    /// In words.
    init(_ text: String) { reply = Reply(554, .init(5, 6, 0), text) }
}
