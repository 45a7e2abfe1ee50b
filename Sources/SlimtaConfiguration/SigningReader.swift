// [signing] and [[dkim]]: for whom mail is signed, and with which keys. Called by `Configuration.parse`.

import SlimtaDKIM
import SlimtaMail
import TOMLKit

/// Reads both, and what fits badly together.
enum SigningReader {
    static func read(_ signing: Section, tables: [Section]) -> SigningSettings {
        var settings = SigningSettings()
        var seen = Seen()
        settings.keys = tables.compactMap { key($0, &seen) }
        if let setting = signing["otherwise"] {
            let allowed = "\"unsigned\", \"refuse\", or a domain of [[dkim]]"
            settings.otherwise = otherwise(setting, settings.names, allowed) ?? settings.otherwise
        }
        if let setting = signing["x_after"] {
            settings.expiry =
                setting.string == "never"
                ? .never
                : setting.duration(.hours(1) ... .days(365), or: ", or \"never\"").map { .after($0) } ?? .usual
        }
        signing.refuseUnknownKeys()
        return settings
    }

    private static func otherwise(
        _ setting: Setting, _ names: [String], _ allowed: String
    ) -> SigningDomains.Otherwise? {
        // What [[dkim]] has is not known where it has mistakes.
        let isCertain =
            setting.mistakes.isSound("dkim") && setting.mistakes.document.isTellingAbsence(ofTable: "dkim")
        switch setting.string {
        case "unsigned": return .unsigned
        case "refuse":
            // Without keys there is nobody who refuses: all would go unsigned.
            guard !names.isEmpty || !isCertain else {
                return setting.refuse("allowed is it with a table [[dkim]] for the domains whose mail is to be signed")
            }
            return .refuse
        default:
            let name = setting.text(allowed) { HostName.fold($0)?.foldedAsDomain() }
            guard let name else { return nil }
            guard names.contains(name) || !isCertain else { return setting.refuse("allowed is \(allowed)") }
            return .domain(name)
        }
    }

    // MARK: [[dkim]]

    /// What tables before have said.
    private struct Seen {
        var records: [String: String] = [:]
        var made: [String: String] = [:]
        var subdomains: [String: (Bool, String)] = [:]
        var gates: [String: (SelectorTable.Gate, String)] = [:]
    }

    private static func key(_ table: Section, _ seen: inout Seen) -> SigningSettings.Key? {
        let domains = table.required("domains", "a list of domains, such as [\"example.com\"]")?
            .distinctList(of: "domains", mayBeEmpty: false, domain)
        let algorithm = table["algorithm"]?.choice(of: DKIMAlgorithm.self)
        let selector = table["selector"]?.text("a name such as \"s2026\": letters, digits, hyphens, dots") { text in
            SelectorName(domain: "example.com", selector: text, algorithm: .rsaSHA256)?.selector
        }
        let file = table["key_file"]?.fileReference()
        let (subdomains, gate) = (table["subdomains"]?.bool(), table["gate"]?.choice(of: SelectorTable.Gate.self))
        table.refuseUnknownKeys()
        if table.has("selector"), !table.has("key_file"), table.isSound("key_file") {
            table.report(
                "selector", "found without key_file",
                "allowed is it with that: keys that slimtad makes have the names that slimtad dkim generate gives them")
        }
        if table.has("key_file"), !table.has("selector"), table.isSound("selector") {
            table.report("selector", "missing", "required is it with key_file: the name that DNS has the key under")
        }
        guard let domains, !domains.isEmpty, table.isSound("algorithm", "selector", "key_file") else { return nil }
        var key = SigningSettings.Key(domains: domains)
        key.algorithm = algorithm ?? key.algorithm
        if let file, let selector { key.source = .file(file, selector: selector) }
        (key.subdomains, key.gate) = (subdomains, gate)
        compare(key, table, &seen)
        return key
    }

    private static func domain(_ setting: Setting) -> String? {
        let allowed = "a domain such as \"example.com\", which stands for all below it too"
        return setting.text(allowed) { text in
            guard let name = HostName.fold(text)?.foldedAsDomain(), !HostName.looksLikeAddress(name),
                name.utf8.contains(UInt8(ascii: "."))
            else { return nil }
            return SelectorName(domain: name, selector: "s", algorithm: .rsaSHA256)?.domain
        }
    }

    /// Reports what tables before say otherwise.
    private static func compare(_ key: SigningSettings.Key, _ table: Section, _ seen: inout Seen) {
        for domain in key.domains {
            switch key.source {
            case .made:
                if let other = seen.made.updateValue(table.path, forKey: "\(domain) \(key.algorithm.rawValue)") {
                    table.report(
                        "domains", "found \(domain) with \(key.algorithm.rawValue), which \(other) has",
                        "allowed is one table without key_file for each: the next key is made by slimtad dkim rotate")
                }
            case .file(_, let selector):
                guard SelectorName(domain: domain, selector: selector, algorithm: key.algorithm) != nil else {
                    table.report("selector", "too long a name with \(domain)", "allowed are up to 253 octets in all")
                    continue
                }
                if let other = seen.records.updateValue(table.path, forKey: "\(selector) \(domain)") {
                    table.report(
                        "selector", "found \(KeyPath.quoted(selector)) of \(domain), which \(other) has",
                        "allowed is a name of its own for each key: DNS has one record for each")
                }
            }
            if let says = key.subdomains {
                if let (other, path) = seen.subdomains[domain], other != says {
                    table.report(
                        "subdomains", "found \(says), and \(path) says \(other) of \(domain)", "allowed is one")
                }
                seen.subdomains[domain] = (says, table.path)
            }
            if let gate = key.gate {
                if let (other, path) = seen.gates[domain], other != gate {
                    table.report(
                        "gate",
                        "found \"\(gate.rawValue)\", and \(path) says \"\(other.rawValue)\" of \(domain)",
                        "allowed is one")
                }
                seen.gates[domain] = (gate, table.path)
            }
        }
    }
}

extension Configuration {
    /// What of the signing is surely not meant.
    var signingWarnings: [Warning] {
        guard !signing.keys.isEmpty else {
            let text = "nothing is signed: there is no table [[dkim]]"
            return signing == SigningSettings() ? [] : [Warning(keyPath: "signing", text: text)]
        }
        var warnings: [Warning] = []
        for name in signing.names {
            guard let index = signing.keys.firstIndex(where: { $0.domains.contains(name) }) else { continue }
            if !signing.keys.contains(where: { $0.domains.contains(name) && $0.algorithm == .rsaSHA256 }) {
                let text =
                    "\(name) has no key for rsa-sha256: for all who do not know ed25519-sha256 its mail is unsigned"
                warnings.append(Warning(keyPath: "dkim[\(index)].algorithm", text: text))
            }
            if signing.gate(of: name) == .off {
                let text = "gate = \"off\": mail from \(name) is signed whether or not DNS has the key"
                warnings.append(Warning(keyPath: "dkim[\(index)].gate", text: text))
            }
        }
        if !senders.checksFrom, edges.contains(where: \.hasLogins) {
            let text =
                "every login has mail from all of these domains signed: From is its own only with from = true in "
                + "[sender_check]"
            warnings.append(Warning(keyPath: "dkim[0].domains", text: text))
        }
        return warnings
    }
}
