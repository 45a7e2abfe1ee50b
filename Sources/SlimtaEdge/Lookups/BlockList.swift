// A DNS list (RFC 5782) as slimta.conf has it: what it is asked, and what its answers mean. A value without I/O;
// BlockListLookup asks, and the composition root makes one of each [[dnsbl]].

internal import SlimtaDNS
internal import SlimtaMail
package import SlimtaRules

/// A list of addresses or domains that is asked by DNS.
package struct BlockList: Sendable {
    /// What rules and logs call it. The zone is in neither: a key that was paid for can be part of it.
    package let name: String
    /// Where it is asked, in lower case and without dots around it. Not for logs and replies.
    package let zone: String
    /// What it is asked about.
    package let of: ListSubject
    /// The IPv4 addresses, as numbers, that mean "listed".
    package let answers: [ClosedRange<UInt32>]
    /// How long an answer is waited for; without one, nobody is listed.
    package let timeout: Duration
    /// Whether it is asked for clients that have authenticated.
    package let asksForAuthenticated: Bool
    /// Whether its text is wanted of who is listed: a question more.
    package let wantsText: Bool
    /// Whether ``zone`` is kept out of its text as well.
    package let isZoneSecret: Bool

    /// Without `answers` those that are usual for what it is asked about.
    package init(
        name: String, zone: String, of: ListSubject, answers: [ClosedRange<UInt32>]? = nil,
        timeout: Duration = .seconds(3),
        asksForAuthenticated: Bool = false, wantsText: Bool = false, isZoneSecret: Bool = false
    ) {
        self.name = name
        self.zone = zone.asciiLowercased().split(separator: ".").joined(separator: ".")
        self.of = of
        self.answers = answers ?? of.usualAnswers
        self.timeout = timeout
        self.asksForAuthenticated = asksForAuthenticated
        self.wantsText = wantsText
        self.isZoneSecret = isZoneSecret
    }

    // MARK: Questions

    /// Networks of which no list knows anything: this machine, private ones, link-local ones, nobody's.
    private static let local = [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
        "224.0.0.0/3", "::/96", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    ].compactMap { NetworkRange($0) }

    /// Where the list is asked about an address; nil if it is not to be.
    func question(about address: IPAddress) -> QueryName? {
        guard !Self.local.contains(where: { $0.contains(address) }) else { return nil }
        return QueryName("\(ReverseName.labels(of: address)).\(zone)")
    }

    /// Where the list is asked about a domain or a host; nil if it is not to be: an address or its literal (lists of names
    /// answer that they are asked wrongly), a name of one label (which says nothing, and may be a test entry), what is no
    /// name at all.
    func question(about name: String) -> QueryName? {
        guard var name = DomainName.ascii(name) else { return nil }
        if name.utf8.last == UInt8(ascii: ".") { name.removeLast() }
        let isName = name.utf8.allSatisfy { $0.isASCIILetterOrDigit || "-_.".utf8.contains($0) }
        guard isName, name.utf8.contains(UInt8(ascii: ".")), IPAddress(name) == nil else { return nil }
        return QueryName("\(name).\(zone)")
    }

    /// The entries that every list has, and those that none may have (RFC 5782 section 5). One of the former is enough:
    /// a list may have IPv4 or IPv6 addresses only, and those of Spamhaus, SURBL and URIBL have names of their own.
    var tests: (listed: [QueryName], unlisted: [QueryName]) {
        func names(_ texts: [String]) -> [QueryName] { texts.compactMap { QueryName("\($0).\(zone)") } }
        switch of {
        case .sender, .ehlo:
            return (
                names(["test", "dbltest.com", "surbl-org-permanent-test-point.com", "test.uribl.com"]),
                names(["invalid"])
            )
        case .client:
            let addresses = ["127.0.0.2", "127.0.0.1"].compactMap { IPAddress($0) }
            let labels = addresses.map { [ReverseName.labels(of: $0), ReverseName.mappedLabels(of: $0)] }
            return (names(labels.first ?? []), names(labels.last ?? []))
        }
    }

    // MARK: Answers

    /// What the A records of an answer mean.
    enum Judgement: Equatable, Sendable {
        case notListed
        /// By these addresses: all that there were.
        case listed([IPAddress])
        /// It does not answer questions, and says so with this address.
        case refused(IPAddress)
        /// Somebody answers who is no list: a parked domain, a search page.
        case foreign(IPAddress)
    }

    /// Judges an answer. One address that is an error makes an error of all: a list that is out of order stops no mail.
    func judge(_ addresses: [IPAddress]) -> Judgement { Self.judge(addresses, listed: answers) }

    /// Judges the answer for a test entry, which need not be among the answers that count.
    func judgeTest(_ addresses: [IPAddress]) -> Judgement {
        Self.judge(addresses, listed: [0x7F00_0002...0x7F00_01FE, 0x7F00_0200...0x7FFF_FEFF])
    }

    private static func judge(_ addresses: [IPAddress], listed answers: [ClosedRange<UInt32>]) -> Judgement {
        var listing = false
        for address in addresses {
            let number = address.octets.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            guard address.isIPv4, number >> 24 == 127 else { return .foreign(address) }
            // Spamhaus: the zone was mistyped, asked by a public resolver, or too often.
            if number >> 8 == 0x7FFF_FF { return .refused(address) }
            if answers.contains(where: { $0.contains(number) }) {
                listing = true
            } else if number == 0x7F00_0001 || number == 0x7F00_01FF {
                // URIBL and SURBL; DBL, asked about an address.
                return .refused(address)
            }
        }
        return listing ? .listed(addresses.sorted { $0.description < $1.description }) : .notListed
    }

    /// The text of a listing as it may be shown: visible ASCII of at most 200 octets, without what formats replies, and
    /// without the zone if that is secret. Of several the first.
    func text(_ records: [[UInt8]]) -> String? {
        var texts = records.map { record in
            let visible = record.filter { (0x20...0x7E).contains($0) && $0 != UInt8(ascii: "%") }
            return String(decoding: visible, as: UTF8.self)
        }
        if isZoneSecret { texts = texts.map { withoutZone($0) } }
        return texts.filter { !$0.isEmpty }.min().map { $0.cut(toOctets: 200) }
    }

    private func withoutZone(_ text: String) -> String {
        // The whole, and what may be a key in it.
        let labels = zone.split(separator: ".").filter { $0.utf8.count >= 8 }.map { Array($0.utf8) }
        return ([Array(zone.utf8)] + labels).reduce(text) { Self.replacing($1, in: $0, by: name) }
    }

    /// `octets` are in lower case.
    private static func replacing(_ octets: [UInt8], in text: String, by name: String) -> String {
        var (rest, result) = (Array(text.utf8)[...], [UInt8]())
        guard !octets.isEmpty else { return text }
        while !rest.isEmpty {
            if rest.prefix(octets.count).lazy.map({ $0.asciiLowercased() }).elementsEqual(octets) {
                result += name.utf8
                rest = rest.dropFirst(octets.count)
            } else {
                result.append(rest.removeFirst())
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
