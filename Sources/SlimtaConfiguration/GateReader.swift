// [[policy_service]], [spf] and [[dnsbl]]: whom the gate asks beside its rules. Called by `Configuration.parse`; [[rule]] is
// read by RuleReader.

import SlimtaMail
import SlimtaRules
import TOMLKit

extension Configuration {
    /// Reads [[policy_service]].
    static func readPolicyServices(_ tables: [Section]) -> [PolicyService] {
        var names: [String: String] = [:]
        return tables.compactMap { table in
            defer { table.refuseUnknownKeys() }
            return PolicyService(table, &names)
        }
    }

    /// Reads [[dnsbl]].
    static func readDNSBLs(_ tables: [Section]) -> [DNSBL] {
        var names: [String: String] = [:]
        return tables.compactMap { table in
            defer { table.refuseUnknownKeys() }
            return DNSBL(table, &names)
        }
    }
}

extension Section {
    /// The name that `setting` gives this table; reported, and nil, if another table of its kind has it. `names` says who
    /// has which.
    func name(_ setting: Setting?, _ names: inout [String: String], allowed: String, _ isName: (String) -> Bool)
        -> String?
    {
        guard let setting, let name = setting.text(allowed, { isName($0) ? $0 : nil }) else { return nil }
        if let other = names.updateValue(path, forKey: name) {
            report("name", "found \(setting.shown), which \(other) has", "allowed is a name of its own")
            return nil
        }
        return name
    }

    /// A name of one word.
    func word(_ setting: Setting?, _ names: inout [String: String]) -> String? {
        name(setting, &names, allowed: "up to 64 letters, digits and any of \"-_.\"") { name in
            (1...64).contains(name.utf8.count) && name.utf8.allSatisfy(Setting.isNameOctet)
        }
    }
}

extension Configuration.PolicyService {
    /// nil if something without which there is no service is missing or wrong; that was reported.
    fileprivate init?(_ table: Section, _ names: inout [String: String]) {
        let to = table.required("to", "where it listens, such as \"127.0.0.1:10040\" or \"unix:/path\"")?
            .address("\"address:port\", \"[v6]:port\", \"localhost:port\" or \"unix:/path\"", ServiceAddress.init)
        let stages = table.required("at", "the stages at which it is asked, such as \"rcpt\"")?
            .oneOrMore(of: "stages") { (element) -> Stage? in
                let words = Stage.allCases.filter(PolicyRequest.stages.contains).map(\.rawValue)
                let allowed = words.map { "\"\($0)\"" }.joined(separator: ", ")
                let stage = element.string.flatMap(Stage.init(rawValue:))
                if let stage, !PolicyRequest.stages.contains(stage) {
                    return element.refuse("the protocol has no word for that stage; allowed is \(allowed)")
                }
                return element.text(allowed, didYouMean: { Spelling.nearest(to: $0, among: words) }) { _ in stage }
            }
        let name = table.name(orAddress: to, &names)
        timeout = table["timeout"]?.duration(.seconds(1) ... .seconds(60)) ?? timeout
        onFailure = table["on_failure"]?.choice() ?? onFailure
        let context = table["context"]?.text("up to 512 characters without control characters") { text in
            text.utf8.count <= 512 && text.isVisible ? text : nil
        }
        guard let to, let name, let stages, !stages.isEmpty else { return nil }
        self.to = to
        self.name = name
        self.stages = Set(stages)
        self.context = context ?? ""
    }
}

extension Configuration.SPF {
    mutating func read(_ table: Section) {
        for result in SPFResult.allCases {
            guard let setting = table[result.rawValue] else { continue }
            guard setting.value.table != nil else {
                setting.refuse("allowed is { code = 550, message = \"5.7.1 Access denied: {reason}\" }")
                continue
            }
            if let reply = Self.reply(table.section(result.rawValue)) { replies[result] = reply }
        }
        authenticated = table["authenticated"]?.bool() ?? authenticated
        receivedSPF = table["received_spf"]?.bool() ?? receivedSPF
        timeout = table["timeout"]?.duration(.seconds(1) ... .seconds(120)) ?? timeout
        table.refuseUnknownKeys()
    }

    /// What `[spf]` has for one result.
    private static func reply(_ table: Section) -> ReplyTemplate? {
        let code = table.required("code", "a number from 400 to 599")?.integer(400...599)
        let allowed = "a text such as \"5.7.1 Access denied: {reason}\""
        let message = table.required("message", allowed)
        table.refuseUnknownKeys()
        guard let message else { return nil }
        let reply = message.ruleValue(allowed) { text throws(RuleError) in
            let reply = try ReplyTemplate(UInt16(code ?? 550), text)
            if let problem = reply.text.problem(at: .mail) { throw problem }
            return reply
        }
        return code == nil ? nil : reply
    }
}

extension Configuration.DNSBL {
    /// nil if something without which there is no list is missing or wrong; that was reported.
    fileprivate init?(_ table: Section, _ names: inout [String: String]) {
        let name = table.word(table.required("name", "the name by which rules call it"), &names)
        let zone = Self.zone(table)
        let of = table["of"]?.choice(of: ListSubject.self) ?? .client
        self.of = of
        answers = table["answers"]?.oneOrMore(of: "addresses", Self.answers) ?? of.usualAnswers
        timeout = table["timeout"]?.duration(.seconds(1) ... .seconds(30)) ?? timeout
        authenticated = table["authenticated"]?.bool() ?? authenticated
        guard let name, let zone else { return nil }
        self.name = name
        self.zone = zone
    }

    private static func zone(_ table: Section) -> Zone? {
        let name = table["zone"]?.text("a domain name such as \"zen.spamhaus.org\"") { text -> String? in
            HostName.fold(text.utf8.last == UInt8(ascii: ".") ? text.dropLast() : text[...])
        }
        let file = table["zone_file"]?.fileReference()
        switch (table.has("zone"), table.has("zone_file")) {
        case (true, true):
            if table.isSound("zone", "zone_file") {
                table.report("zone_file", "found with zone", "allowed is one of them")
            }
            return nil
        case (false, false):
            // Asked for the telling of its absence alone.
            if table.isSound("zone", "zone_file") {
                table.report(
                    "zone", "missing",
                    "required is the list's domain name, or zone_file if that has a key of yours in it")
            }
            return nil
        case (true, false): return name.map { .name($0) }
        case (false, true): return file.map { .file($0) }
        }
    }

    /// "127.0.0.2", "127.0.0.2-127.0.0.11", "127.0.0.0/24".
    private static func answers(_ setting: Setting) -> ClosedRange<UInt32>? {
        let allowed = "\"127.0.0.2\", \"127.0.0.4-127.0.0.7\" or \"127.0.1.0/24\", all within 127.0.0.0/8"
        guard let range = setting.text(allowed, answerRange) else { return nil }
        // Spamhaus, and who does as they do: the list did not like how it was asked.
        let refusals: ClosedRange<UInt32> = 0x7FFF_FF00...0x7FFF_FFFF
        if refusals.contains(range.lowerBound), refusals.contains(range.upperBound) {
            return setting.refuse("in 127.255.255.0/24 lists say why they refuse to answer; allowed is \(allowed)")
        }
        return range
    }

    private static func answerRange(_ text: String) -> ClosedRange<UInt32>? {
        func number(_ address: IPAddress) -> UInt32? {
            address.isIPv4 ? address.octets.reduce(0) { $0 << 8 | UInt32($1) } : nil
        }
        let range: ClosedRange<UInt32>
        if let dash = text.firstIndex(of: "-") {
            guard let first = IPAddress(text[..<dash]).flatMap(number),
                let last = IPAddress(text[text.index(after: dash)...]).flatMap(number), first <= last
            else { return nil }
            range = first...last
        } else {
            guard let network = NetworkRange(text), let first = number(network.base) else { return nil }
            range = first...first + UInt32((UInt64(1) << (32 - network.prefixLength)) - 1)
        }
        return range.lowerBound >> 24 == 127 && range.upperBound >> 24 == 127 ? range : nil
    }
}
