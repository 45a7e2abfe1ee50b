// The parts of a JSON request that have a form of their own: addresses, attachments, header fields.

import SlimtaMail
import SlimtaNet

extension MessageRequestReader {
    // MARK: addresses

    /// Addresses: a string with one or several, an object with `email` and `name`, or an array of both.
    mutating func addresses(_ json: JSON?, _ place: JSONPlace) -> [MailDraft.Address] {
        switch json {
        case nil: return []
        case .array(let elements):
            if elements.isEmpty { fault(place, "has no address in it; where there is none, leave it out") }
            return elements.enumerated().flatMap { index, element -> [MailDraft.Address] in
                if hasEnough { return [] }
                if case .array = element {
                    fault(place[index], "is an array within an array")
                    return []
                }
                return addresses(element, place[index])
            }
        case .object(let members): return address(.object(members), place).map { [$0] } ?? []
        case .string(let text): return addresses(text, place)
        case .null, .bool, .number, .decimal:
            fault(
                place,
                "is no address such as \"Name <user@example.com>\", no object with \"email\", and no array of these")
            return []
        }
    }

    private mutating func addresses(_ text: String, _ place: JSONPlace) -> [MailDraft.Address] {
        if hasTooMuch(addresses: text.utf8.count, place) { return [] }
        if text.hasControls {
            fault(place, "has a line end or another control character in it")
            return []
        }
        let entries: [AddressList.Entry]
        do throws(AddressList.Fault) {
            entries = try AddressList(parsing: text).entries
        } catch {
            fault(place, "is no address such as \"Name <user@example.com>\": \(error)")
            return []
        }
        if entries.isEmpty { fault(place, "has no address in it") }
        return entries.compactMap { address($0.mailbox, $0.displayName, place) }
    }

    private mutating func address(_ json: JSON, _ place: JSONPlace) -> MailDraft.Address? {
        let elsewhere = ["address": "email", "Email": "email", "Address": "email", "Name": "name", "mail": "email"]
        guard let members = object(json, place, known: ["email", "name"], elsewhere: elsewhere) else { return nil }
        let name = line(members["name"], place["name"], upTo: MessageRequest.Limits.name)
        guard let json = members["email"] else {
            fault(place["email"], "is needed: an address such as \"user@example.com\"")
            return nil
        }
        guard let text = line(json, place["email"], upTo: 1000) else { return nil }
        guard let mailbox = Mailbox(parsing: text) else {
            fault(place["email"], "is no address such as \"user@example.com\"")
            return nil
        }
        return address(mailbox, name, place)
    }

    /// An address whose domain can be asked for.
    private mutating func address(_ mailbox: Mailbox, _ name: String?, _ place: JSONPlace) -> MailDraft.Address? {
        if !mailbox.domain.isASCII, DomainName.ascii(mailbox.domain) == nil {
            fault(place, "has a domain that is no domain name (RFC 5891)")
            return nil
        }
        if let name, name.utf8.count > MessageRequest.Limits.name {
            fault(place, "has a name of \(name.utf8.count) octets; there may be \(MessageRequest.Limits.name)")
        }
        return MailDraft.Address(name: name, mailbox)
    }

    // MARK: attachments

    mutating func attachments(_ json: JSON?, _ place: JSONPlace) -> [MailDraft.Attachment] {
        guard let json else { return [] }
        guard case .array(let elements) = json else {
            fault(place, "is no array")
            return []
        }
        let limit = MessageRequest.Limits.attachments
        guard elements.count <= limit else {
            fault(place, "has \(elements.count) elements; there may be \(limit)")
            return []
        }
        var ids: Set<String> = []
        return elements.enumerated().compactMap { index, element in
            let attachment = attachment(element, place[index])
            if let id = attachment?.contentID, !ids.insert(id).inserted {
                fault(place[index]["content_id"], "is the same as that of another attachment")
            }
            return attachment
        }
    }

    private mutating func attachment(_ json: JSON, _ place: JSONPlace) -> MailDraft.Attachment? {
        let names = ["filename", "content", "content_type", "content_id", "disposition"]
        let elsewhere = [
            "type": "content_type", "ContentType": "content_type", "mime_type": "content_type", "Name": "filename",
            "name": "filename", "Content": "content", "Data": "content", "data": "content", "ContentID": "content_id",
            "cid": "content_id", "RawContent": "content", "base64": "content",
        ]
        guard let members = object(json, place, known: names, elsewhere: elsewhere) else { return nil }
        let fileName = line(members["filename"], place["filename"], upTo: MessageRequest.Limits.fileName)
        var type = MediaType.octets
        if let text = line(members["content_type"], place["content_type"], upTo: 500) {
            if let known = MediaType(text) {
                type = known
            } else {
                fault(place["content_type"], "is no media type such as \"image/png\" or \"text/csv; charset=utf-8\"")
            }
        }
        var id: String?
        if let text = line(members["content_id"], place["content_id"], upTo: 1000) {
            id = ContentIDs.identifier(text)
            if id == nil {
                fault(
                    place["content_id"],
                    "is none: letters, digits, \".\", \"-\", \"_\", with or without \"@\" and a domain")
            }
        }
        let disposition = string(members["disposition"], place["disposition"])
        if let disposition, disposition != "attachment", disposition != "inline" {
            fault(place["disposition"], "is neither \"attachment\" nor \"inline\"")
        }
        guard members["content"] != nil else {
            fault(place["content"], "is needed: the octets of the file in base64")
            return nil
        }
        guard let text = string(members["content"], place["content"]) else { return nil }
        do throws(Base64Text.Fault) {
            let content = try Base64Text(checking: text)
            return MailDraft.Attachment(
                fileName: fileName.flatMap(FileName.sanitised), type: type, content: content, contentID: id,
                // What the text may refer to is shown with it, unless it is said otherwise.
                isInline: disposition.map { $0 == "inline" } ?? (id != nil))
        } catch {
            fault(place["content"], "\(error)")
            return nil
        }
    }

    // MARK: header fields

    mutating func headers(_ json: JSON?, _ place: JSONPlace) -> [MailDraft.Field] {
        guard let json else { return [] }
        guard case .object(let members) = json else {
            fault(place, "is no object of names and values")
            return []
        }
        let limit = MessageRequest.Limits.headers
        guard members.count <= limit else {
            fault(place, "has \(members.count) members; there may be \(limit)")
            return []
        }
        var seen: Set<String> = []
        return members.compactMap { member in
            let place = place[member.name]
            if let reason = HeaderRules.refusal(of: member.name) {
                fault(place, reason)
                return nil
            }
            if !seen.insert(member.name.asciiLowercased()).inserted { fault(place, "is there twice") }
            guard let value = line(member.value, place, upTo: MessageRequest.Limits.headerValue) else { return nil }
            if let reason = HeaderRules.refusal(of: value, for: member.name) { fault(place, reason) }
            return MailDraft.Field(member.name, value)
        }
    }
}

/// Which fields a client may write itself.
enum HeaderRules {
    /// Why there can be no field of this name; nil: there can.
    static func refusal(of name: String) -> String? {
        guard (1...MessageRequest.Limits.headerName).contains(name.utf8.count),
            name.utf8.allSatisfy({ (33...126).contains($0) && $0 != UInt8(ascii: ":") })
        else {
            return
                "is no name of a header field: up to \(MessageRequest.Limits.headerName) visible ASCII characters without \":\""
        }
        let folded = name.asciiLowercased()
        if let own = own[folded] { return "is not written here: it is made of \(own)" }
        let isAllowed = allowed.contains(folded) || folded.hasPrefix("x-") || folded.hasPrefix("list-")
        guard !isAllowed || folded.hasPrefix("x-envelope-") else { return nil }
        return
            "is not written by clients: allowed are X-..., List-..., In-Reply-To, References, Message-ID and fields such as Auto-Submitted, Importance, Precedence"
    }

    /// Why a field cannot have this value; nil: it can.
    static func refusal(of value: String, for name: String) -> String? {
        // What is not ASCII is encoded, and folded anywhere.
        let isTooLong = value.utf8.split(separator: UInt8(ascii: " ")).contains {
            $0.count > MessageRequest.Limits.headerWord
        }
        if isTooLong, value.isASCII {
            return
                "has a word of more than \(MessageRequest.Limits.headerWord) octets in it, where no line can be folded"
        }
        let most: Int
        switch name.asciiLowercased() {
        case "message-id": most = 1
        case "in-reply-to", "references": most = .max
        default: return nil
        }
        let ids = value.split(separator: " ")
        if (1...most).contains(ids.count), ids.allSatisfy(isMessageID) { return nil }
        return most == 1
            ? "is no message identifier such as \"<left@example.com>\""
            : "has something in it that is no message identifier such as \"<left@example.com>\", with blanks between"
    }

    /// msg-id (RFC 5322 section 3.6.4), as programs make it.
    private static func isMessageID(_ text: Substring) -> Bool {
        guard text.utf8.first == UInt8(ascii: "<"), text.utf8.last == UInt8(ascii: ">"), text.utf8.count > 2 else {
            return false
        }
        let sides = text.utf8.dropFirst().dropLast().split(
            separator: UInt8(ascii: "@"), omittingEmptySubsequences: false)
        return sides.count == 2
            && sides.allSatisfy { side in
                side.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
                    .allSatisfy { !$0.isEmpty && $0.allSatisfy(\.isAtomText) }
            }
    }

    /// What they are made of.
    private static let own = [
        "from": "\"from\"", "to": "\"to\"", "cc": "\"cc\"", "bcc": "\"bcc\"", "reply-to": "\"reply_to\"",
        "subject": "\"subject\"",
        "sender": "\"from\"", "date": "\"send_at\" or the time now",
    ]

    private static let allowed: Set<String> = [
        "archived-at", "auto-submitted", "autosubmitted", "comments", "disposition-notification-to", "errors-to",
        "expires",
        "feedback-id", "importance", "in-reply-to", "keywords", "message-id", "organization", "precedence", "priority",
        "references", "require-recipient-valid-since", "sensitivity", "supersedes", "thread-index", "thread-topic",
        "user-agent",
    ]
}
