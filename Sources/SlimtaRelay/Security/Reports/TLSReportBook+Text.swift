// What is known of TLS reports as a file: JSON, in one value. TLSReports has it written and read.

import SlimtaMail
import SlimtaNet

extension TLSReportBook {
    private static let version: Int64 = 1

    /// All of it.
    var octets: [UInt8] {
        var octets: [UInt8] = []
        JSON.object([
            .init("version", .number(Self.version)),
            .init("counts", .array(counter.counts.map(\.json))),
            .init("reports", .array(letters.map(\.json))),
            .init("past", .array(past.map(\.json))),
        ]).write(to: &octets)
        octets.append(UInt8(ascii: "\n"))
        return octets
    }

    /// What such octets say; nil: they are none.
    init?(octets: [UInt8]) {
        guard let json = try? JSON(parsing: octets), json["version"].integer == Self.version,
            let counts = json["counts"].all(TLSReportCounter.Count.init),
            let letters = json["reports"].all(Letter.init), let past = json["past"].all(Past.init)
        else { return nil }
        self.init(counts, letters, past)
    }
}

extension JSON {
    /// All elements read; nil if one is something else.
    fileprivate func all<Value>(_ read: (JSON) -> Value?) -> [Value]? {
        guard case .array(let elements) = self else { return nil }
        let values = elements.compactMap(read)
        return values.count == elements.count ? values : nil
    }

    fileprivate var count: Int? { integer.flatMap { $0 >= 0 ? Int($0) : nil } }

    fileprivate var time: Timestamp? { integer.map { Timestamp(milliseconds: $0) } }

    fileprivate init(_ time: Timestamp) { self = .number(time.milliseconds) }

    /// The tallies of policies.
    fileprivate init(_ tallies: [TLSReportedPolicy: TLSTally]) {
        self = .array(
            tallies.sorted { $0.key < $1.key }.map { policy, tally in
                .object([
                    .init("type", .string(policy.type.rawValue)), .init("domain", .string(policy.domain)),
                    .init("strings", .array(policy.strings.map { .string($0) })),
                    .init("mx", .array(policy.mxHosts.map { .string($0) })),
                    .init("successes", .count(tally.successes)), .init("failures", .count(tally.failures)),
                    .init("details", .array(tally.details.sorted { $0.key < $1.key }.map { $0.key.kept($0.value) })),
                ])
            })
    }

    fileprivate var tallies: [TLSReportedPolicy: TLSTally]? {
        all { json -> (TLSReportedPolicy, TLSTally)? in
            guard let type = json["type"].text.flatMap(TLSPolicyType.init), let domain = json["domain"].text,
                let strings = json["strings"].all(\.text), let mx = json["mx"].all(\.text),
                let successes = json["successes"].count, let failures = json["failures"].count,
                let details = json["details"].all(TLSFailureDetail.kept)
            else { return nil }
            let tally = TLSTally(
                successes: successes, failures: failures, details: Dictionary(details, uniquingKeysWith: +))
            return (TLSReportedPolicy(type: type, strings: strings, domain: domain, mxHosts: mx), tally)
        }.map { Dictionary($0) { first, _ in first } }
    }

    fileprivate init(_ destinations: [TLSReportRecord.Destination]) {
        self = .array(
            destinations.map { destination in
                switch destination {
                case .mail(let mailbox): .object([.init("mail", .string(mailbox.text))])
                case .https(let host, let target):
                    .object([.init("host", .string(host)), .init("target", .string(target))])
                }
            })
    }

    fileprivate var destinations: [TLSReportRecord.Destination]? {
        all { json in
            if let text = json["mail"].text { return Mailbox(parsing: text).map { .mail($0) } }
            guard let host = json["host"].text, let target = json["target"].text else { return nil }
            return .https(host: host, target: target)
        }
    }
}

extension TLSFailureDetail {
    fileprivate func kept(_ count: Int) -> JSON {
        .object([
            .init("kind", .string(kind.rawValue)), .init("count", .count(count)), .init("source", .optional(source)),
            .init("mx", .optional(mxName)), .init("helo", .optional(mxHELO)), .init("address", .optional(address)),
            .init("reason", .optional(reason)),
        ])
    }

    fileprivate static func kept(_ json: JSON) -> (TLSFailureDetail, Int)? {
        guard let kind = json["kind"].text.flatMap(TLSResult.Kind.init), let count = json["count"].count else {
            return nil
        }
        var detail = TLSFailureDetail(kind, reason: json["reason"].text)
        (detail.source, detail.mxName) = (json["source"].text, json["mx"].text)
        (detail.mxHELO, detail.address) = (json["helo"].text, json["address"].text)
        return (detail, count)
    }
}

extension TLSReportCounter.Count {
    fileprivate var json: JSON {
        .object([
            .init("day", .count(day)), .init("domain", .string(domain)),
            .init("to", destinations.map { JSON($0) } ?? .null), .init("policies", JSON(tallies)),
            .init("source", .optional(source)), .init("readers", readers.map { JSON($0) } ?? .null),
        ])
    }

    fileprivate init?(_ json: JSON) {
        guard let day = json["day"].count, let domain = json["domain"].text,
            let tallies = json["policies"].tallies
        else { return nil }
        var destinations: [TLSReportRecord.Destination]?
        if json["to"] != .null {
            destinations = json["to"].destinations
            if destinations == nil { return nil }
        }
        // Files of earlier versions do not have it.
        self.init(
            day: day, domain: domain, destinations: destinations, tallies: tallies, source: json["source"].text,
            readers: json["readers"].destinations)
    }
}

extension TLSReportBook.Letter {
    fileprivate var json: JSON {
        .object([
            .init("day", .count(report.day)), .init("domain", .string(report.domain)),
            .init("organization", .string(report.submitter.organization)),
            .init("contact", .string(report.submitter.contact.text)), .init("to", JSON(destinations)),
            .init("due", JSON(due)), .init("end", JSON(end)), .init("tries", .count(tries)),
            .init("error", .optional(error)), .init("policies", JSON(report.policies)),
        ])
    }

    fileprivate init?(_ json: JSON) {
        guard let day = json["day"].count, let domain = json["domain"].text,
            let organization = json["organization"].text,
            let contact = json["contact"].text.flatMap({ Mailbox(parsing: $0) }),
            let destinations = json["to"].destinations, let due = json["due"].time, let end = json["end"].time,
            let tries = json["tries"].count, let policies = json["policies"].tallies
        else { return nil }
        self.init(
            report: TLSReport(
                submitter: .init(organization: organization, contact: contact), domain: domain, day: day,
                policies: policies),
            destinations: destinations, due: due, end: end, tries: tries, error: json["error"].text)
    }
}

extension TLSReportBook.Past {
    fileprivate var json: JSON {
        .object([
            .init("day", .count(day)), .init("domain", .string(domain)), .init("time", JSON(time)),
            .init("place", .optional(place)), .init("error", .optional(error)),
        ])
    }

    fileprivate init?(_ json: JSON) {
        guard let day = json["day"].count, let domain = json["domain"].text, let time = json["time"].time else {
            return nil
        }
        self.init(domain: domain, day: day, time: time, place: json["place"].text, error: json["error"].text)
    }
}
