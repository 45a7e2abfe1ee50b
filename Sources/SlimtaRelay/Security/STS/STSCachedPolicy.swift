// A policy as it is kept, in memory and on disk: until when it is in force, when it is fetched again, and its form as a file.
// Used by STSCheck; files are read and written by whoever keeps them.

import SlimtaCrypto
import SlimtaMail

/// A policy with what is to be known of it. It is kept as it was received: reports need its lines.
struct STSCachedPolicy: Hashable, Sendable {
    let policy: STSPolicy
    private(set) var octets: [UInt8]
    /// Of the TXT record that it was fetched for.
    var id: String
    /// By the wall clock, for it outlives the daemon.
    var fetched: Timestamp
    /// When mail for the domain last asked for it.
    var lastUsed: Timestamp

    /// Of octets that are a policy.
    init(_ octets: [UInt8], id: String, fetched: Timestamp, lastUsed: Timestamp) throws(STSPolicyFault) {
        policy = try STSPolicy(parsing: octets)
        (self.octets, self.id, self.fetched, self.lastUsed) = (octets, id, fetched, lastUsed)
    }

    /// Refreshed every day, not all domains at once.
    static let refreshInterval: Duration = .seconds(86_400)
    static let refreshSpread: Duration = .seconds(4 * 3600)
    /// What no mail asked for so long is not refreshed.
    static let refreshedFor: Duration = .seconds(30 * 86_400)
    static let mostDomains = 100_000

    /// When it ends. Its age counts from the fetch (RFC 8461 section 3.2); one that a clock says is still to come was now:
    /// no policy lasts longer than it says because a clock was wrong.
    func end(at now: Timestamp) -> Timestamp { min(fetched, now) + .seconds(Int64(policy.maxAge)) }

    /// Whether it is obeyed. One of mode `none` is as well: it has put an end to the one before it, and ends by itself.
    func isInForce(at now: Timestamp) -> Bool { now < end(at: now) }

    /// The same with no time in it that is still to come. What is kept is that.
    func corrected(at now: Timestamp) -> STSCachedPolicy {
        var copy = self
        (copy.fetched, copy.lastUsed) = (min(fetched, now), min(lastUsed, now))
        return copy
    }

    /// Whether it is to be fetched again, though nothing in DNS says that it has changed: ids are forgotten to be changed, and
    /// mail is then held up by a policy that is no more (postfix-mta-sts-resolver issue 113). `lastTry`: a failed refresh.
    func isRefreshDue(of domain: String, at now: Timestamp, lastTry: Timestamp? = nil) -> Bool {
        guard now - lastUsed <= Self.refreshedFor else { return false }
        let last = max(min(fetched, now), lastTry.map { min($0, now) } ?? fetched)
        let spread = Self.refreshSpread.milliseconds
        let offset = Int64(Self.number(of: domain)) % (2 * spread + 1) - spread
        return now >= last + Self.refreshInterval + .milliseconds(offset)
    }

    /// A number of the domain's own, the same in every run.
    private static func number(of domain: String) -> UInt32 {
        HashFunction.sha256.digest(Array(domain.utf8)).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }

    // MARK: As a file

    /// Where the file of a domain is, below the folder of all: in one of 256 folders. Nil of a domain that is none: it would
    /// be a path to somewhere else.
    static func path(of domain: String) -> String? {
        guard STSPattern(domain) != nil, !domain.hasPrefix("*"), domain == domain.asciiLowercased() else { return nil }
        return String(hexadecimal: number(of: domain) >> 24, digits: 2) + "/" + domain
    }

    /// The year 10000: no date is written from then on.
    private static let endOfTime = Timestamp(milliseconds: 253_402_300_800_000)

    private static let signature = "slimtad mta-sts 1"

    /// A header in lines, an empty one, and the policy as it was received.
    var file: [UInt8] {
        let header = "\(Self.signature)\nfetched \(fetched.isoDate)\nused \(lastUsed.isoDate)\nid \(id)\n\n"
        return Array(header.utf8) + octets
    }

    /// Reads such a file; nil if it is none.
    init?(file: [UInt8]) {
        var rest = file[...]
        func line(_ key: String) -> String? {
            guard let end = rest.prefix(200).firstIndex(of: 0x0A) else { return nil }
            let text = String(decoding: rest[..<end], as: UTF8.self)
            rest = rest[(end + 1)...]
            if key.isEmpty { return text }
            return text.hasPrefix("\(key) ") ? String(text.dropFirst(key.count + 1)) : nil
        }
        guard line("") == Self.signature, let fetched = line("fetched").flatMap({ Timestamp(isoDate: $0) }),
            let used = line("used").flatMap({ Timestamp(isoDate: $0) }), let id = line("id"),
            (1...32).contains(id.utf8.count), id.utf8.allSatisfy(\.isASCIILetterOrDigit), line("") == "",
            min(fetched, used) >= Timestamp(milliseconds: 0), max(fetched, used) < Self.endOfTime
        else { return nil }
        do throws(STSPolicyFault) {
            try self.init(Array(rest), id: id, fetched: fetched, lastUsed: used)
        } catch { return nil }
    }
}

/// Which of all that is kept has to go: what has ended, and what was not used for the longest time.
enum STSCacheSize {
    /// What is known of a file without reading it again.
    struct Item: Hashable, Sendable {
        let domain: String
        let end: Timestamp
        let lastUsed: Timestamp
    }

    /// The domains whose files are to be removed, so that at most `limit` are left.
    static func surplus(
        of items: [Item], at now: Timestamp, limit: Int = STSCachedPolicy.mostDomains
    ) -> [String] {
        let (ended, living) = (items.filter { $0.end <= now }, items.filter { $0.end > now })
        let oldest = living.sorted { ($0.lastUsed, $0.domain) < ($1.lastUsed, $1.domain) }
            .prefix(max(0, living.count - limit))
        return (ended + oldest).map(\.domain)
    }
}
