// Reads a table of slimta.conf key by key. A key that nobody asks for is unknown. What is wrong is reported once, with all
// that its writer needs: line, key, what was found, what is allowed. Used by `Configuration.parse`.

import SlimtaMail
import TOMLKit

/// Collects the mistakes of one file.
final class Mistakes {
    let file: String
    let document: TOMLDocument
    private(set) var errors: [ConfigurationError] = []
    /// The paths of values that were reported: nothing may be concluded from them.
    private var wrong: Set<String> = []

    init(file: String, document: TOMLDocument) {
        self.file = file
        self.document = document
    }

    /// Reports what is wrong at `path`.
    func report(
        _ path: String, _ found: String, _ allowed: String, didYouMean suggestion: String? = nil,
        hidesLine: Bool = false
    ) {
        wrong.insert(path)
        errors.append(
            ConfigurationError(
                file: file, line: document.line(of: path), keyPath: path, found: found, allowed: allowed,
                suggestion: suggestion, hidesLine: hidesLine))
    }

    /// Reports text that is not TOML.
    func report(_ problem: TOMLProblem) {
        errors.append(
            ConfigurationError(
                file: file, line: problem.line, keyPath: "", found: "not TOML: \(problem.text)", allowed: ""))
    }

    /// Whether nothing was reported at `path` or within it.
    func isSound(_ path: String) -> Bool {
        !wrong.contains { $0 == path || $0.hasPrefix(path) && [".", "["].contains($0.dropFirst(path.count).first) }
    }

    /// All mistakes, by line.
    var sorted: [ConfigurationError] {
        errors.enumerated().sorted { ($0.element.line, $0.offset) < ($1.element.line, $1.offset) }.map(\.element)
    }
}

/// One table, or the absence of one.
final class Section {
    /// Empty for the root.
    let path: String
    let mistakes: Mistakes
    private let table: TOMLTable?
    /// What was asked for so far, in that order.
    private var known: [String] = []

    init(_ path: String, _ table: TOMLTable?, _ mistakes: Mistakes) {
        self.path = path
        self.table = table
        self.mistakes = mistakes
    }

    /// The value of `key`, which is thereby known; nil if the file does not say it.
    subscript(key: String) -> Setting? {
        known.append(key)
        return table?[key].map { Setting(path: path(key), value: $0, mistakes: mistakes) }
    }

    /// As the subscript; reports the absence. `description` says what is missing.
    func required(_ key: String, _ description: String) -> Setting? {
        let setting = self[key]
        if setting == nil, table != nil, mistakes.document.isTellingAbsence(of: key, in: path) {
            mistakes.report(path(key), "missing", "required is \(description)")
        }
        return setting
    }

    /// The table `key`; one without a value if the file does not have it.
    func section(_ key: String) -> Section {
        guard let setting = self[key] else { return Section(path(key), nil, mistakes) }
        if let table = setting.value.table { return Section(path(key), table, mistakes) }
        setting.refuse("allowed is one table, [\(path(key))]")
        return Section(path(key), nil, mistakes)
    }

    /// The tables of the array `key`.
    func sections(_ key: String) -> [Section] {
        guard let setting = self[key] else { return [] }
        let allowed = "allowed is a table [[\(path(key))]] for each \(key)"
        guard let array = setting.value.array else {
            setting.refuse(allowed)
            return []
        }
        return array.enumerated().compactMap { (index, value) -> Section? in
            let element = Setting(path: KeyPath.element(path(key), index), value: value, mistakes: mistakes)
            guard let table = value.table else {
                element.refuse(allowed)
                return nil
            }
            return Section(element.path, table, mistakes)
        }
    }

    /// Reports all keys that nobody asked for.
    func refuseUnknownKeys() {
        guard let table else { return }
        for key in table.keys where !known.contains(key) && !(path.isEmpty && mistakes.document.ignored.contains(key)) {
            let place = path.isEmpty ? "outside tables" : "in \(path)"
            mistakes.report(
                path(key), "unknown key", "allowed \(place) are \(known.sorted().joined(separator: ", "))",
                didYouMean: Spelling.nearest(to: key, among: known))
        }
    }

    /// Whether it is in the file.
    var exists: Bool { table != nil }

    /// Whether what is known of these keys is what the file's writer meant: no mistake was reported, none hides one.
    func isSound(_ keys: String...) -> Bool {
        keys.allSatisfy {
            mistakes.isSound(path($0))
                && (table?.contains(key: $0) ?? false || mistakes.document.isTellingAbsence(of: $0, in: path))
        }
    }

    /// Whether the file says `key`.
    func has(_ key: String) -> Bool { table?.contains(key: key) ?? false }

    func path(_ key: String) -> String { KeyPath.joining(path, key) }

    func report(_ key: String, _ found: String, _ allowed: String) { mistakes.report(path(key), found, allowed) }
}

/// One value of the file. Each reading returns nil if the value is wrong, and reports it.
struct Setting {
    let path: String
    let value: any TOMLValueConvertible
    let mistakes: Mistakes

    /// The value if it is text, whatever that says.
    var string: String? { value.string }

    /// Text that `parse` makes something of. `allowed` says what it may be.
    func text<T>(_ allowed: String, didYouMean: (String) -> String? = { _ in nil }, _ parse: (String) -> T?) -> T? {
        guard let text = value.string else { return refuse("allowed is \(allowed)") }
        guard let parsed = parse(text) else { return refuse("allowed is \(allowed)", didYouMean: didYouMean(text)) }
        return parsed
    }

    /// One of the words of `type`.
    func choice<T: RawRepresentable<String> & CaseIterable>(of type: T.Type = T.self) -> T? {
        let words = type.allCases.map(\.rawValue)
        return text(
            Self.words(of: type), didYouMean: { Spelling.nearest(to: $0, among: words) }, T.init(rawValue:))
    }

    /// The words of `type`, as messages list them.
    static func words<T: RawRepresentable<String> & CaseIterable>(of type: T.Type) -> String {
        type.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
    }

    func bool() -> Bool? { value.bool ?? refuse("allowed is true, false") }

    func integer(_ range: ClosedRange<Int>) -> Int? {
        guard let number = value.int, range.contains(number) else {
            return refuse("allowed is a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// "30s", "5m", "4h", "5d".
    func duration(_ range: ClosedRange<Duration>, or other: String = "") -> Duration? {
        let (least, most) = (range.lowerBound.configurationText, range.upperBound.configurationText)
        return text("a duration such as \"30s\", \"5m\", \"4h\", \"5d\", from \(least) to \(most)\(other)") {
            Duration(configured: $0).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// "50MiB", "10MB", or a number of octets.
    func size(_ range: ClosedRange<Int>) -> Int? {
        let (least, most) = (Size.text(range.lowerBound), Size.text(range.upperBound))
        guard let octets = value.int ?? value.string.flatMap({ Size.octets($0) }), range.contains(octets) else {
            return refuse(
                "allowed is a size such as \"50MiB\", \"10MB\" or a number of octets, from \(least) to \(most)")
        }
        return octets
    }

    /// The elements that `read` makes something of; the others are reported by it.
    func list<T>(of allowed: String, mayBeEmpty: Bool, _ read: (Setting) -> T?) -> [T]? {
        guard let array = value.array, mayBeEmpty || !array.isEmpty else {
            return refuse("allowed is a list of \(allowed)\(mayBeEmpty ? "" : ", at least one")")
        }
        return array.enumerated().compactMap { index, value in
            read(Setting(path: KeyPath.element(path, index), value: value, mistakes: mistakes))
        }
    }

    /// As above, and one value may stand without a list.
    func oneOrMore<T>(of allowed: String, _ read: (Setting) -> T?) -> [T]? {
        value.array == nil ? read(self).map { [$0] } : list(of: allowed, mayBeEmpty: false, read)
    }

    /// As ``list(of:mayBeEmpty:_:)``; an element that is there twice is reported.
    func distinctList<T: Hashable>(of allowed: String, mayBeEmpty: Bool, _ read: (Setting) -> T?) -> [T]? {
        var seen: Set<T> = []
        return list(of: allowed, mayBeEmpty: mayBeEmpty) { (element) -> T? in
            guard let value = read(element) else { return nil }
            guard seen.insert(value).inserted else {
                mistakes.report(element.path, "found \(element.shown) a second time", "allowed is each once")
                return nil
            }
            return value
        }
    }

    /// Reports the value; nil, so that a reading can end with it.
    @discardableResult
    func refuse<T>(_ allowed: String, didYouMean suggestion: String? = nil) -> T? {
        mistakes.report(path, "found \(shown)", allowed, didYouMean: suggestion)
        return nil
    }

    func refuse(_ allowed: String) { mistakes.report(path, "found \(shown)", allowed) }

    /// The value as the message shows it.
    var shown: String {
        switch value.type {
        case .string: value.string.map(KeyPath.quoted) ?? "a string"
        case .int: value.int.map { "the number \($0)" } ?? "a number"
        case .double: value.double.map { "the number \($0)" } ?? "a number"
        case .bool: value.bool.map { "\($0)" } ?? "a boolean"
        case .array:
            value.array.map {
                $0.isEmpty ? "an empty list" : $0.contains { $0.table == nil } ? "a list" : "a list of tables"
            }
                ?? "a list"
        case .table: "a table"
        case .date, .time, .dateTime: "a date or time"
        }
    }
}
