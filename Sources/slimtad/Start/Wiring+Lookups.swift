// What is looked up for clients, as slimta.conf says it: block lists and SPF. The world makes Lookups of it, and
// `slimtad explain-session` for the session that it explains.

import SlimtaConfiguration
import SlimtaEdge
import SlimtaRules

extension Configuration {
    /// What may be looked up, and for how long. `zones`: what is in the files that name zones (``Secrets/zones``).
    func lookupSettings(hostname: String, zones: [String: String]) -> Lookups.Settings {
        let reasons = RuleSet(rules).reasons
        let lists = dnsbls.map { list in
            let (zone, isSecret) =
                switch list.zone {
                case .name(let name): (name, false)
                case .file(let reference): (zones[reference] ?? "", true)
                }
            return BlockList(
                name: list.name, zone: zone, of: list.of, answers: list.answers, timeout: list.timeout,
                asksForAuthenticated: list.authenticated, wantsText: reasons.contains(.dnsbl(list.name)),
                isZoneSecret: isSecret)
        }
        // A domain's explanation costs a question more.
        let explains =
            reasons.contains(.spf) || spf.replies.values.contains { $0.text.placeholders.contains(.reason) }
        return Lookups.Settings(
            lists: lists, spfTimeout: spf.timeout, explainsSPF: explains, hostname: hostname)
    }
}
