// Rules: what an operator writes in them, and what strangers say that they are compared with.

import NIOCore
import SlimtaMail

@testable import SlimtaRules

extension FuzzTarget {
    /// Patterns, lists and templates are read without harm, say what they should, and let nothing out of its place; what
    /// explains rules says what evaluates them.
    static let rules = FuzzTarget(name: "rules", maximumLength: 1024) { octets in
        var choices = Choices(octets)
        switch choices.number(below: 5) {
        case 0: try checkPatterns(choices.text(), choices.text(), choices.text())
        case 1: try checkTemplates(choices.text(), choices.text())
        case 2: try checkComparisons(choices.text())
        case 3: try checkList(String(decoding: choices.rest, as: UTF8.self))
        default: try checkEvaluation(&choices)
        }
    }
}

private func checkPatterns(_ first: String, _ second: String, _ text: String) throws {
    guard let pattern = try? TextPattern(first) else { return }
    let found = pattern.matches(text)
    try same(pattern.matches(text), found, "\(first.visible) and \(text.visible), twice")
    try hold(found != nil || first.isExpression, "\(first.visible) does not know of \(text.visible)")
    if let other = try? TextPattern(second), pattern.covers(other), other.matches(text) == true {
        try same(found, true, "\(first.visible) covers \(second.visible) and \(text.visible)")
    }
    if !first.isExpression, !pattern.isDomain {
        let wanted = globMatches(Array(first.lowercased().unicodeScalars), Array(text.lowercased().unicodeScalars))
        // An exact text is a glob without stars.
        try same(pattern.matches(asWritten: text), wanted, "\(first.visible) as a glob of \(text.visible)")
    }
    var mistakes: [(line: Int, error: RuleError)] = []
    guard TextSet.entry(first.utf8) == first else { return }
    let list = TextSet(first, .texts, mistakes: &mistakes)
    if mistakes.isEmpty, list.count == 1 {
        try same(list.containsText(text), found, "a list of \(first.visible) and \(text.visible)")
    }
}

/// The slow way.
private func globMatches(_ glob: [Unicode.Scalar], _ text: [Unicode.Scalar]) -> Bool {
    var reached = [true] + Array(repeating: false, count: text.count)
    for scalar in glob {
        var next = Array(repeating: false, count: text.count + 1)
        for index in 0...text.count {
            if scalar == "*" {
                next[index] = reached[index] || index > 0 && next[index - 1]
            } else if index > 0, scalar == "?" || scalar == text[index - 1] {
                next[index] = reached[index - 1]
            }
        }
        reached = next
    }
    return reached[text.count]
}

private func checkTemplates(_ text: String, _ value: String) throws {
    func isPrintable(_ text: some StringProtocol) -> Bool { text.utf8.allSatisfy { (0x20...0x7E).contains($0) } }
    if let reply = try? ReplyTemplate(text) {
        try same(try ReplyTemplate(reply.description), reply, "\(text.visible), written again")
        let lines = reply.text.lines { _ in value }
        try hold(lines.allSatisfy { isPrintable($0) && $0.utf8.count <= 480 }, "lines of \(text.visible): \(lines)")
        try hold(lines.joined().utf8.count <= 2000, "\(lines.joined().utf8.count) octets of a reply")
    }
    if let template = try? FieldTemplate(text) {
        let field = template.field { _ in value }
        let lines = field.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        try hold(lines.last?.isEmpty == true, "no end of \(field.visible)")
        for line in lines.dropLast() {
            try hold(line.last == 13 && line.count <= 999, "\(line.count) octets of a line")
            try hold(isPrintable(String(decoding: line.dropLast(), as: UTF8.self)), "a line of \(field.visible)")
            try hold(line.contains { !" \t\r".utf8.contains($0) }, "a blank line in \(field.visible)")
        }
        let head = ByteBuffer(string: field)
        let block = HeaderBlock(scanning: head)
        try same(block.fields.count, 1, "fields in \(field.visible)")
        try same(block.fields.first?.range, 0..<head.readableBytes, "the field of \(field.visible)")
        try same(HeaderFacts(of: head).written(in: template.name).count, 1, "values of \(field.visible)")
    }
}

private func checkComparisons(_ text: String) throws {
    if let comparison = try? Comparison(text, number: { Int($0) }) {
        try same(try Comparison(comparison.description, number: { Int($0) }), comparison, "\(text.visible) again")
    }
    if let rate = try? RateCondition(text) {
        try same(try RateCondition(rate.description), rate, "\(text.visible) again")
    }
    if let hours = try? Hours(text) {
        try same(hours.description, text, "hours")
        let count = (0..<1440).count { hours.contains(LocalTime(.mon, minute: $0)) }
        try hold((1...1440).contains(count), "\(count) minutes of \(text.visible)")
    }
    if let days = try? LocalTime.Weekday.days(text) { try hold(!days.isEmpty, "no days in \(text.visible)") }
}

private func checkList(_ content: String) throws {
    let lines = content.utf8.count { $0 == UInt8(ascii: "\n") } + 1
    for kind in [TextListKind.networks, .texts] {
        var mistakes: [(line: Int, error: RuleError)] = []
        let list = TextSet(content, kind, mistakes: &mistakes)
        try hold(mistakes.allSatisfy { (1...lines).contains($0.line) }, "lines of mistakes")
        try hold(mistakes.map(\.line) == mistakes.map(\.line).sorted(), "order of mistakes")
        try hold(list.count + mistakes.count <= lines, "more entries than lines")
        for line in content.utf8.split(separator: UInt8(ascii: "\n")) {
            guard let entry = TextSet.entry(line), let network = NetworkRange(entry), kind == .networks else {
                continue
            }
            try hold(list.contains(network.base) == true, "\(network) is not in its list")
        }
    }
}

/// Rules of what the input says, and facts of which some are not looked up.
private func checkEvaluation(_ choices: inout Choices) throws {
    func texts(_ choices: inout Choices) -> Condition.Texts {
        Condition.Texts([try? TextPattern(choices.text())].compactMap { $0 })
    }
    var facts = Facts(client: .unix, edge: choices.text(), now: LocalTime(.mon, minute: 0))
    facts.sender = choices.flag() ? .null : .mailbox(Mailbox(localPart: choices.text(), domain: choices.text()))
    if choices.flag() { facts.ptr = PTRFact(confirmed: [choices.text()], failure: choices.flag() ? "no" : nil) }
    if choices.flag() { facts.spf = SPFFact(choices.one(of: SPFResult.allCases), reason: choices.text()) }
    let listings: [ListingFact?] = [nil, .notListed, .failed("no"), .listed([], text: "yes")]
    facts.listings["list"] = choices.one(of: listings)
    let replies = ["450 {reason}", "550 {ptr}"].compactMap { try? ReplyTemplate($0) }
    var rules: [Rule] = []
    while !choices.isAtEnd, rules.count < 10 {
        var conditions: [Condition] = []
        for _ in 0..<choices.number(below: 3) {
            let test: Condition.Test =
                switch choices.number(below: 6) {
                case 0: .ptr(texts(&choices))
                case 1: .spf([choices.one(of: SPFResult.allCases)])
                case 2: .dnsbl([.init("list", from: .connect)])
                case 3: .sender(texts(&choices))
                case 4: .size([Comparison(.more, 3)])
                default: .edge(texts(&choices))
                }
            conditions.append(Condition(test, turnedRound: choices.flag()))
        }
        let actions: [Action] = [.log, .hold, .delay(.seconds(1)), .accept] + replies.map { .reply($0) }
        rules.append(Rule("\(rules.count)", at: .mail, conditions, choices.one(of: actions)))
    }
    let set = RuleSet(rules)
    let traces = set.explain(.mail, facts)
    try same(traces.map(\.rule), rules, "the rules that are explained")
    let acting = traces.filter { $0.outcome == .acts }.map(\.rule.name)
    switch set.evaluate(.mail, facts) {
    case .needs(let missing):
        try hold(!missing.isEmpty && missing.isSubset(of: set.facts), "the facts \(missing)")
        try hold(traces.contains { $0.outcome == .needs(missing) }, "nobody needs \(missing)")
    case .verdict(let verdict):
        try same(verdict.notes.map(\.rule), acting, "the rules that act")
        for name in RuleSet.unreachable(rules).map(\.rule) {
            try hold(!acting.contains(name), "rule \(name) of \(rules.map(\.conditions)) acts, and never can")
        }
    }
}
