// How much what is counted for TLS reports takes in their file, which is about what it takes in memory and in a report: the texts
// in it are those of strangers, and some of them change what they say each time. Asked by TLSReportCounter and TLSReportBook.

import SlimtaMail

/// The bounds, in octets of the file.
enum TLSReportRoom {
    /// All that is counted, and all reports that wait.
    static let all = 64 << 20
    /// What is counted for a domain in a day.
    static let domain = 256 << 10
    /// What is counted for a host in a day, for all domains together.
    static let host = 1 << 20
    /// What a domain of a day has at least, as a count and as a report that nobody has taken.
    static let least = 1024
    /// What is beside the texts of a policy, a detail, a destination, and a domain of a host.
    fileprivate static let (policy, detail, place) = (200, 140, 40)
    static let source = 120
}

extension String {
    /// No JSON of it has more octets.
    var octetsAsJSON: Int {
        utf8.reduce(2) { sum, octet in
            switch octet {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): sum + 2
            case 0x20...0x7E: sum + 1
            // Six of an ASCII character, and of two octets or more of others.
            case ...0x7F: sum + 6
            default: sum + 3
            }
        }
    }
}

extension TLSReportedPolicy {
    var octets: Int {
        let texts = (strings + mxHosts).reduce(0) { $0 + $1.octetsAsJSON + 1 }
        return TLSReportRoom.policy + domain.octetsAsJSON + texts
    }
}

extension TLSFailureDetail {
    var octets: Int {
        TLSReportRoom.detail + [source, mxName, mxHELO, address, reason].reduce(0) { $0 + ($1?.octetsAsJSON ?? 4) }
    }
}

extension TLSTally {
    var octets: Int { details.keys.reduce(0) { $0 + $1.octets } }
}

extension TLSReportRecord.Destination {
    var octets: Int {
        switch self {
        case .mail(let mailbox): TLSReportRoom.place + mailbox.text.octetsAsJSON
        case .https(let host, let target): TLSReportRoom.place + host.octetsAsJSON + target.octetsAsJSON
        }
    }
}

extension [TLSReportRecord.Destination] {
    var octets: Int { reduce(0) { $0 + $1.octets } }
}

/// What was counted for one domain, or for one domain of a host, policy by policy.
struct TLSTallies: Sendable {
    /// A domain has one for itself, and one for each of its hosts. Others are not counted.
    static let mostPolicies = 30

    private(set) var all: [TLSReportedPolicy: TLSTally]
    private(set) var octets: Int

    init(_ all: [TLSReportedPolicy: TLSTally] = [:]) {
        self.all = all
        octets = all.reduce(0) { $0 + $1.key.octets + $1.value.octets }
    }

    /// Counts a session: a failure with these details, or a success. Returns how many octets were added.
    ///
    /// - Parameter room: so many may be.
    mutating func count(_ details: [TLSFailureDetail], of policy: TLSReportedPolicy, room: Int) -> Int {
        var added = 0
        if all[policy] == nil {
            added = policy.octets
            guard all.count < Self.mostPolicies, added <= room else { return 0 }
        }
        let left = room - added
        added += all[policy, default: TLSTally()].count(details, room: left)
        octets += added
        return added
    }
}
