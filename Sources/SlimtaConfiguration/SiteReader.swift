// [[site]]: what an operator knows of the limits of hosts that mail goes to. Called by `Configuration.parse`.

import SlimtaMail
import TOMLKit

extension Configuration {
    /// Reads [[site]].
    static func readSites(_ tables: [Section]) -> [SiteSettings] {
        var taken: [DomainPattern: String] = [:]
        return tables.compactMap { table in
            defer { table.refuseUnknownKeys() }
            return SiteSettings(table, &taken)
        }
    }
}

extension Configuration {
    /// What is more than relays ever do.
    var siteWarnings: [Warning] {
        sites.enumerated().flatMap { index, site in
            [
                ("messages_per_session", site.messagesPerSession),
                ("recipients_per_transaction", site.recipientsPerTransaction),
            ].compactMap { key, value in
                guard let value, value > SiteSettings.most else { return nil }
                return Warning(
                    keyPath: "site[\(index)].\(key)",
                    text: "\(value) counts as \(SiteSettings.most): no relay does more")
            }
        }
    }
}

extension SiteSettings {
    /// nil if something without which it means nothing is missing or wrong; that was reported.
    fileprivate init?(_ table: Section, _ taken: inout [DomainPattern: String]) {
        let hosts = table.required("hosts", "a list such as [\"mx.example.net\", \"*.mx.example.org\"]")?
            .list(of: "hosts", mayBeEmpty: false) { element -> DomainPattern? in
                let allowed = "the name of a host, \"*.mx.example.org\" for all below it, or \"*\""
                guard let pattern = element.text(allowed, DomainPattern.init) else { return nil }
                if let other = taken.updateValue(element.path, forKey: pattern) {
                    element.mistakes.report(
                        element.path, "found \(element.shown), which \(other) has", "allowed is each once")
                    return nil
                }
                return pattern
            }
        connections = table["connections"]?.integer(1...100_000)
        rate = table["rate"]?.text(RateText.form, RateText.perSecond)
        messagesPerSession = table["messages_per_session"]?.integer(1...100_000)
        recipientsPerTransaction = table["recipients_per_transaction"]?.integer(1...100_000)
        let limits = ["connections", "rate", "messages_per_session", "recipients_per_transaction"]
        if !limits.contains(where: table.has) {
            if limits.contains(where: { table.mistakes.document.isTellingAbsence(of: $0, in: table.path) }) {
                table.report("connections", "missing", "required is one of \(limits.joined(separator: ", "))")
            }
            return nil
        }
        guard let hosts else { return nil }
        self.hosts = hosts
    }
}
