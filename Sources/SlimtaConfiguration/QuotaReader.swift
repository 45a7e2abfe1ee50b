// [quota]: how much who may send, and what holds a login. Called by `Configuration.parse`.

import SlimtaMail
import SlimtaRules
import TOMLKit

/// Reads the table, and what of it does nothing.
enum QuotaReader {
    /// nil: the file has no such table, and nothing is counted.
    static func read(_ table: Section) -> QuotaRules? {
        var rules = QuotaRules()
        rules.action = table["action"]?.choice() ?? rules.action
        rules.notify = table["notify"]?.text("an address such as \"postmaster@example.com\"") {
            Mailbox(parsing: $0, allowsUTF8: true)
        }
        rules.heldMessages = table["held_messages"]?.integer(1...1_000_000) ?? rules.heldMessages
        rules.heldSize = table["held_size"]?.size(1...1 << 40) ?? rules.heldSize
        rules.learning = table["learning"]?.duration(.seconds(0) ... .days(365)) ?? rules.learning
        rules.learningRecipients = table["learning_recipients"]?.integer(0...1_000_000) ?? rules.learningRecipients
        rules.limits = limits(table, from: rules.limits)
        rules.exceptions = table.sections("except").compactMap(exception)
        table.refuseUnknownKeys()
        return table.exists ? rules : nil
    }

    /// The tables of the three levels; what they do not say is as in `limits`.
    private static func limits(_ table: Section, from limits: QuotaLimits) -> QuotaLimits {
        var limits = limits
        for level in QuotaLimits.Level.allCases {
            let section = table.section(level.rawValue)
            for counter in QuotaCounter.allCases {
                read(section, counter, into: &limits[level])
            }
            if level == .breaker, let setting = section["refused_share"] {
                limits.refusedShare = setting.string == none ? nil : setting.integer(1...100) ?? limits.refusedShare
            }
            section.refuseUnknownKeys()
        }
        return limits
    }

    private static let none = "none"

    /// `messages = { per_hour = 300, per_day = 2000 }`, or "none" in the place of a number or of both.
    private static func read(_ section: Section, _ counter: QuotaCounter, into limits: inout [QuotaLimits.Limit]) {
        guard let setting = section[counter.rawValue] else { return }
        if setting.string == none { return limits.removeAll { $0.counter == counter } }
        guard setting.value.table != nil else {
            return setting.refuse("allowed is { per_hour = 100, per_day = 500 }, or \"none\"")
        }
        let windows = section.section(counter.rawValue)
        for window in QuotaWindow.allCases {
            guard let setting = windows[window.rawValue] else { continue }
            let place = limits.firstIndex { $0.counter == counter && $0.window == window }
            if setting.string == none {
                if let place { limits.remove(at: place) }
            } else if let most = setting.integer(1...min(1_000_000_000, counter.most - 1)) {
                if let place { limits[place].most = most } else { limits.append(.init(counter, window, most)) }
            }
        }
        windows.refuseUnknownKeys()
    }

    /// One `[[quota.except]]`.
    private static func exception(_ table: Section) -> QuotaRules.Exception? {
        let logins = table["logins"]?.oneOrMore(of: "logins") { element in
            element.text("a login, or a glob such as \"app-*\"") { $0.isEmpty ? nil : Glob($0) }
        }
        let networks = table["networks"]?.oneOrMore(of: "networks") { element in
            element.text(
                "an address or a network such as \"192.0.2.0/24\"",
                didYouMean: { NetworkRange.enclosing($0)?.description }, { NetworkRange($0) })
        }
        let limits = limits(table, from: QuotaLimits())
        if !table.has("logins"), !table.has("networks"), table.isSound("logins", "networks") {
            table.report("logins", "missing", "required is logins or networks: for whom it is")
        }
        table.refuseUnknownKeys()
        guard logins != nil || networks != nil else { return nil }
        return QuotaRules.Exception(logins: logins ?? [], networks: networks ?? [], limits: limits)
    }
}

extension Configuration {
    /// What is said of quotas and does nothing.
    var quotaWarnings: [Warning] {
        guard let quota else { return [] }
        var warnings = Self.warnings(of: quota.limits, at: "quota")
        for (index, exception) in quota.exceptions.enumerated() {
            let path = "quota.except[\(index)]"
            warnings += Self.warnings(of: exception.limits, at: path)
            if !exception.logins.isEmpty, exception.networks.isEmpty, !edges.contains(where: \.hasLogins) {
                let text = "it is for nobody: no edge has AUTH or users of this machine"
                warnings.append(Warning(keyPath: path, text: text))
            }
            for level in QuotaLimits.Level.allCases
            where exception.logins.isEmpty && exception.limits[level].contains(where: { $0.counter == .networks }) {
                let text = "it does nothing without logins: who has none is one address"
                warnings.append(Warning(keyPath: "\(path).\(level.rawValue).networks", text: text))
            }
        }
        if quota.notify != nil {
            let limits = [quota.limits] + quota.exceptions.filter { !$0.logins.isEmpty }.map(\.limits)
            let text: String? =
                limits.allSatisfy { $0.breaker.isEmpty && $0.refusedShare == nil }
                ? "nobody is told of anything: [quota.breaker] has no limits, so it holds nobody"
                : edges.contains(where: \.hasLogins)
                    ? nil : "nobody is told of anything: no edge has AUTH or users of this machine, so no login is held"
            if let text { warnings.append(Warning(keyPath: "quota.notify", text: text)) }
        }
        let defaults = QuotaRules()
        guard edges.contains(where: \.hasLogins) else {
            // Who has no login is never held, and new or not is refused what would hold a login.
            let set = [
                ("action", quota.action != defaults.action),
                ("held_messages", quota.heldMessages != defaults.heldMessages),
                ("held_size", quota.heldSize != defaults.heldSize), ("learning", quota.learning != defaults.learning),
                ("learning_recipients", quota.learningRecipients != defaults.learningRecipients),
            ]
            let text = "does nothing: it is about logins, and no edge has AUTH or users of this machine"
            return warnings + set.filter(\.1).map { Warning(keyPath: "quota.\($0.0)", text: text) }
        }
        let isSet = quota.heldMessages != defaults.heldMessages || quota.heldSize != defaults.heldSize
        if quota.action == .refuse, isSet {
            let text = "held_messages and held_size do nothing with action = \"refuse\": nothing is held"
            warnings.append(Warning(keyPath: "quota.action", text: text))
        }
        return warnings
    }

    /// Limits that others stand before.
    private static func warnings(of limits: QuotaLimits, at path: String) -> [Warning] {
        var warnings: [Warning] = []
        for level in QuotaLimits.Level.allCases {
            for limit in limits[level] {
                let key = "\(path).\(level.rawValue).\(limit.counter.rawValue)"
                let before = level == .hard ? [] : limits.hard
                if let hard = before.first(where: { $0.counter == limit.counter && $0.window == limit.window }),
                    hard.most <= limit.most
                {
                    let text =
                        "\(limit.most) \(limit.window.rawValue) is never exceeded: hard refuses more than \(hard.most)"
                    warnings.append(Warning(keyPath: key, text: text))
                }
                if limit.window == .hour,
                    let day = limits[level].first(where: { $0.counter == limit.counter && $0.window == .day }),
                    day.most <= limit.most
                {
                    let text = "per_hour = \(limit.most) does nothing: per_day = \(day.most) is not more"
                    warnings.append(Warning(keyPath: key, text: text))
                }
            }
        }
        return warnings
    }
}
