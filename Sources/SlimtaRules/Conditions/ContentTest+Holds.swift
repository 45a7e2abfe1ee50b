// Whether a condition on what a message is made of holds: of parts, of what is attached.

internal import SlimtaMIME

extension ContentTest {
    /// Whether it holds. What is beyond the limits of what is looked at is not known: a number is at least what was counted.
    func finding(_ facts: ContentFacts, _ lists: [ListReference: any TextList]) -> Condition.Finding {
        let structure: ContentFacts.Bounds = [.nesting, .parts, .header, .encoded]
        switch self {
        case .parts(let wanted):
            let isMore = facts.exceeded.contains(.parts)
            return Self.finding(
                wanted, isMore ? max(facts.parts, 1001) : facts.parts,
                isLeast: !facts.exceeded.isDisjoint(with: structure))
        case .nesting(let wanted):
            let isMore = facts.exceeded.contains(.nesting)
            return Self.finding(
                wanted, isMore ? max(facts.nesting, 21) : facts.nesting,
                isLeast: !facts.exceeded.isDisjoint(with: structure))
        case .headerSize(let wanted):
            return Self.finding(wanted, facts.headerSize, isLeast: facts.exceeded.contains(.header))
        case .attachment(let texts):
            let names = facts.attachments.flatMap { $0.names.flatMap(Self.readings) }
            return Self.finding(texts, names, facts, lists)
        case .attachmentType(let texts):
            return Self.finding(texts, facts.attachments.flatMap(\.types), facts, lists)
        }
    }

    private static func finding(_ wanted: [Comparison], _ value: Int, isLeast: Bool) -> Condition.Finding {
        let found = wanted.map { isLeast ? $0.holds(fromOn: value) : $0.holds(value) }
        return found.contains(true) ? .holds : found.contains(nil) ? .unknown : .fails
    }

    private static func finding(
        _ texts: Condition.Texts, _ values: [String], _ facts: ContentFacts, _ lists: [ListReference: any TextList]
    ) -> Condition.Finding {
        let finding = texts.finding(values, lists, asWritten: true)
        // Not all of it was seen.
        return finding == .fails && !facts.exceeded.isEmpty ? .unknown : finding
    }

    /// A name as it is written, and as it is where that makes another one of it: what nobody sees is not compared, and some
    /// systems drop blanks and dots at the end ("setup.exe." is "setup.exe").
    private static func readings(of name: String) -> [String] {
        let seen = name.unicodeScalars.filter { scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator: false
            default: true
            }
        }
        let end = seen.lastIndex { $0 != "." && !$0.properties.isWhitespace }
        let reading = end.map { String(String.UnicodeScalarView(seen[...$0])) } ?? name
        return reading == name ? [name] : [name, reading]
    }
}

extension Comparison {
    /// Whether it is true of a number of which it is known that it is at least `least`; nil: that depends on how much more.
    fileprivate func holds(fromOn least: Int) -> Bool? {
        switch relation {
        case .atLeast: least >= number ? true : nil
        case .more: least > number ? true : nil
        case .less: least >= number ? false : nil
        case .atMost, .equal: least > number ? false : nil
        }
    }
}
