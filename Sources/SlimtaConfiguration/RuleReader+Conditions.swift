// The conditions of a [[rule]], those in its `not` included: each key as a condition of SlimtaRules. Called by RuleReader.

import SlimtaMail
import SlimtaRules
import TOMLKit

extension RuleReader {
    /// A condition and where it was found.
    struct Found {
        var key: String
        var section: Section
        var condition: Condition
    }

    private typealias Test = Condition.Test
    /// A key, and what it says; nil: nothing, or what is wrong.
    private typealias Said = (key: String, test: Test?)

    /// All conditions in a table; what is wrong was reported.
    func conditions(_ table: Section, isTurnedRound: Bool) -> [Found] {
        let texts: [Said] = [
            text(table, "ptr", Test.ptr), text(table, "ehlo", Test.ehlo), text(table, "login", Test.login),
            text(table, "sender", Test.sender), text(table, "recipient", Test.recipient),
        ]
        let results = table["spf"]?.oneOrMore(of: "results") { $0.choice(of: SPFResult.self) }
        let others: [Said] = [
            ("client", client(table)), ("edge", edge(table)),
            ("tls", table["tls"]?.oneOrMore(of: "what TLS is to be", tls).map(Test.tls)),
            ("proxy_tls", table["proxy_tls"]?.oneOrMore(of: "what TLS is to be", tls).map(Test.proxyTLS)),
            ("client_certificate", certificate(table)),
            ("authenticated", table["authenticated"]?.bool().map(Test.authenticated)),
            ("recipients", comparisons(table["recipients"], Self.number).map(Test.recipients)),
            ("size", comparisons(table["size"], Self.size).map(Test.size)),
            ("spf", results.map { .spf(Set($0)) }),
            ("dnsbl", table["dnsbl"]?.oneOrMore(of: "names of lists", list).map(Test.dnsbl)),
            ("header", header(table)),
        ]
        // Last, for these cost the most: they are asked for where all else holds.
        let tests = texts + others + times(table) + content(table)
        return tests.compactMap { key, test in
            guard let test else { return nil }
            // A list of which only the file is there was found at that.
            let place = table.has(key) ? key : "\(key)_file"
            return Found(key: place, section: table, condition: Condition(test, turnedRound: isTurnedRound))
        }
    }

    private func client(_ table: Section) -> Test? {
        let networks = table["client"]?.oneOrMore(of: "networks") { $0.network() }
        let file = table["client_file"]?.absolutePath()
        return networks == nil && file == nil ? nil : .client(networks ?? [], file: file)
    }

    private func text(_ table: Section, _ key: String, _ make: (Condition.Texts) -> Test) -> Said {
        let patterns = table[key]?.oneOrMore(of: "texts", pattern)
        let file = table["\(key)_file"]?.absolutePath()
        return (key, patterns == nil && file == nil ? nil : make(Condition.Texts(patterns ?? [], file: file)))
    }

    private func edge(_ table: Section) -> Test? {
        table["edge"]?.oneOrMore(of: "names of edges", pattern).map { .edge(Condition.Texts($0)) }
    }

    private func pattern(_ setting: Setting) -> TextPattern? {
        setting.ruleValue(
            "a text, a glob such as \"*.example.com\", \"@example.com\" for a domain, \"@.example.com\" for all below it, or "
                + "\"/an expression/\"", TextPattern.init)
    }

    private func tls(_ setting: Setting) -> Condition.TLS? {
        if let isThere = setting.value.bool { return isThere ? .any : Condition.TLS.none }
        return setting.ruleValue(
            "true, false, a version such as \"TLSv1.3\", or a cipher such as \"*GCM*\"", TextPattern.init
        ).map { .matching($0) }
    }

    private func certificate(_ table: Section) -> Test? {
        table["client_certificate"]?.oneOrMore(of: "certificates") { (setting) -> Condition.Certificate? in
            let allowed = "true, a name that has to be in it, or \"sha256:\" and its digest in hexadecimal"
            if setting.value.bool == true { return .verified }
            if setting.value.bool == false {
                return setting.refuse(
                    "allowed is \(allowed); clients without one are not = { client_certificate = true }")
            }
            guard let text = setting.string, text.hasPrefix("sha256:") else {
                return setting.ruleValue(allowed, TextPattern.init).map { .subject($0) }
            }
            return setting.text(
                "\"sha256:\" and 64 hexadecimal digits, as openssl x509 -fingerprint -sha256 shows them"
            ) {
                CertificateIdentity.digest($0.dropFirst("sha256:".count)).map { .fingerprint($0) }
            }
        }.map { .certificate($0) }
    }

    // MARK: Numbers

    private func comparisons(_ setting: Setting?, _ number: (String) -> Int?) -> [Comparison]? {
        setting?.oneOrMore(of: "comparisons") { element in
            element.ruleValue("a comparison such as \"> 100\", with <, <=, =, >= or >") {
                text throws(RuleError) in try Comparison(text, number: number)
            }
        }
    }

    private static func number(_ text: String) -> Int? {
        (1...9).contains(text.utf8.count) && text.utf8.allSatisfy(\.isASCIIDigit) ? Int(text) : nil
    }

    private static func size(_ text: String) -> Int? { number(text) ?? Size.octets(text) }

    // MARK: Lists and fields

    private func list(_ setting: Setting) -> Condition.List? {
        let names = lists.map(\.name)
        let allowed =
            names.isEmpty
            ? "the name of a table [[dnsbl]]" : names.map { "\"\($0)\"" }.joined(separator: ", ")
        guard let name = setting.string else { return setting.refuse("allowed is \(allowed)") }
        if let list = lists.first(where: { $0.name == name }) { return Condition.List(name, from: list.of.stage) }
        // A table that is wrong itself may be the one that is meant.
        guard hasAllLists else { return nil }
        setting.mistakes.report(
            setting.path, "found \(setting.shown), which is the name of no table [[dnsbl]]", "allowed is \(allowed)",
            didYouMean: Spelling.nearest(to: name, among: names))
        return nil
    }

    private func header(_ table: Section) -> Test? {
        guard let setting = table["header"] else { return nil }
        guard setting.value.table != nil else {
            return setting.refuse(
                "allowed is { name = \"X-Field\" }, or { name = \"Subject\", value = \"*text*\" } for what has to be in it"
            )
        }
        let section = table.section("header")
        defer { section.refuseUnknownKeys() }
        let name = section.required("name", "the name of a field, such as \"Subject\"")?
            .text("the name of a field, without \":\"") { name in
                // RFC 5322 section 2.2
                (1...76).contains(name.utf8.count)
                    && name.utf8.allSatisfy({ (33...126).contains($0) && $0 != UInt8(ascii: ":") }) ? name : nil
            }
        let values = section["value"]?.oneOrMore(of: "texts", pattern)
        return name.map { .header(name: $0, values: values.map { Condition.Texts($0) }) }
    }

    // MARK: Content

    private func content(_ table: Section) -> [Said] {
        func texts(_ key: String, _ kind: String, _ make: (Condition.Texts) -> ContentTest) -> Said {
            (key, table[key]?.oneOrMore(of: kind, pattern).map { .content(make(Condition.Texts($0))) })
        }
        func numbers(_ key: String, _ number: (String) -> Int?, _ make: ([Comparison]) -> ContentTest) -> Said {
            (key, comparisons(table[key], number).map { .content(make($0)) })
        }
        return [
            numbers("header_size", Self.size, ContentTest.headerSize),
            numbers("parts", Self.number, ContentTest.parts),
            numbers("nesting", Self.number, ContentTest.nesting),
            texts("attachment", "names of files", ContentTest.attachment),
            texts("attachment_type", "types", ContentTest.attachmentType),
        ]
    }

    // MARK: Times

    private func times(_ table: Section) -> [Said] {
        let hours = table["hours"]?.oneOrMore(of: "times of day") { element in
            element.ruleValue("a time of day such as \"08:00-18:00\"", Hours.init)
        }
        let weekdays = table["weekdays"]?.oneOrMore(of: "days") { element in
            element.ruleValue("a day or days such as \"mon\", \"mon-fri\"", LocalTime.Weekday.days)
        }
        let rates = table["rate"]?.oneOrMore(of: "rates") { element in
            element.ruleValue("a rate such as \"login > 100/hour\" or \"client > 10/minute\"", RateCondition.init)
        }
        return [
            ("hours", hours.map(Test.hours)),
            ("weekdays", weekdays.map { .weekdays($0.reduce(into: []) { $0.formUnion($1) }) }),
            ("rate", rates.map(Test.rate)),
            ("early_talker", table["early_talker"]?.bool().map(Test.earlyTalker)),
        ]
    }
}
