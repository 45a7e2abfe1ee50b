// A zone in memory that answers what a check asks: for the suite, and for tests of our own.

import SlimtaMail

@testable import SlimtaSPF

/// Names and their records.
struct Zone {
    /// What one name has. A type that is not there has no records.
    struct Name {
        var texts: [[UInt8]]?
        var policies: [[UInt8]] = []
        var addresses: [SPFLookup.RecordType: [IPAddress]] = [:]
        var exchangers: [String] = []
        var names: [String] = []
        var alias: String?
        /// Whether nobody answers for what is not there.
        var timesOut = false
    }

    private var names: [[UInt8]: Name] = [:]

    subscript(name: [UInt8]) -> Name? {
        get { names[Self.folded(name)] }
        set { names[Self.folded(name)] = newValue }
    }

    subscript(name: String) -> Name {
        get { self[Array(name.utf8)] ?? Name() }
        set { self[Array(name.utf8)] = newValue }
    }

    private static func folded(_ name: [UInt8]) -> [UInt8] {
        var name = name.map { $0.asciiLowercased() }
        if name.last == UInt8(ascii: ".") { name.removeLast() }
        return name
    }

    /// A zone in short: "example.com TXT v=spf1 -all", a record each; "example.com TIMEOUT".
    init(_ lines: String...) {
        for line in lines {
            let parts = line.split(separator: " ", maxSplits: 2).map(String.init)
            let value = parts.count > 2 ? parts[2] : ""
            switch parts[1] {
            case "TXT": self[parts[0]].texts = (self[parts[0]].texts ?? []) + [Array(value.utf8)]
            case "A": self[parts[0]].addresses[.a, default: []].append(IPAddress(value)!)
            case "AAAA": self[parts[0]].addresses[.aaaa, default: []].append(IPAddress(value)!)
            case "MX": self[parts[0]].exchangers.append(value)
            case "PTR": self[parts[0]].names.append(value)
            case "CNAME": self[parts[0]].alias = value
            case "TIMEOUT": self[parts[0]].timesOut = true
            default: break
            }
        }
    }

    /// What a name server says, aliases followed.
    func answer(_ lookup: SPFLookup) -> SPFAnswer {
        var asked = lookup.name
        for _ in 0..<8 {
            if asked.starts(with: "error.".utf8) { return .failed("SERVFAIL") }
            guard let name = self[asked] else { return .noSuchName }
            guard let alias = name.alias else { return name.answer(lookup.type) }
            asked = Array(alias.utf8)
        }
        return .failed("SERVFAIL")
    }

    /// Runs a check to its end. `lookups`: what it asked for, in order.
    func run(_ check: SPFCheck, lookups: inout [SPFLookup]) -> SPFOutcome {
        var check = check
        while true {
            switch check.step {
            case .done(let outcome): return outcome
            case .lookup(let lookup):
                lookups.append(lookup)
                check.answered(answer(lookup))
            }
        }
    }

    /// As ``run(_:lookups:)``, of a check of these.
    func check(
        _ client: String, _ sender: Mailbox?, helo: String = "mail.example.com", explains: Bool = true
    ) -> (outcome: SPFOutcome, asked: [String]) {
        let check = SPFCheck(
            client: IPAddress(client)!, helo: helo, sender: sender, receiver: "mx.example.net", time: 1_700_000_000,
            wantsExplanation: explains)
        var lookups: [SPFLookup] = []
        let outcome = run(check, lookups: &lookups)
        return (outcome, lookups.map { "\($0.type) \(String(decoding: $0.name, as: UTF8.self))" })
    }
}

extension Zone.Name {
    fileprivate func answer(_ type: SPFLookup.RecordType) -> SPFAnswer {
        let answer: SPFAnswer =
            switch type {
            case .txt: .texts(texts ?? policies)
            case .a, .aaaa: .addresses(addresses[type] ?? [])
            case .mx: .names(exchangers)
            case .ptr: .names(names)
            }
        return timesOut && answer.isVoid ? .failed("timed out") : answer
    }
}
