// [[rule]]: a table with a name, a stage, conditions and one action. Called by `Configuration.parse`; what each condition
// says is read by RuleReader+Conditions, and what becomes of a rule is SlimtaRules' matter.

import SlimtaMail
import SlimtaRules

/// Reads [[rule]].
struct RuleReader {
    /// The lists that rules may name, and what is looked up in them.
    let lists: [Configuration.DNSBL]
    /// Whether all lists are known that the file has.
    let hasAllLists: Bool
    private var names: [String: String] = [:]

    /// - Parameter hasAllLists: false if a mistake hides some of `lists`.
    static func read(_ tables: [Section], lists: [Configuration.DNSBL], hasAllLists: Bool) -> [Rule] {
        var reader = RuleReader(lists: lists, hasAllLists: hasAllLists)
        return tables.compactMap { reader.rule($0) }
    }

    private init(lists: [Configuration.DNSBL], hasAllLists: Bool) {
        self.lists = lists
        self.hasAllLists = hasAllLists
    }

    /// nil if something of it is missing or wrong; that was reported.
    private mutating func rule(_ table: Section) -> Rule? {
        let setting = table.required("name", "a name for the log, such as \"no partner before noon\"")
        let name = table.name(setting, &names, allowed: "a name of up to 64 visible characters") { name in
            (1...64).contains(name.unicodeScalars.count) && name.isVisible && name.first != " " && name.last != " "
        }
        let stage = table.required("at", "the stage at which it is evaluated, such as \"rcpt\"")?.choice(of: Stage.self)
        var conditions = conditions(table, isTurnedRound: false)
        let not = table.section("not")
        conditions += self.conditions(not, isTurnedRound: true)
        not.refuseUnknownKeys()
        let action = action(table)
        table.refuseUnknownKeys()
        if not.exists, !conditions.contains(where: { $0.section === not }), table.isSound("not") {
            table.report("not", "found without a condition", "allowed are conditions in it")
        }

        guard let stage else { return nil }
        for found in conditions {
            if !stage.isAtOrBehind(found.condition.firstStage) {
                let first = found.condition.firstStage.rawValue
                found.section.report(
                    found.key, "found at the stage \"\(stage.rawValue)\", where it is not known yet",
                    "allowed is it from \"\(first)\" on")
            } else if let problem = found.condition.problem(at: stage) {
                found.section.report(found.key, "found \(problem.found)", "allowed is \(problem.allowed)")
            }
        }
        if let (key, action) = action, let problem = action.problem(at: stage) {
            table.report(key, "found \(problem.found)", "allowed is \(problem.allowed)")
        }
        guard let name, let action, table.mistakes.isSound(table.path) else { return nil }
        let rule = Rule(name, at: stage, conditions.map(\.condition), action.action)
        if let problem = rule.problem {
            table.report(action.key, "found \(problem.found)", "allowed is \(problem.allowed)")
        }
        return rule
    }

    // MARK: Actions

    /// What `action` may say.
    private enum Word: String, CaseIterable {
        case accept, close, hold, log
    }

    /// The one action, and the key that says it.
    private func action(_ table: Section) -> (key: String, action: Action)? {
        let keys = ["reply", "action", "add_field", "delay"]
        let said = keys.filter(table.has)
        let actions = [
            table["reply"]?.ruleValue("a reply such as \"550 5.7.1 no mail from {client}\"", ReplyTemplate.init)
                .map { $0.code == 421 ? Action.close($0) : .reply($0) },
            table["action"]?.choice(of: Word.self).map(Self.action),
            table["add_field"]?.ruleValue("a field such as \"X-Gate: {rule}\"", FieldTemplate.init)
                .map(Action.addField),
            table["delay"]?.duration(.seconds(1) ... .seconds(120)).map(Action.delay),
        ]
        guard let first = said.first else {
            if table.isSound("reply", "action", "add_field", "delay") {
                table.report(
                    "action", "missing",
                    "required is what the rule does: reply, add_field, delay, or action = \"accept\", \"close\", \"hold\", "
                        + "\"log\"")
            }
            return nil
        }
        for other in said.dropFirst() {
            table.report(other, "found with \(first)", "allowed is one action in a rule")
        }
        return zip(keys, actions).first { $0.0 == first }.flatMap { key, action in action.map { (key, $0) } }
    }

    private static func action(_ word: Word) -> Action {
        switch word {
        case .accept: .accept
        case .close: .close(.closing)
        case .hold: .hold
        case .log: .log
        }
    }
}

extension Setting {
    /// Text that SlimtaRules makes something of, or says why not. `allowed` is for what is no text.
    func ruleValue<T>(_ allowed: String, _ parse: (String) throws(RuleError) -> T) -> T? {
        guard let text = string else { return refuse("allowed is \(allowed)") }
        do throws(RuleError) { return try parse(text) } catch {
            mistakes.report(path, "found \(error.found)", "allowed is \(error.allowed)")
            return nil
        }
    }
}
