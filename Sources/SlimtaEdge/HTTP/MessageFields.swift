// The envelope of a message that is posted, and what else the fields of the request say of it: read as a value, each mistake
// with what is allowed. MessageResource asks.

internal import SlimtaMail
internal import SlimtaNet

/// Reads the fields of a request. Of those that may be there once, a second one is a mistake: another server may take the
/// other one.
enum MessageFields {
    /// What is wrong with a request.
    struct Mistake: Error {
        let status: Int
        let text: String
        /// What SMTP says to such a thing has; nil: there is none in SMTP.
        var code: EnhancedStatus?
        /// A field that the answer is to have.
        var field: (name: String, value: String)?

        /// The same as SMTP says it.
        var reply: Reply? { code.map { Reply(501, $0, text) } }
    }

    /// A request without a message.
    static let empty = Mistake(status: 400, text: "the body is the message, and there is none")

    /// The name that a client has, or nil if it does not say it.
    static func clientName(_ request: HTTPRequest) throws(Mistake) -> String? {
        guard let name = try only("X-Ehlo", request) else { return nil }
        guard (1...255).contains(name.utf8.count), !name.hasControls else {
            throw Mistake(
                status: 400, text: "X-Ehlo is the client's name, of up to 255 octets", code: .init(5, 5, 4))
        }
        return name
    }

    /// The message that is about to come. One recipient that is refused refuses it: whoever posts it has one answer.
    static func envelope(_ request: HTTPRequest) throws(Mistake) -> SubmissionRequest {
        try checkType(request)
        let (sender, recipients) = (try sender(request), try recipients(request))
        guard request.length != 0 else { throw empty }
        return SubmissionRequest(sender: sender, recipients: recipients, size: request.length, needsAll: true)
    }

    /// Parameters of the type say nothing: the message has its own Content-Type.
    private static func checkType(_ request: HTTPRequest) throws(Mistake) {
        if let type = try only("Content-Type", request) {
            let word = type.prefix { $0 != ";" }.lowercased()
            guard word.trimmed() == "message/rfc822" else {
                throw Mistake(status: 415, text: "Content-Type is message/rfc822")
            }
        }
        // RFC 9110 section 15.5.16.
        guard request.values("Content-Encoding").allSatisfy({ $0.lowercased().trimmed() == "identity" }) else {
            throw Mistake(
                status: 415, text: "the message is not to be compressed", field: ("Accept-Encoding", "identity"))
        }
    }

    private static func sender(_ request: HTTPRequest) throws(Mistake) -> Mailbox? {
        guard let text = try only("X-Envelope-Sender", request) else {
            throw Mistake(
                status: 400, text: "X-Envelope-Sender is missing; an empty one is the null sender",
                code: .init(5, 1, 7))
        }
        guard !text.isEmpty else { return nil }
        guard let sender = mailbox(text) else {
            throw Mistake(
                status: 400, text: "X-Envelope-Sender is an address in base64, or empty", code: .init(5, 1, 7))
        }
        return sender
    }

    /// Repeated, or several in one field with "," or ";" between them.
    private static func recipients(_ request: HTTPRequest) throws(Mistake) -> [Mailbox] {
        var recipients: [Mailbox] = []
        for field in request.values("X-Envelope-Recipient") {
            for word in field.split(whereSeparator: { $0 == "," || $0 == ";" }).map({ $0.trimmed() })
            where !word.isEmpty {
                guard let recipient = mailbox(word) else {
                    throw Mistake(
                        status: 400, text: "X-Envelope-Recipient \(recipients.count + 1) is not an address in base64",
                        code: .init(5, 1, 3))
                }
                recipients.append(recipient)
            }
        }
        guard !recipients.isEmpty else {
            throw Mistake(
                status: 400, text: "X-Envelope-Recipient is missing", code: .init(5, 1, 3))
        }
        return recipients
    }

    private static func mailbox(_ base64: String) -> Mailbox? {
        guard let octets = Base64.decode(base64.utf8), octets.count <= 1000 else { return nil }
        return Mailbox(parsing: octets.span, allowsUTF8: true)
    }

    /// The value of a field that may be there once.
    private static func only(_ name: String, _ request: HTTPRequest) throws(Mistake) -> String? {
        let values = request.values(name)
        guard values.count <= 1 else { throw Mistake(status: 400, text: "\(name) is given more than once") }
        return values.first
    }
}

extension StringProtocol {
    /// Without the blanks and tabs around it (RFC 9110 section 5.6.3).
    fileprivate func trimmed() -> String {
        let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" }
        let rest = drop(while: isBlank)
        guard let last = rest.lastIndex(where: { !isBlank($0) }) else { return "" }
        return String(rest[...last])
    }
}
