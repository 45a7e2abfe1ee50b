// What is reported to a domain of a day's TLS sessions (RFC 8460 section 4), as values and as JSON. Put together by
// TLSReportCounter, wrapped by TLSReportMail.

import SlimtaMail
import SlimtaNet

/// A policy as reports name it (RFC 8460 section 4.4): what differs is counted apart.
struct TLSReportedPolicy: Hashable, Comparable, Sendable {
    let type: TLSPolicyType
    /// The lines of a policy of MTA-STS as they were received; the TLSA records, each as in a zone file.
    let strings: [String]
    /// The recipient's domain; for DANE the name at which the records are.
    let domain: String
    /// The patterns of a policy of MTA-STS, each by itself (erratum 6241: it is a list).
    let mxHosts: [String]

    /// Of the lines, of the records and of the patterns no more is told, nor kept, than so many octets: they are a stranger's, who
    /// may have another policy of 64 KiB each time.
    static let mostOctets = 8192

    /// No policy was found for the domain.
    static func none(_ domain: String) -> TLSReportedPolicy {
        TLSReportedPolicy(type: .noPolicy, strings: [], domain: domain, mxHosts: [])
    }

    static func sts(_ policy: STSPolicy, of domain: String) -> TLSReportedPolicy {
        TLSReportedPolicy(
            type: .sts, strings: beginning(policy.lines), domain: domain,
            mxHosts: beginning(policy.patterns.map(\.description)))
    }

    static func tlsa(_ records: [String], base: String) -> TLSReportedPolicy {
        TLSReportedPolicy(type: .tlsa, strings: beginning(records.sorted()), domain: base, mxHosts: [])
    }

    private static func beginning(_ texts: [String]) -> [String] {
        var left = mostOctets
        return Array(
            texts.prefix { text in
                left -= text.utf8.count
                return left >= 0
            })
    }

    static func < (a: TLSReportedPolicy, b: TLSReportedPolicy) -> Bool { a.order.lexicographicallyPrecedes(b.order) }

    private var order: [String] { [type.rawValue, domain] + strings + [""] + mxHosts }

    fileprivate var json: JSON {
        var members = [JSON.Member("policy-type", .string(type.rawValue))]
        if !strings.isEmpty { members.append(.init("policy-string", .array(strings.map { .string($0) }))) }
        members.append(.init("policy-domain", .string(domain)))
        if !mxHosts.isEmpty { members.append(.init("mx-host", .array(mxHosts.map { .string($0) }))) }
        return .object(members)
    }
}

/// Failures that are the same in all that is said of them.
struct TLSFailureDetail: Hashable, Comparable, Sendable {
    let kind: TLSResult.Kind
    /// The address that we really connected from; nil: there was no connection, or it is one of those that are not told apart.
    var source: String?
    var mxName: String?
    /// What it said in its greeting.
    var mxHELO: String?
    var address: String?
    var reason: String?

    init(_ kind: TLSResult.Kind, reason: String? = nil) { (self.kind, self.reason) = (kind, reason) }

    /// Stands for all that are one too many to be told apart.
    static let others = TLSFailureDetail(.validationFailure, reason: "others")

    static func < (a: TLSFailureDetail, b: TLSFailureDetail) -> Bool { a.order.lexicographicallyPrecedes(b.order) }

    private var order: [String] {
        [kind.rawValue] + [mxName, address, source, mxHELO, reason].map { $0 ?? "" }
    }

    fileprivate func json(_ count: Int) -> JSON {
        var members = [JSON.Member("result-type", .string(kind.rawValue))]
        let texts = [
            ("sending-mta-ip", source), ("receiving-mx-hostname", mxName), ("receiving-mx-helo", mxHELO),
            ("receiving-ip", address),
        ]
        for case (let name, let text?) in texts { members.append(.init(name, .string(text))) }
        members.append(.init("failed-session-count", .count(count)))
        if let reason { members.append(.init("failure-reason-code", .string(reason))) }
        return .object(members)
    }
}

/// What was counted of one policy.
struct TLSTally: Hashable, Sendable {
    /// More details are one, ``TLSFailureDetail/others``.
    static let mostDetails = 1000

    private(set) var successes = 0
    private(set) var failures = 0
    /// A session can fail in several ways: their sum is at least ``failures``.
    private(set) var details: [TLSFailureDetail: Int] = [:]

    init(successes: Int = 0, failures: Int = 0, details: [TLSFailureDetail: Int] = [:]) {
        (self.successes, self.failures, self.details) = (successes, failures, details)
    }

    /// A session failed in all of these ways; none: it succeeded. Returns how many octets were added.
    ///
    /// - Parameter room: so many octets may be; behind that details are one as well.
    mutating func count(_ found: [TLSFailureDetail], room: Int) -> Int {
        guard !found.isEmpty else {
            successes += 1
            return 0
        }
        failures += 1
        var octets = 0
        for detail in Set(found) { octets += add(detail, 1, room: room - octets) }
        return octets
    }

    /// What was counted elsewhere of the same policy.
    mutating func add(_ other: TLSTally) {
        successes += other.successes
        failures += other.failures
        for (detail, count) in other.details { _ = add(detail, count, room: .max) }
    }

    private mutating func add(_ detail: TLSFailureDetail, _ count: Int, room: Int) -> Int {
        let octets = details[detail] == nil ? detail.octets : 0
        let fits = octets == 0 || (details.count < Self.mostDetails - 1 && octets <= room)
        guard fits || detail == .others else { return add(.others, count, room: room) }
        details[detail, default: 0] += count
        return octets
    }

    fileprivate func json(_ policy: TLSReportedPolicy) -> JSON {
        var members: [JSON.Member] = [
            .init("policy", policy.json),
            .init(
                "summary",
                .object([
                    .init("total-successful-session-count", .count(successes)),
                    .init("total-failure-session-count", .count(failures)),
                ])),
        ]
        if !details.isEmpty {
            let sorted = details.sorted { $0.key < $1.key }.map { $0.key.json($0.value) }
            members.append(.init("failure-details", .array(sorted)))
        }
        return .object(members)
    }
}

/// A day's report for one domain.
struct TLSReport: Hashable, Sendable {
    /// Who we are for those who read it.
    struct Submitter: Hashable, Sendable {
        let organization: String
        /// An address that somebody reads. Its domain signs reports that go by mail.
        let contact: Mailbox

        /// TLS-Report-Submitter (RFC 8460 section 5.3).
        var domain: String { contact.foldedDomain }
    }

    let submitter: Submitter
    /// Whom it is for.
    let domain: String
    /// Days since 1970-01-01, UTC.
    let day: Int
    let policies: [TLSReportedPolicy: TLSTally]

    /// Of our own making, and the same if the report has to be sent once more.
    var id: String { "\(dayText).\(domain)@\(submitter.domain)" }

    /// "2026-11-29"
    var dayText: String { Self.text(ofDay: day) }

    static func text(ofDay day: Int) -> String { String(start(ofDay: day).isoDate.prefix(10)) }

    private static func start(ofDay day: Int) -> Timestamp { Timestamp(milliseconds: Int64(day) * 86_400_000) }

    var begin: Timestamp { Self.start(ofDay: day) }
    /// The last second of the day.
    var end: Timestamp { begin + .seconds(86_399) }

    /// `SUBMITTER!DOMAIN!BEGIN!END.json.gz` (RFC 8460 section 5.1), in seconds since 1970.
    var fileName: String { "\(submitter.domain)!\(domain)!\(begin.seconds)!\(end.seconds).json.gz" }

    /// The whole of it (RFC 8460 section 4.4).
    var json: JSON {
        .object([
            .init("organization-name", .string(submitter.organization)),
            .init(
                "date-range",
                .object([
                    .init("start-datetime", .string(Self.time(begin))), .init("end-datetime", .string(Self.time(end))),
                ])),
            .init("contact-info", .string(submitter.contact.text)), .init("report-id", .string(id)),
            .init("policies", .array(policies.sorted { $0.key < $1.key }.map { $0.value.json($0.key) })),
        ])
    }

    /// RFC 3339 in UTC, without the fraction.
    private static func time(_ time: Timestamp) -> String { "\(time.isoDate.prefix(19))Z" }
}
