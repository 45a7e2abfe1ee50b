// [[forward]]: whose mail goes elsewhere. Called by `Configuration.parse`.

import SlimtaRules
import TOMLKit

extension Configuration {
    /// Reads [[forward]], and what of it is never asked.
    static func readForwards(_ tables: [Section]) -> [ForwardRule] {
        tables.compactMap { table in
            defer { table.refuseUnknownKeys() }
            let allowed = "an address, \"@example.com\", \"@.example.com\" for all below it, or \"/expression/\""
            let recipient = table.required("recipient", allowed)
            let (to, reject) = (table["to"], table["reject"])
            guard let recipient else { return nil }
            // An expression without groups, to see whether the pattern itself is in order.
            let pattern = recipient.ruleValue(allowed) { text throws(RuleError) in
                _ = try ForwardRule(text, to: [])
                return text
            }
            guard let pattern else { return nil }
            switch (to, reject) {
            case (let to?, nil): return rule(pattern, to: to)
            case (nil, let reject?):
                return reject.ruleValue("a reply such as \"550 5.1.1 {recipient} has left\"") {
                    text throws(RuleError) in
                    try ForwardRule(pattern, reject: text)
                }
            case (_?, _?): table.report("reject", "found with to", "allowed is one of them")
            case (nil, nil):
                if table.isSound("to", "reject") {
                    table.report("to", "missing", "required is to, a list of addresses, or reject, a reply")
                }
            }
            return nil
        }
    }

    private static func rule(_ pattern: String, to: Setting) -> ForwardRule? {
        let allowed = "an address, or \"@example.org\" for the same local part there"
        let targets = to.oneOrMore(of: "addresses") { element in
            element.ruleValue(allowed) { text throws(RuleError) in
                _ = try ForwardRule(pattern, to: [text])
                return text
            }
        }
        guard let targets, !targets.isEmpty else { return nil }
        return try? ForwardRule(pattern, to: targets)
    }

    /// Rules that are there and do nothing.
    var forwardWarnings: [Warning] {
        guard !forwards.isEmpty else { return [] }
        var warnings = ForwardRules(forwards).unreachable.map { index, other in
            Warning(
                keyPath: "forward[\(index)]",
                text: "it is never asked: forward[\(other)] before it is for the same recipients")
        }
        if !queue.policies.contains(.forward) {
            warnings.append(
                Warning(keyPath: "forward[0]", text: "nobody is forwarded: \"forward\" is not in policies of [queue]"))
        }
        return warnings
    }
}
