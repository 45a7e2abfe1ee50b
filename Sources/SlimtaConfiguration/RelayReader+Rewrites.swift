// `rewrite_sender`, `rewrite_recipient` and `add_fields` of [relay] and [[route]]. Used by RelayReader.

import SlimtaDKIM
import SlimtaMail
import SlimtaRules

extension RouteRewrites {
    /// What the table does not say stays as it is.
    ///
    /// - Parameter isSigned: there are signatures on what goes there, which nothing that is added may break.
    mutating func read(_ table: Section, isSigned: Bool) {
        senders = Self.rules(table, "rewrite_sender", of: "sender", allowsNull: true) ?? senders
        recipients = Self.rules(table, "rewrite_recipient", of: "recipient", allowsNull: false) ?? recipients
        fields =
            table["add_fields"]?.list(of: "fields", mayBeEmpty: true) { element in
                element.ruleValue("a field such as \"X-Relay: {edge}\"") { text throws(RuleError) in
                    let field = try FieldTemplate(text)
                    if let problem = RouteRewrites.problem(of: field) { throw problem }
                    if isSigned, SignedNames.isClosed(field.name.asciiLowercased()) {
                        throw RuleError(
                            "the field \(field.name), of which signatures ([[dkim]]) say that there is no further one",
                            "another one, or this one as add_field of a rule: that comes before signatures")
                    }
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
