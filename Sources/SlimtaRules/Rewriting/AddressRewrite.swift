// What an address is on one way out, and which fields go with the message there: `rewrite_sender`, `rewrite_recipient` and
// `add_fields` of [relay] and [[route]]. The configuration reads them; a relay applies them at each attempt, and nothing of it
// is stored.

package import SlimtaMail

/// One rule for addresses, of the forms that `[[forward]]` has.
package struct AddressRewrite: Hashable, Sendable {
    /// Which addresses are meant.
    package struct Origin: Hashable, Sendable {
        /// nil: the null reverse-path.
        fileprivate let pattern: TextPattern?

        /// "a@example.com", "@example.com" for a domain, "@.example.com" for all below it, "*" for all.
        /// - Parameter allowsNull: whether "<>" is allowed, the null reverse-path; no other rule is for that.
        package init(_ text: String, allowsNull: Bool) throws(RuleError) {
            if allowsNull, text == "<>" {
                pattern = nil
                return
            }
            guard text == "*" || text.begins(with: "@") || Mailbox(parsing: text) != nil else {
                throw RuleError(
                    "\"\(text.visible.cut(toOctets: 64))\"",
                    "an address, \"@example.com\" for a domain, \"@.example.com\" for all below it, \"*\" for all"
                        + (allowsNull ? ", or \"<>\" for the null sender" : ""))
            }
            pattern = try TextPattern(text)
        }
    }

    /// What they become.
    package enum Target: Hashable, Sendable {
        /// The null reverse-path.
        case null
        /// This one.
        case address(Mailbox)
        /// The same local part there.
        case domain(String)

        /// "b@example.org", or "@example.org" for the same local part there.
        /// - Parameter allowsNull: whether "<>" is allowed.
        package init(_ text: String, allowsNull: Bool) throws(RuleError) {
            if allowsNull, text == "<>" {
                self = .null
            } else if let address = Mailbox(parsing: text) {
                self = .address(address)
            } else if text.begins(with: "@"), let address = Mailbox(parsing: "x" + text) {
                self = .domain(String(address.domain))
            } else {
                throw RuleError(
                    "\"\(text.visible.cut(toOctets: 64))\"",
                    "an address, or \"@example.org\" for the same local part there"
                        + (allowsNull ? ", or \"<>\" for none" : ""))
            }
        }
    }

    private let origin: Origin
    private let target: Target

    /// Addresses of `origin` become `target`.
    package init(_ origin: Origin, to target: Target) { (self.origin, self.target) = (origin, target) }

    /// What an address becomes; nil: the rule is not for it. An address of nil is the null reverse-path.
    fileprivate func rewritten(_ address: Mailbox?) -> Mailbox?? {
        switch (address, origin.pattern) {
        case (nil, nil): break
        case (let address?, let pattern?): guard pattern.matches(address.unquoted) == true else { return nil }
        case (nil, _?), (_?, nil): return nil
        }
        switch target {
        case .null: return .some(nil)
        case .address(let mailbox): return mailbox
        // The null reverse-path has no local part that could be kept.
        case .domain(let domain): return .some(address.map { Mailbox(localPart: String($0.localPart), domain: domain) })
        }
    }
}

/// All that one way out does to what goes there.
package struct RouteRewrites: Hashable, Sendable {
    /// `rewrite_sender`, in its order.
    package var senders: [AddressRewrite] = []
    /// `rewrite_recipient`, in its order.
    package var recipients: [AddressRewrite] = []
    /// `add_fields`.
    package var fields: [FieldTemplate] = []

    /// Nothing is done.
    package init() {}

    /// Whether nothing is done.
    package var isEmpty: Bool { self == RouteRewrites() }

    /// The sender there: what the first rule says that is for it, else itself. nil is the null reverse-path, which stays so
    /// unless a rule is for "<>".
    package func sender(_ sender: Mailbox?) -> Mailbox? {
        for rule in senders { if let rewritten = rule.rewritten(sender) { return rewritten } }
        return sender
    }

    /// A recipient there: what the first rule says that is for it, else itself.
    package func recipient(_ recipient: Mailbox) -> Mailbox {
        for rule in recipients { if case let rewritten?? = rule.rewritten(recipient) { return rewritten } }
        return recipient
    }

    /// What `add_fields` may have in braces: what is known of a message in the queue.
    private static let known: Set<Template.Placeholder> = [.client, .ehlo, .edge, .login, .sender]

    /// Why a field cannot be filled at an attempt; nil: it can.
    package static func problem(of field: FieldTemplate) -> RuleError? {
        let unknown = field.value.placeholders.subtracting(known)
        guard let first = unknown.map(\.rawValue).min() else { return nil }
        let all = Template.Placeholder.allCases.filter(known.contains).map { "{\($0.rawValue)}" }
        return RuleError("{\(first)}, which is not known when a message leaves", all.joined(separator: ", "))
    }

    /// The fields of an envelope, each with CRLF, in their order; what strangers wrote is printable ASCII in them.
    package func fields(of envelope: Envelope) -> String {
        fields.map { field in
            field.field { placeholder in
                switch placeholder {
                case .client: envelope.client.address.isEmpty ? "local" : envelope.client.address
                case .ehlo: envelope.client.name
                case .edge: envelope.client.edge
                case .login: envelope.client.login ?? "nobody"
                case .sender: envelope.senderText
                case .ptr, .uniqueID, .recipient, .reason, .rule: ""
                }
            }
        }.joined()
    }
}
