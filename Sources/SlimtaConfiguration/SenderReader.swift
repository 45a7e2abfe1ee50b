// [sender_check] and [[senders]]: who may send as whom. Called by `Configuration.parse`.

import SlimtaMail
import TOMLKit

/// Reads both, and what of them does nothing.
enum SenderReader {
    static func read(_ check: Section, tables: [Section]) -> SenderRules {
        var rules = SenderRules()
        rules.checksMailFrom = check["mail_from"]?.bool() ?? rules.checksMailFrom
        rules.checksFrom = check["from"]?.bool() ?? rules.checksFrom
        rules.matching.foldsCase = check["fold_case"]?.bool() ?? rules.matching.foldsCase
        let separators = check["extension"]?.text(
            "characters such as \"+\", or \"\" for none; no letters, digits or dots"
        ) {
            $0.utf8.count <= 8 && $0.utf8.allSatisfy { $0.isAtomText && !$0.isASCIILetterOrDigit } ? $0 : nil
        }
        rules.matching.separators = separators ?? rules.matching.separators
        rules.missingFrom = check["missing_from"]?.choice() ?? rules.missingFrom
        rules.addsSender = check["add_sender"]?.bool() ?? rules.addsSender
        rules.allowsResent = check["allow_resent"]?.bool() ?? rules.allowsResent
        check.refuseUnknownKeys()
        rules.tables = tables.compactMap(table)
        return rules
    }

    private static func table(_ table: Section) -> SenderRules.Table? {
        let logins = table.required("logins", "a list of logins, such as [\"alice\", \"*@example.com\"]")?
            .oneOrMore(of: "logins") { element in
                element.text("a login, or a glob such as \"*@example.com\"") { $0.isEmpty ? nil : Glob($0) }
            }
        let isLocal = table["local"]?.bool() ?? false
        let mailFrom = table["mail_from"].map(patterns)
        let from = table["from"].map(patterns)
        table.refuseUnknownKeys()
        if mailFrom == nil, from == nil, table.isSound("mail_from", "from") {
            table.report("mail_from", "missing", "required is mail_from or from, a list of addresses")
        }
        guard let logins else { return nil }
        return SenderRules.Table(
            logins: logins, isLocal: isLocal, mailFrom: mailFrom ?? [], from: from ?? mailFrom ?? [])
    }

    private static func patterns(_ setting: Setting) -> [SenderPattern] {
        let read: (Setting) -> SenderPattern? = { element in
            element.text(SenderPattern.allowed, didYouMean: meant) { meant($0) == nil ? SenderPattern($0) : nil }
        }
        if setting.value.array == nil { return read(setting).map { [$0] } ?? [] }
        return setting.list(of: "addresses", mayBeEmpty: true, read) ?? []
    }

    /// Where globs are known, "*@example.com" is written for a domain; to mail it is one address.
    private static func meant(_ text: String) -> String? {
        let domain = text.utf8.dropFirst(text.utf8.starts(with: "*@*.".utf8) ? 3 : 1)
        return text.utf8.starts(with: "*@".utf8)
            ? (domain.first == UInt8(ascii: ".") ? "@" : "") + String(Substring(domain)) : nil
    }
}

extension Configuration {
    /// What is said of senders and does nothing.
    var senderWarnings: [Warning] {
        var warnings: [Warning] = []
        func warn(_ path: String, _ text: String) { warnings.append(Warning(keyPath: path, text: text)) }
        let defaults = SenderRules()
        var checks = senders
        checks.tables = []
        let checksNothing = !senders.checksMailFrom && !senders.checksFrom && !senders.addsSender
        if !edges.contains(where: \.hasLogins) {
            if checks != defaults { warn("sender_check", "does nothing: no edge has AUTH or users of this machine") }
        } else if checksNothing {
            let text = "does nothing: [sender_check] compares no addresses"
            if senders.matching.separators != defaults.matching.separators { warn("sender_check.extension", text) }
            if senders.matching.foldsCase != defaults.matching.foldsCase { warn("sender_check.fold_case", text) }
        }
        if !senders.checksFrom, edges.contains(where: \.hasLogins) {
            let text = "does nothing: without from = true in [sender_check] From is not checked"
            if senders.missingFrom != defaults.missingFrom { warn("sender_check.missing_from", text) }
            if senders.allowsResent, !senders.addsSender { warn("sender_check.allow_resent", text) }
        }
        for (index, table) in senders.tables.enumerated() {
            let path = "senders[\(index)]"
            if !edges.contains(where: { $0.hasLogins && $0.isLocal == table.isLocal }) {
                let lack = table.isLocal ? "users of this machine" : "AUTH; users of this machine need local = true"
                warn(path, "it is never asked: no edge has \(lack)")
            } else if checksNothing {
                warn(path, "it is never asked: [sender_check] checks nothing")
            }
        }
        return warnings
    }
}

extension Configuration.Edge {
    /// Whether its logins are users of this machine, and not those of `[auth]`.
    fileprivate var isLocal: Bool {
        switch type {
        case .smtp, .http: false
        case .sendmail, .directory: true
        }
    }
}
