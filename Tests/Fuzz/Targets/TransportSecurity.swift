// What strangers publish about TLS, in DNS and on their web servers, and the files that we keep of it.

import SlimtaMail

@testable import SlimtaRelay

extension FuzzTarget {
    /// A record of MTA-STS is an id that goes into a file, or none.
    static let stsRecord = FuzzTarget(name: "sts-record", maximumLength: 500) { octets in
        let records = octets.split(separator: UInt8(ascii: "\n")).map(Array.init)
        guard case .record(let record) = STSRecord.finding(among: records) else { return }
        try hold((1...32).contains(record.id.utf8.count), "an id of \(record.id.utf8.count) octets")
        try hold(record.id.utf8.allSatisfy(\.isASCIILetterOrDigit), "\(record.id) is no id")
        let again = STSRecord.finding(among: [Array("v=STSv1; id=\(record.id);".utf8)])
        try same(again, .record(record), "written and read again")
    }

    /// A policy demands no more and no less when it is written plainly, its patterns match what they say and nothing else, and
    /// a file of it comes back.
    static let stsPolicy = FuzzTarget(name: "sts-policy", maximumLength: 4000) { octets in
        guard let policy = try? STSPolicy(parsing: octets) else { return }
        try hold((0...STSPolicy.longestAge).contains(policy.maxAge), "an age of \(policy.maxAge)")
        try hold(policy.mode == .none || !policy.patterns.isEmpty, "a policy that nobody fits")
        var plain = "version: STSv1\nmode: \(policy.mode.rawValue)\nmax_age: \(policy.maxAge)\n"
        for pattern in policy.patterns { plain += "mx: \(pattern)\n" }
        let again = try? STSPolicy(parsing: Array(plain.utf8))
        try same(again?.patterns, policy.patterns, "patterns written and read again")
        try same(again?.mode, policy.mode, "the mode written and read again")
        try same(again?.maxAge, policy.maxAge, "the age written and read again")
        // The lines of a report are the policy still.
        let reported = try? STSPolicy(parsing: Array(policy.lines.joined(separator: "\r\n").utf8))
        try same(reported?.patterns, policy.patterns, "patterns of the reported lines")
        try same(reported?.mode, policy.mode, "the mode of the reported lines")
        for pattern in policy.patterns {
            let text = pattern.description
            let host = text.hasPrefix("*.") ? "x" + text.dropFirst() : text
            try hold(pattern.matches(host), "\(text) does not match \(host)")
            try hold(!pattern.matches("a.\(host)"), "\(text) matches a.\(host)")
        }
        let time = Timestamp(milliseconds: 1_800_000_000_000)
        guard let kept = try? STSCachedPolicy(octets, id: "a", fetched: time, lastUsed: time) else {
            return try hold(false, "a policy cannot be kept")
        }
        try same(STSCachedPolicy(file: kept.file), kept, "kept and read again")
    }

    /// A damaged file is none, or what it says; no domain is a path to somewhere else.
    static let stsFile = FuzzTarget(name: "sts-file", maximumLength: 2000) { octets in
        if let kept = STSCachedPolicy(file: octets) {
            try same(STSCachedPolicy(file: kept.file), kept, "written and read again")
        }
        if let path = STSCachedPolicy.path(of: String(decoding: octets.prefix(300), as: UTF8.self)) {
            let parts = path.split(separator: "/", omittingEmptySubsequences: false)
            try hold(parts.count == 2 && parts[0].utf8.count == 2 && !parts[1].hasPrefix("."), path)
        }
    }

    /// Reports go to addresses and to named hosts, whatever a record says.
    static let reportRecord = FuzzTarget(name: "tlsrpt-record", maximumLength: 1000) { octets in
        let records = octets.split(separator: UInt8(ascii: "\n")).map(Array.init)
        guard let record = TLSReportRecord(among: records) else { return }
        try hold((1...10).contains(record.destinations.count), "\(record.destinations.count) places")
        for place in record.destinations {
            switch place {
            case .mail(let mailbox):
                try same(Mailbox(parsing: mailbox.text), mailbox, "an address read again")
                try hold(mailbox.text.isASCII && mailbox.text.hasNoASCIIControl, "\(mailbox)")
            case .https(let host, let target):
                try hold(STSPattern(host) != nil && !host.hasPrefix("*"), "\(host) is no host")
                try hold(IPAddress(host) == nil, "\(host) is an address")
                try hold(target.hasPrefix("/") && target.utf8.allSatisfy { (0x21...0x7E).contains($0) }, target)
            }
        }
    }

    /// What is understood of a damaged memory is written and read again; it demands nothing that no line says.
    static let tlsMemory = FuzzTarget(name: "tls-memory", maximumLength: 2000) { octets in
        var memory = TLSMemory()
        let isWhole = memory.read(String(decoding: octets, as: UTF8.self))
        let lines = octets.split(separator: UInt8(ascii: "\n")).count
        try hold(isWhole == (memory.entries.count == lines), "\(memory.entries.count) of \(lines) lines")
        var again = TLSMemory()
        try hold(again.read(memory.text), "its own text is not understood")
        try same(again, memory, "written and read again")
        let now = Timestamp(milliseconds: 1_800_000_000_000)
        for (key, entry) in memory.entries {
            let standing = memory.standing(of: key, at: now)
            try hold(
                standing.encrypted == nil || entry.days >= TLSMemory.daysToCount, "\(key) after \(entry.days) days")
            memory.encrypted(key, at: now, by: .dane)
            try hold(memory.standing(of: key, at: now).hadDANE, "DANE is forgotten")
        }
    }
}
