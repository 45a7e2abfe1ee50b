// `rewrite_sender`, `rewrite_recipient` and `add_fields` of [relay] and [[route]]. Used by RelayReader.

import SlimtaRules

extension RouteRewrites {
    /// What the table does not say stays as it is.
    mutating func read(_ table: Section) {
        senders = Self.rules(table, "rewrite_sender", of: "sender", allowsNull: true) ?? senders
        recipients = Self.rules(table, "rewrite_recipient", of: "recipient", allowsNull: false) ?? recipients
        fields =
            table["add_fields"]?.list(of: "fields", mayBeEmpty: true) { element in
                element.ruleValue("a field such as \"X-Relay: {edge}\"") { text throws(RuleError) in
                    let field = try FieldTemplate(text)
                    if let problem = RouteRewrites.problem(of: field) { throw problem }
                    return field
                }
            } ?? fields
    }

    /// nil: the table says nothing of it.
    private static func rules(
        _ table: Section, _ key: String, of address: String, allowsNull: Bool
    ) -> [AddressRewrite]? {
        let entries = table.sections(key)
        guard table.has(key) else { return nil }
        return entries.compactMap { entry in
            let origin = entry.required(address, "an address, or \"@example.com\" for a domain")?
                .ruleValue("an address") { text throws(RuleError) in
                    try AddressRewrite.Origin(text, allowsNull: allowsNull)
                }
            let target = entry.required("to", "the address in its place, or \"@example.org\" for the same name there")?
                .ruleValue("an address") { text throws(RuleError) in
                    try AddressRewrite.Target(text, allowsNull: allowsNull)
                }
            entry.refuseUnknownKeys()
            guard let origin, let target else { return nil }
            return AddressRewrite(origin, to: target)
        }
    }
}
