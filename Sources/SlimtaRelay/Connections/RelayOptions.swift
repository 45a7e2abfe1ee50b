// What a relay that speaks SMTP is told by the configuration: the composition root maps [relay] and [[route]] to it.

package import SlimtaMail
package import SlimtaSMTP
package import SlimtaTLS

/// The settings of an MX relay or of a relay to a fixed host.
package struct RelayOptions: Hashable, Sendable {
    /// Our name in EHLO.
    package var hostname: String
    /// Our other names: an exchanger of that name is ourselves too.
    package var otherNames: Set<String> = []
    /// Which addresses of a host are used.
    package var addresses = AddressChoice.any
    /// What is spoken.
    package var dialect = SMTPDialect.smtp
    /// The port of exchangers; a fixed host has its own.
    package var port = 25
    /// What is demanded of TLS at least.
    package var security = TLSFloor.opportunistic
    /// What is done about hosts that were encrypted before and are not now.
    package var tlsMemory = TLSMemoryUse.enforce
    /// What the TCP connection may take, and after it the TLS handshake.
    package var connectTimeout = Duration.seconds(30)
    /// What the greeting may take.
    package var greetingTimeout = Duration.seconds(60)
    /// What the replies to one group of commands may take. RFC 5321 section 4.5.3.2 says five minutes.
    package var commandTimeout = Duration.seconds(300)
    /// What the reply to the whole message may take; with LMTP, each of them.
    package var dataTimeout = Duration.seconds(600)
    /// What an attempt may take in all, over all hosts, for a small message to one recipient; see ``attemptLimit(size:recipients:)``.
    package var attemptTimeout = Duration.seconds(1200)
    /// Octets a second that a message must go out with; 0: any octet is enough.
    package var leastRate = 1024
    /// How long nothing of a message may go out.
    package var stallTimeout = Duration.seconds(180)
    /// With opportunistic TLS: how long a message waits for a server's TLS to work before it goes in clear. One that is
    /// refused by chance, or by somebody on the way, is not at once sent for all to read.
    package var clearTextAfter = Duration.seconds(300)
    /// The most messages in one session. Many servers allow a hundred.
    package var messagesPerSession = 100
    /// How long a session is given new messages.
    package var sessionTime = Duration.seconds(600)
    /// How long an idle connection is kept for the next message.
    package var idleTimeout = Duration.seconds(30)
    /// The most connections at a time, all destinations together.
    package var connections = 500
    /// The most connections at a time to one IP address and port.
    package var connectionsPerDestination = 20
    /// The IP addresses to connect from, in turn; a family without one is not used. Empty: what the system chooses.
    package var sourceAddresses: [String] = []
    /// The certificate that we show to hosts that ask for one; nil: none.
    package var identity: TLSIdentity?
    /// Whether messages with octets above 127 are made 7-bit for hosts without 8BITMIME.
    package var convertsToSevenBit = true
    /// Where DNS and address literals may send us. A fixed host may be anywhere: the operator named it.
    package var networks = PermittedNetworks()

    /// The defaults, under a name for EHLO: a domain name or an address literal (RFC 5321 section 4.1.1.1).
    package init(hostname: String) { self.hostname = hostname }

    /// What an attempt may take until the whole message is sent: a minute more for each MiB, a second for each recipient.
    /// The reply to the message has its own time-out behind that, since giving up then makes duplicates.
    func attemptLimit(size: Int, recipients: Int) -> Duration {
        attemptTimeout + .seconds(60) * (Double(size) / 1_048_576) + .seconds(recipients)
    }

    /// What a host may take to open a session and to answer the commands of a transaction, from the first octet that is
    /// written to it until it wants the content, for a transaction with so many recipients. Within that each reply has
    /// its own time-out: a host that uses up every one of them does not keep the others waiting for ever.
    func hostBudget(recipients: Int) -> Duration { commandTimeout * (2 + Double(recipients) / 10) }
}
