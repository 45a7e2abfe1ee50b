// Reads a message that comes as JSON, and finds all that is wrong with it at once. Values only: the resource for JSON calls it,
// and a fuzzer does.

package import NIOCore
package import SlimtaMail
import SlimtaNet

/// All that is wrong with a request.
package struct RequestFaults: Error, Hashable, Sendable {
    /// In the order of what they are about; at most ``MessageRequest/Limits/faults``.
    package let faults: [RequestFault]
}

/// Reads one request.
struct MessageRequestReader {
    /// Who may be written to at once.
    private let recipientLimit: Int
    private let now: Timestamp
    private(set) var faults: [RequestFault] = []
    /// Octets of addresses that were read.
    private var addressOctets = 0

    private init(recipientLimit: Int, now: Timestamp) {
        self.recipientLimit = recipientLimit
        self.now = now
    }

    mutating func fault(_ place: JSONPlace, _ detail: String) {
        if !hasEnough { faults.append(RequestFault(place, detail)) }
    }

    /// Whether no more mistakes are told: what is still to come need not be looked at.
    var hasEnough: Bool { faults.count >= MessageRequest.Limits.faults }

    /// Whether so many more octets of addresses are too many; tells that once.
    mutating func hasTooMuch(addresses octets: Int, _ place: JSONPlace) -> Bool {
        let limit = MessageRequest.Limits.addresses(recipients: recipientLimit)
        guard addressOctets <= limit else { return true }
        addressOctets += octets
        guard addressOctets > limit else { return false }
        fault(place, "has, with what is before it, more than \(limit) octets of addresses")
        return true
    }

    fileprivate static func read(
        _ octets: ByteBuffer, recipientLimit: Int, now: Timestamp
    ) throws(RequestFaults) -> MessageRequest {
        let json: JSON
        do throws(JSONError) {
            json = try JSON(
                parsing: octets.readableBytesView, depth: MessageRequest.Limits.depth,
                values: MessageRequest.Limits.values(recipients: recipientLimit))
        } catch {
            throw RequestFaults(faults: [RequestFault(.root, "is \(error)")])
        }
        var reader = MessageRequestReader(recipientLimit: recipientLimit, now: now)
        guard let request = reader.request(json), reader.faults.isEmpty else {
            throw RequestFaults(faults: reader.faults)
        }
        return request
    }

    private mutating func request(_ json: JSON) -> MessageRequest? {
        guard let members = object(json, .root, known: Self.names, elsewhere: RequestNames.elsewhere) else {
            return nil
        }
        let sender = addresses(members["from"], JSONPlace.root["from"])
        if members["from"] == nil { fault(.root["from"], "is needed: who the message is from") }
        if sender.count > 1 { fault(.root["from"], "is more than one address") }
        let (to, cc, bcc) = (
            addresses(members["to"], .root["to"]), addresses(members["cc"], .root["cc"]),
            addresses(members["bcc"], .root["bcc"])
        )
        if members["to"] == nil, members["cc"] == nil, members["bcc"] == nil {
            fault(.root["to"], "is needed, or \"cc\" or \"bcc\": whom the message is for")
        }
        let recipients = (to + cc + bcc).map(\.mailbox).eachOnce
        if recipients.count > recipientLimit {
            fault(
                .root["to"],
                "are \(recipients.count) recipients with \"cc\" and \"bcc\"; there may be \(recipientLimit)")
        }
        let replyTo = addresses(members["reply_to"], .root["reply_to"])
        let subject = line(members["subject"], .root["subject"], upTo: MessageRequest.Limits.subject)
        let (text, html) = (string(members["text"], .root["text"]), string(members["html"], .root["html"]))
        let attachments = attachments(members["attachments"], .root["attachments"])
        if members["text"] == nil, members["html"] == nil, members["attachments"].map({ $0.elements.isEmpty }) ?? true {
            fault(.root["text"], "is needed, or \"html\" or \"attachments\": what the message says")
        }
        let fields = headers(members["headers"], .root["headers"])
        let sendAt = time(members["send_at"], .root["send_at"])
        let metadata = metadata(members["metadata"], .root["metadata"])
        guard let from = sender.first else { return nil }
        var draft = MailDraft(from: from)
        (draft.to, draft.cc, draft.replyTo, draft.subject) = (to, cc, replyTo, subject)
        (draft.text, draft.html, draft.attachments, draft.fields) = (text, html, attachments, fields)
        return MessageRequest(draft: draft, recipients: recipients, sendAt: sendAt, metadata: metadata)
    }

    private static let names = [
        "from", "to", "cc", "bcc", "reply_to", "subject", "text", "html", "attachments", "headers", "send_at",
        "metadata",
    ]

    // MARK: values of any kind

    /// The members of an object, none of which is unknown.
    mutating func object(
        _ json: JSON, _ place: JSONPlace, known: [String], elsewhere: [String: String] = [:]
    ) -> [String: JSON]? {
        guard case .object(let members) = json else {
            fault(place, "is no object")
            return nil
        }
        for member in members where !known.contains(member.name) {
            if hasEnough { break }
            let meant = elsewhere[member.name] ?? Spelling.nearest(to: member.name, among: known)
            fault(
                place[member.name],
                "is unknown"
                    + (meant.map { "; did you mean \"\($0)\"?" } ?? "; known are \(known.joined(separator: ", "))"))
        }
        return Dictionary(members.map { ($0.name, $0.value) }) { first, _ in first }
    }

    mutating func string(_ json: JSON?, _ place: JSONPlace) -> String? {
        guard let json else { return nil }
        if json.text == nil {
            fault(place, "is no string" + (json == .null ? ": where there is none, leave it out" : ""))
        }
        return json.text
    }

    /// A text that becomes part of a line.
    mutating func line(_ json: JSON?, _ place: JSONPlace, upTo limit: Int) -> String? {
        guard let text = string(json, place) else { return nil }
        guard text.utf8.count <= limit else {
            fault(place, "has \(text.utf8.count) octets; there may be \(limit)")
            return nil
        }
        if text.hasControls { fault(place, "has a line end or another control character in it") }
        return text
    }

    private mutating func time(_ json: JSON?, _ place: JSONPlace) -> Timestamp? {
        guard let text = string(json, place) else { return nil }
        guard let time = Timestamp(isoDate: text) else {
            fault(place, "is no time such as \"2027-01-31T09:30:00Z\" or \"2027-01-31T09:30:00+01:00\" (RFC 3339)")
            return nil
        }
        if time > now + MessageRequest.Limits.ahead { fault(place, "is more than 30 days from now") }
        // What is past is due now.
        return time > now ? time : nil
    }

    private mutating func metadata(_ json: JSON?, _ place: JSONPlace) -> [JSON.Member] {
        guard let json else { return [] }
        guard case .object(let members) = json else {
            fault(place, "is no object")
            return []
        }
        let limits = MessageRequest.Limits.self
        if members.count > limits.metadata {
            fault(place, "has \(members.count) members; there may be \(limits.metadata)")
            return []
        }
        for member in members {
            if !(1...limits.metadataName).contains(member.name.utf8.count) {
                fault(place[member.name], "has a name of none or more than \(limits.metadataName) octets")
            }
            guard let text = string(member.value, place[member.name]) else { continue }
            if text.utf8.count > limits.metadataValue {
                fault(place[member.name], "has \(text.utf8.count) octets; there may be \(limits.metadataValue)")
            }
        }
        return members
    }
}

extension MessageRequest {
    /// Reads a request.
    ///
    /// - Parameters:
    ///   - octets: JSON (RFC 8259), strictly.
    ///   - recipientLimit: how many recipients a message may have.
    ///   - now: what is before it is sent at once.
    package init(reading octets: ByteBuffer, recipientLimit: Int, now: Timestamp) throws(RequestFaults) {
        self = try MessageRequestReader.read(octets, recipientLimit: recipientLimit, now: now)
    }
}

/// What other interfaces for mail call the fields of a request: people bring their programs along.
private enum RequestNames {
    static let elsewhere = [
        "TextBody": "text", "text_body": "text", "body": "text", "content": "text", "plain": "text",
        "body_plain": "text",
        "HtmlBody": "html", "html_body": "html", "body_html": "html", "FromEmailAddress": "from", "sender": "from",
        "from_email": "from", "recipients": "to", "recipient": "to", "ReplyToAddresses": "reply_to",
        "h:Reply-To": "reply_to",
        "scheduled_at": "send_at", "deliver_at": "send_at", "o:deliverytime": "send_at", "FutureRelease": "send_at",
        "sendAt": "send_at", "custom_args": "metadata", "tags": "metadata", "Tag": "metadata", "EmailTags": "metadata",
        "Extra": "metadata", "attachment": "attachments", "AttachedFiles": "attachments", "inline": "attachments",
        "InlineFiles": "attachments", "personalizations": "to",
    ]
}
