// Whether a domain wants TLS reports, and where (RFC 8460 section 3): its TXT record at `_smtp._tls.`. Asked for at the first
// negotiation of a day with the domain's hosts.

import SlimtaMail

/// The TXT record at `_smtp._tls.` of a domain.
struct TLSReportRecord: Hashable, Sendable {
    /// Where reports go. The first that takes one is enough.
    enum Destination: Hashable, Sendable, CustomStringConvertible {
        case mail(Mailbox)
        /// A host by name, on port 443 alone, and the request's target. The URL is a stranger's: with a port or an address in
        /// it anyone who has a domain could let us send requests into our own network.
        case https(host: String, target: String)

        var description: String {
            switch self {
            case .mail(let mailbox): "mailto:\(mailbox)"
            case .https(let host, let target): "https://\(host)\(target)"
            }
        }
    }

    /// In the order in which they are named; never empty.
    let destinations: [Destination]

    private static let version = Array("v=TLSRPTv1;".utf8)
    /// More of them are not kept.
    private static let most = 10

    static func name(of domain: String) -> String { "_smtp._tls.\(domain)" }

    /// The record among all TXT records of the name, the strings of each joined. Nil unless there is exactly one of ours, and it
    /// names a place that we can send to.
    init?(among records: [[UInt8]]) {
        let ours = records.filter { $0.starts(with: Self.version) }
        guard ours.count == 1, let record = ours.first else { return nil }
        let fields = record.dropFirst(Self.version.count).split(separator: UInt8(ascii: ";")).map(Self.trimmed)
        guard let field = fields.first(where: { $0.starts(with: "rua=".utf8) }) else { return nil }
        var seen: Set<Destination> = []
        destinations = field.dropFirst(4).split(separator: UInt8(ascii: ","))
            .compactMap { Self.destination(Self.trimmed($0)) }
            .filter { seen.insert($0).inserted }.prefix(Self.most).map(\.self)
        if destinations.isEmpty { return nil }
    }

    private static func trimmed(_ octets: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var octets = octets.drop(while: isBlank)
        while let last = octets.last, isBlank(last) { octets.removeLast() }
        return octets
    }

    private static func isBlank(_ octet: UInt8) -> Bool { octet == UInt8(ascii: " ") || octet == UInt8(ascii: "\t") }

    /// A URI of a scheme that we speak; nil: others are skipped.
    private static func destination(_ uri: ArraySlice<UInt8>) -> Destination? {
        guard uri.count <= 2000, uri.allSatisfy({ (0x21...0x7E).contains($0) }) else { return nil }
        if let address = rest(of: uri, behind: "mailto:") {
            // What a client's message would begin with (RFC 6068 section 2) is nothing to a report.
            let address = address.prefix { $0 != UInt8(ascii: "?") }
            let octets = address.unescaped(by: UInt8(ascii: "%"))
            guard let mailbox = Mailbox(parsing: octets.span, allowsUTF8: false),
                mailbox.domain.utf8.first != UInt8(ascii: "[")
            else { return nil }
            return .mail(mailbox)
        }
        guard let url = rest(of: uri, behind: "https://") else { return nil }
        let authority = url.prefix { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        var host = String(decoding: authority, as: UTF8.self).asciiLowercased()
        if host.hasSuffix(":443") { host.removeLast(4) }
        guard isHostName(host) else { return nil }
        let target = url[authority.endIndex...].prefix { $0 != UInt8(ascii: "#") }
        let text = String(decoding: target, as: UTF8.self)
        return .https(host: host, target: text.hasPrefix("/") ? text : "/\(text)")
    }

    private static func rest(of uri: ArraySlice<UInt8>, behind scheme: String) -> ArraySlice<UInt8>? {
        let start = uri.prefix(scheme.utf8.count)
        guard start.elementsEqual(scheme.utf8, by: { $0.asciiLowercased() == $1 }) else { return nil }
        return uri.dropFirst(scheme.utf8.count)
    }

    /// A name of two labels or more, the last of which is no number: that would be an address.
    private static func isHostName(_ host: String) -> Bool {
        guard STSPattern(host) != nil, !host.hasPrefix("*") else { return false }
        let labels = host.utf8.split(separator: UInt8(ascii: "."))
        return labels.count >= 2 && labels.last?.contains { !$0.isASCIIDigit } == true
    }
}
