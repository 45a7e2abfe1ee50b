// slimta.conf as typed values. Made by `Configuration.parse`; the composition root hands each part to whom it concerns.
// Field names are the file's keys; every default is the file's.

package import SlimtaMail

/// All that slimta.conf says.
package struct Configuration: Sendable, Equatable {
    /// For banner, EHLO, Received and Message-ID; nil: the machine's fully qualified name.
    package var hostname: String?
    package var daemon = Daemon()
    package var log = Log()
    /// nil: no edge needs TLS.
    package var tls: TLS?
    /// At least one.
    package var edges: [Edge]
    package var limits = Limits()
    package var auth = Auth()
    package var queue = Queue()
    /// Where mail goes that no route takes.
    package var relay = Relay()
    package var dns = DNS()
    /// In the file's order: the first match wins.
    package var routes: [Route] = []

    /// The relay for a recipient's domain, given with ASCII letters in lower case.
    package func relay(for foldedDomain: some StringProtocol) -> Relay {
        routes.first { $0.domains.contains { $0.matches(foldedDomain) } }?.relay ?? relay
    }
}

extension Configuration {
    /// `[daemon]`
    package struct Daemon: Sendable, Equatable {
        /// What a daemon that was started as root becomes.
        package var user = "slimtad"
        package var group = "slimtad"
        /// An absolute path; nil if the file says nothing: then $STATE_DIRECTORY, else ``defaultStateDirectory``.
        package var stateDirectory: String?
        /// An absolute path; nil if the file says nothing: then $RUNTIME_DIRECTORY, else ``defaultRuntimeDirectory``.
        package var runtimeDirectory: String?
        /// What sessions get to finish in, at stop.
        package var drainTimeout: Duration = .seconds(30)

        package static let defaultStateDirectory = "/var/lib/slimtad"
        package static let defaultRuntimeDirectory = "/run/slimtad"
    }

    /// `[log]`
    package struct Log: Sendable, Equatable {
        package enum Level: String, Sendable, CaseIterable {
            case trace, debug, info, notice, warning, error
        }

        package enum Target: String, Sendable, CaseIterable {
            /// The journal if started by systemd, else standard error.
            case auto
            case journal
            case standardError = "stderr"
        }

        package var level = Level.info
        package var target = Target.auto
    }

    /// `[tls]`: the certificates of all edges.
    package struct TLS: Sendable, Equatable {
        /// A certificate and its key.
        package struct Pair: Sendable, Hashable {
            /// A PEM file, the certificate first, then its chain: an absolute path or `credential:NAME`.
            package var certificate: String
            /// A PEM file: an absolute path or `credential:NAME`.
            package var key: String
        }

        package enum Version: String, Sendable, CaseIterable {
            case tls12 = "1.2"
            case tls13 = "1.3"
        }

        /// `certificate` and `key`: for clients that ask for no name, or for one that no certificate is for.
        package var main: Pair
        /// `[[tls.certificates]]`: for clients that ask for their names (SNI), in the file's order.
        package var others: [Pair] = []
        package var minimum = Version.tls12
        /// How often the files are looked at: a renewed certificate is used without a reload.
        package var check: Duration = .seconds(86400)
    }

    /// `[[edge]]`: where mail comes in.
    package struct Edge: Sendable, Equatable {
        /// What it speaks, and what `[[edge]]` says for that kind alone.
        package enum Kind: Sendable, Equatable {
            case smtp(SMTP)

            /// The word that the file has for it, as `type`.
            package var name: String {
                switch self {
                case .smtp: "smtp"
                }
            }
        }

        /// Of its own among the edges.
        package var name: String
        /// Where clients connect, at least one address; none is any edge's twice.
        package var listen: [ListenAddress]
        package var type = Kind.smtp(SMTP())

        /// Who may send, and over what.
        package var access: Access {
            switch type {
            case .smtp(let smtp): smtp.access
            }
        }

        /// Whether only this machine can reach it.
        package var isLoopbackOnly: Bool { listen.allSatisfy(\.isLoopback) }

        /// Who may send without AUTH.
        package var trust: ClientTrust {
            ClientTrust(
                networks: access.trustedNetworks,
                allowsThisMachine: access.auth != .required && isLoopbackOnly)
        }
    }

    /// `[limits]`
    package struct Limits: Sendable, Equatable {
        /// Octets.
        package var messageSize = 50 << 20
        /// Of one message; one more gets 452 4.5.3.
        package var recipients = 1000
        /// Of all edges together; one more gets 421 4.7.0.
        package var connections = 10000
        /// From one IPv4 address or IPv6 /64.
        package var connectionsPerAddress = 100
        /// 5xx replies since the last accepted message, then 421 4.7.0.
        package var errors = 10
        /// Commands without progress (an accepted recipient, DATA, a login), then 421 4.7.0.
        package var commands = 100
        /// RFC 5321 section 4.5.3.2.7.
        package var commandTimeout: Duration = .seconds(300)
        /// Octets a second that a message must come with; 0: any octet is enough.
        package var leastRate = 1024
        /// How long nothing of a message may come.
        package var stallTimeout: Duration = .seconds(180)
        /// For the whole message, however fast it comes; nil: as long as it takes.
        package var dataTimeout: Duration?
        /// For TLS.
        package var handshakeTimeout: Duration = .seconds(30)
        /// More Received fields than that: 554 5.4.6.
        package var receivedHops = 50
        /// Whether MAIL and RCPT take an address without "<" and ">".
        package var lenientPaths = false
    }

    /// `[auth]`
    package struct Auth: Sendable, Equatable {
        package enum Backend: String, Sendable, CaseIterable {
            case file
        }

        package enum Mechanism: String, Sendable, CaseIterable {
            case plain = "PLAIN"
            case login = "LOGIN"
        }

        package var backend = Backend.file
        /// An absolute path.
        package var users = "/etc/slimta/users"
        /// In the order in which they are offered; at least one.
        package var mechanisms: [Mechanism] = [.plain, .login]
        /// Whether a login that differs from a user's name by case only is that user's.
        package var foldCase = false
    }

    /// `[queue]`
    package struct Queue: Sendable, Equatable {
        package enum Policy: String, Sendable, CaseIterable {
            case date
            case messageID = "message_id"
            case received
            case domainSplit = "domain_split"
            case recipientSplit = "recipient_split"
        }

        /// In this order, before the message is stored; none twice.
        package var policies: [Policy] = [.date, .messageID, .received, .domainSplit]
        /// After attempt 1, 2, ...; the last one repeats. At least one.
        package var retry: [Duration] = [60, 300, 900, 1800, 3600, 7200, 14400].map { .seconds($0) }
        /// Then the sender gets a bounce.
        package var expire: Duration = .seconds(5 * 86400)
        /// Then the sender is told that it is delayed; nil: never.
        package var warn: Duration? = .seconds(4 * 3600)
        /// false: accept and store, deliver nothing.
        package var deliver = true
        /// Octets of free disk; with less, 452 4.3.1.
        package var minimumFree = 100 << 20
    }

    /// `[relay]`, and each route's: where mail goes out.
    package struct Relay: Sendable, Equatable {
        package enum Kind: Sendable, Equatable {
            /// To the recipient domain's MXes.
            case mx
            /// To one host, with AUTH if there is a login.
            case smtp(host: HostPort, login: Login?)
            /// Into a maildir: an absolute path.
            case maildir(path: String)
            /// To nowhere: everything is delivered at once and gone.
            case blackhole
        }

        package struct Login: Sendable, Equatable {
            package var username: String
            /// An absolute path or `credential:NAME`.
            package var passwordFile: String
        }

        package enum TLSMode: String, Sendable, CaseIterable {
            case opportunistic
            case required
            /// No TLS at all.
            case cleartext = "none"
        }

        package var type = Kind.mx
        /// Of MXes.
        package var port = 25
        package var tls = TLSMode.opportunistic
        package var connectTimeout: Duration = .seconds(30)
        package var greetingTimeout: Duration = .seconds(60)
        package var commandTimeout: Duration = .seconds(300)
        /// Octets a second that a message must go out with; 0: any octet is enough.
        package var leastRate = 1024
        /// How long nothing of a message may go out.
        package var stallTimeout: Duration = .seconds(180)
        /// For the reply to the whole message.
        package var dataTimeout: Duration = .seconds(600)
        /// A whole attempt for a small message to one recipient.
        package var attemptTimeout: Duration = .seconds(1200)
        /// How long an idle connection is kept for the next message.
        package var idleTimeout: Duration = .seconds(30)
        /// To all destinations together.
        package var connections = 500
        package var connectionsPerDestination = 20
        /// To bind to; none: the system chooses.
        package var sourceAddresses: [IPAddress] = []
        /// Of MXes: permitted though no host of the Internet is there, or ``refuseNetworks`` has it.
        package var allowNetworks: [NetworkRange] = []
        /// Of MXes: not permitted besides what never is.
        package var refuseNetworks: [NetworkRange] = []
    }

    /// `[dns]`
    package struct DNS: Sendable, Equatable {
        package enum DNSSEC: String, Sendable, CaseIterable {
            case auto, required, off
        }

        /// The host is an IP address; none: those of /etc/resolv.conf.
        package var servers: [HostPort] = []
        package var dnssec = DNSSEC.auto
    }

    /// `[[route]]`: mail for these domains goes another way.
    package struct Route: Sendable, Equatable {
        /// At least one.
        package var domains: [DomainPattern]
        /// Complete: what the route does not say is `[relay]`'s.
        package var relay: Relay
    }
}

extension Configuration.Edge {
    /// Who may send on an edge that others reach over a network, and over what.
    package struct Access: Sendable, Equatable {
        package enum TLSMode: String, Sendable, CaseIterable {
            case starttls
            case immediate
            /// No TLS at all.
            case cleartext = "none"
        }

        package enum AuthMode: String, Sendable, CaseIterable {
            /// MAIL before AUTH gets 530 5.7.0.
            case required
            case optional
            /// AUTH is not offered.
            case off = "none"
        }

        package var tls = TLSMode.starttls
        package var auth = AuthMode.required
        /// Who may send without AUTH. On an edge that is not ``isLoopbackOnly`` nobody else may.
        package var trustedNetworks: [NetworkRange] = []
        /// AUTH without TLS; only on an edge that is ``isLoopbackOnly``.
        package var plaintextAuth = false
    }

    /// What an edge of type "smtp" has.
    package struct SMTP: Sendable, Equatable {
        package var access = Access()
        /// With `{hostname}` in it: see ``greeting(hostname:)``.
        package var banner = "220 {hostname} ESMTP Mail Gateway"

        /// The banner, code included, without CRLF.
        package func greeting(hostname: String) -> String {
            banner.replacing("{hostname}", with: hostname)
        }
    }
}
