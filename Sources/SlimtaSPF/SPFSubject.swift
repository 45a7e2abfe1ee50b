// Whom a check is about: the client, and what it says that it is. Made once for each check; macros and Received-SPF read it.

package import SlimtaMail

/// The inputs of `check_host()` (RFC 7208 section 4.1), and what macros know besides.
package struct SPFSubject: Hashable, Sendable {
    /// The client. One that is IPv4 within IPv6 is IPv4 (section 5).
    package let client: IPAddress
    /// What it said in EHLO, as it was said.
    package let helo: String
    /// The address of MAIL; nil: the null sender.
    package let sender: Mailbox?
    /// Our host name.
    package let receiver: String
    /// Now, in seconds since 1970.
    package let time: Int64

    /// The local part that macros have, in the octets that it means: without quotes, for `"a"@x` is `a@x` (RFC 5321
    /// section 4.1.2). What is missing is postmaster (RFC 7208 section 4.3).
    let localPart: [UInt8]
    /// The domain of the sender that macros have: of the null sender what EHLO said (section 2.4).
    let domain: [UInt8]

    /// Whose domain is asked.
    package var identity: SPFIdentity { sender == nil ? .helo : .mailFrom }

    /// Of one MAIL command.
    package init(client: IPAddress, helo: String, sender: Mailbox?, receiver: String, time: Int64) {
        self.client = client
        self.helo = helo
        self.sender = sender
        self.receiver = receiver
        self.time = time
        let local = sender.map { Self.unquoted(Array($0.localPart.utf8)) } ?? []
        localPart = local.isEmpty ? Array("postmaster".utf8) : local
        let written = sender.map { String($0.domain) } ?? helo
        domain = Array((written.isASCII ? written : DomainName.ascii(written) ?? written).utf8)
    }

    /// The domain whose record is first; nil if it can have none.
    var firstDomain: [UInt8]? { SPFName.ofIdentity(sender.map { String($0.domain) } ?? helo) }

    /// What a quoted-string means (RFC 5322 section 3.2.4); anything else as it is.
    private static func unquoted(_ local: [UInt8]) -> [UInt8] {
        let quote = UInt8(ascii: "\"")
        guard local.count >= 2, local.first == quote, local.last == quote else { return local }
        var meant: [UInt8] = []
        var isEscaped = false
        for octet in local.dropFirst().dropLast() {
            if octet == UInt8(ascii: "\\"), !isEscaped {
                isEscaped = true
            } else {
                meant.append(octet)
                isEscaped = false
            }
        }
        return meant
    }
}
