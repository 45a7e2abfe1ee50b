// What a browser tells of the page that it makes a request for. An edge on loopback or in an own network is in the reach of
// every page that somebody there has open, and the browser's address is one that may send. HTTPExchange asks.

internal import SlimtaMail

/// Tells requests that a page of somebody else's has made from those of programs and of pages that we are the server of.
/// Browsers do not let a page write `Host`, `Origin` or `Sec-Fetch-Site`; programs mostly leave out the last two.
enum WebPage {
    /// Whether a page of another origin asks that something be done. It could not read the answer, but would have sent.
    ///
    /// - Parameters:
    ///   - sites: the values of `Sec-Fetch-Site` (W3C Fetch Metadata).
    ///   - origins: those of `Origin` (RFC 6454 section 7), for browsers that do not send the other.
    static func isForeign(method: String, sites: [String], origins: [String], host: String?) -> Bool {
        // RFC 9110 section 9.2.1.
        if ["GET", "HEAD", "OPTIONS"].contains(method) { return false }
        // A page of ours behind a proxy that changes Host is still known by the first.
        if !sites.isEmpty { return !sites.allSatisfy { $0 == "same-origin" || $0 == "none" } }
        let host = host?.asciiLowercased()
        return !origins.allSatisfy { origin in
            guard let scheme = origin.firstRange(of: "://") else { return false }
            return String(origin[scheme.upperBound...]).asciiLowercased() == host
        }
    }

    /// Whether a `Host` can only have been written by somebody who means this server: an address, "localhost" or one of
    /// `names`. Any other name may be of a page whose owner has it lead here (DNS rebinding): of such a one the browser
    /// says that it is of our own origin.
    static func isOurs(host: String, names: [String]) -> Bool {
        let isBracketed = host.hasPrefix("[")
        var port = host.drop { $0 != (isBracketed ? "]" : ":") }
        if isBracketed, port.popFirst() == nil { return false }
        let name = host[..<port.startIndex]
        guard port.isEmpty || port.first == ":" && port.utf8.dropFirst().allSatisfy(\.isASCIIDigit) else {
            return false
        }
        if isBracketed { return IPAddress(name.dropFirst().dropLast()) != nil }
        if IPAddress(name) != nil { return true }
        let folded = String(name.hasSuffix(".") ? name.dropLast() : name).foldedAsDomain()
        return folded == "localhost" || names.contains { $0.foldedAsDomain() == folded }
    }
}

extension Reply {
    static let foreignPage = Reply(550, .init(5, 7, 1), "Pages of other sites may not send here")
    static let foreignHost = Reply(
        550, .init(5, 7, 1), "Host is neither an address nor a name of this server: see server_names in slimta.conf")
}
