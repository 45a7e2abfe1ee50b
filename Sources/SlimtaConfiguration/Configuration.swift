// slimta.conf as typed values, made by `Configuration.parse`; the composition root hands each part to whom it concerns.
// A property has the name of its key, a type that of its table, a case's raw value is the file's, defaults are the sample's.

package import SlimtaMail
package import SlimtaRules
package import SlimtaSASL

/// All that slimta.conf says.
package struct Configuration: Sendable, Equatable {
    /// `hostname`: our name in banner, EHLO, Received and Message-ID; nil: the machine's fully qualified name.
    package var hostname: String?
    /// `[daemon]`
    package var daemon = Daemon()
    /// `[log]`
    package var log = LogSettings()
    /// `[tls]`; nil if the file has no such table: then no edge has TLS.
    package var tls: TLS?
    /// `[[edge]]`, in the file's order: at least one in a file without mistakes, and none where `[node]` has no such role.
    package var edges: [Edge]
    /// Those that the file has for other machines, by `[node] roles`.
    package var closedEdges: [Edge] = []
    /// `[[rule]]`, in the file's order, in which those of a stage are evaluated.
    package var rules: [Rule] = []
    /// `[[policy_service]]`, in the file's order: those of a stage are asked in that order, behind its rules.
    package var policyServices: [PolicyService] = []
    /// `[spf]`
    package var spf = SPF()
    /// `[[dnsbl]]`, in the file's order.
    package var dnsbls: [DNSBL] = []
    /// `[repair] duplicates`: what is done with a second header field of which there may be one.
    package var duplicates = DuplicateFields.refuse
    /// `[limits]`, for all edges.
    package var limits = Limits()
    /// `[auth]`, for all edges.
    package var auth = Auth()
    /// `[sender_check]` and `[[senders]]`, for all edges.
    package var senders = SenderRules()
    /// `[quota]`, for all edges; nil: nothing is counted.
    package var quota: QuotaRules?
    /// `[[forward]]`, in the file's order: the first that is for a recipient counts.
    package var forwards: [ForwardRule] = []
    /// `[spamassassin]`; nil: nobody is asked.
    package var spamAssassin: SpamAssassinSettings?
    /// `[signing]` and `[[dkim]]`
    package var signing = SigningSettings()
    /// `[[milter]]`, in the file's order, in which they are asked.
    package var milters: [MilterSettings] = []
    /// `[[site]]`, in the file's order: the first that has a host of a site counts.
    package var sites: [SiteSettings] = []
    /// `[node]`
    package var node = NodeSettings()
    /// `[queue]`
    package var queue = Queue()
    /// `[relay]`: where mail goes that no route takes.
    package var relay = Relay()
    /// `[dns]`
    package var dns = DNS()
    /// `[[route]]`, in the file's order: the first match wins.
    package var routes: [Route] = []
    /// `[[tls_policy]]`, in the file's order: the first that is for a domain counts.
    package var tlsPolicies: [TLSPolicySettings] = []
    /// `[tls_report]`; nil: no reports are sent.
    package var tlsReport: TLSReportSettings?
}

extension Configuration {
    /// `[daemon]`: the process.
    package struct Daemon: Sendable, Equatable {
        /// The user that a daemon started as root becomes once its ports are bound; never root.
        package var user = "slimtad"
        /// The group that it becomes with ``user``; never root.
        package var group = "slimtad"
        /// An absolute path; nil if the file says nothing: then $STATE_DIRECTORY, else ``defaultStateDirectory``.
        package var stateDirectory: String?
        /// An absolute path; nil if the file says nothing: then $RUNTIME_DIRECTORY, else ``defaultRuntimeDirectory``.
        package var runtimeDirectory: String?
        /// How long sessions and deliveries in progress may take to finish, at a stop.
        package var drainTimeout: Duration = .seconds(30)

        /// Where the queue is if neither slimta.conf nor systemd says where.
        package static let defaultStateDirectory = "/var/lib/slimtad"
        /// Where the control socket is if neither slimta.conf nor systemd says where.
        package static let defaultRuntimeDirectory = "/run/slimtad"
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

        /// What `minimum` may say: TLS 1.2 (RFC 5246), TLS 1.3 (RFC 8446).
        package enum Version: String, Sendable, CaseIterable {
            case tls12 = "1.2"
            case tls13 = "1.3"
        }

        /// `certificate` and `key`: for clients that ask for no name, or for one that no certificate is for.
        package var main: Pair
        /// `[[tls.certificates]]`: for clients that ask for their names (SNI), in the file's order.
        package var others: [Pair] = []
        /// The oldest version that clients may use.
        package var minimum = Version.tls12
        /// `client_ca`: a PEM file, an absolute path. Clients are asked for a certificate, and it is good if one in this file
        /// issued it; nil: they are asked with ``asksClients`` alone.
        package var clientCA: String?
        /// Whether clients are asked for a certificate whoever issued it: the users file knows them by its digest.
        package var asksClients = false
        /// How often the files are looked at: a renewed certificate is used without a reload.
        package var check: Duration = .seconds(86400)
    }

    /// `[[edge]]`: where mail comes in.
    package struct Edge: Sendable, Equatable {
        /// What it speaks, and what `[[edge]]` says for that kind alone.
        package enum Kind: Sendable, Equatable {
            case smtp(SMTP)
            case http(HTTP)
            case sendmail(Sendmail)
            case directory(Directory)

            /// The word that the file has for it, as `type`.
            package var name: String {
                switch self {
                case .smtp: "smtp"
                case .http: "http"
                case .sendmail: "sendmail"
                case .directory: "directory"
                }
            }
        }

        /// Its name in the log; no other edge has it.
        package var name: String
        /// Where clients connect, at least one address; none is any edge's twice. None for an edge without clients.
        package var listen: [ListenAddress]
        /// `type`: what it speaks.
        package var type = Kind.smtp(SMTP())

        /// Who may send, and over what.
        package var access: Access {
            switch type {
            case .smtp(let smtp): smtp.access
            case .http(let http): http.access
            case .sendmail, .directory: Access(tls: .cleartext, auth: .off)
            }
        }

        /// Where mail comes in, for people: addresses, or the folder.
        package var places: [String] {
            if case .directory(let directory) = type { [directory.path] } else { listen.map(\.description) }
        }

        /// Whether nobody but this machine can connect to it.
        package var isLoopbackOnly: Bool { listen.allSatisfy(\.isLoopback) }

        /// Whether all its clients are on this machine: behind a proxy that is here they may be anywhere, and one that the
        /// proxy says nothing about (`PROXY UNKNOWN`) has the proxy's address.
        package var hasOnlyOwnClients: Bool { isLoopbackOnly && access.proxyProtocol.isEmpty }

        /// Who may send without AUTH, from what ``access`` says of networks and AUTH.
        package var trust: ClientTrust {
            // Its clients are users, each of whom the kernel knows.
            if case .sendmail = type { return ClientTrust(networks: [], allowsThisMachine: false) }
            if case .directory(let directory) = type {
                return ClientTrust(networks: [], allowsThisMachine: !directory.ownerLogin)
            }
            return ClientTrust(
                networks: access.trustedNetworks,
                allowsThisMachine: access.auth != .required && hasOnlyOwnClients)
        }
    }

    /// `[limits]`: what one client, and all together, may cost.
    package struct Limits: Sendable, Equatable {
        /// Octets of a message (RFC 1870 section 6.1); a larger one gets 552 5.3.4.
        package var messageSize = 50 << 20
        /// Recipients of one message; one more gets 452 4.5.3 (RFC 5321 section 4.5.3.1.10).
        package var recipients = 1000
        /// Connections of all edges together; one more gets 421 4.7.0.
        package var connections = 10000
        /// Connections from one IPv4 address or IPv6 /64.
        package var connectionsPerAddress = 100
        /// 5xx replies since the last accepted message; then 421 4.7.0.
        package var errors = 10
        /// Commands without progress (an accepted recipient, DATA, a login); then 421 4.7.0.
        package var commands = 100
        /// How long the next command may be waited for (RFC 5321 section 4.5.3.2.7).
        package var commandTimeout: Duration = .seconds(300)
        /// Octets a second that a message must come with; 0: any octet is enough.
        package var leastRate = 1024
        /// How long nothing of a message may come.
        package var stallTimeout: Duration = .seconds(180)
        /// How long the whole message may take, however fast it comes; nil ("never"): as long as it takes.
        package var dataTimeout: Duration?
        /// How long a TLS handshake may take.
        package var handshakeTimeout: Duration = .seconds(30)
        /// Received fields of a message (RFC 5321 section 6.3); with more, 554 5.4.6.
        package var receivedHops = 50
        /// Whether MAIL and RCPT take an address without "<" and ">".
        package var lenientPaths = false
    }

    /// `[auth]`: how clients say who they are (RFC 4954 section 4).
    package struct Auth: Sendable, Equatable {
        /// Who knows users: in this order they are asked; at least one, none twice.
        package var backends: [AuthenticationBackEnd] = [.file]
        /// The users file: an absolute path.
        package var users = "/etc/slimta/users"
        /// `[auth.dovecot]`: where Dovecot's authentication service listens; nil: it is not asked.
        package var dovecot: ServiceAddress?
        /// SASL mechanisms in the order in which EHLO offers them; at least one.
        package var mechanisms: [SASLMechanism] = [.scramSHA256Plus, .scramSHA256, .plain, .login]
        /// Whether SCRAM is bound to the TLS session.
        package var channelBinding = ChannelBindingMode.offer
        /// The iterations of SCRAM keys that are made.
        package var scramIterations = SCRAMKeys.defaultIterations
        /// Whether a user whose password was right gets the SCRAM keys that are wanting.
        package var learnSCRAM = false
        /// What of a client's certificate is its login, for EXTERNAL.
        package var certificateLogin = CertificateLogin.email
        /// Whether a login that differs from a user's name by case only is that user's.
        package var foldCase = false
        /// `[auth.pam]`; nil: it is not asked.
        package var pam: PAMSettings?
        /// `[auth.oauth]`; nil: there is no such table.
        package var oauth: OAuthSettings?
    }

    /// `[queue]`: what is done to a message before it is stored, and how long it is tried.
    package struct Queue: Sendable, Equatable {
        /// What `policies` may have in it; each is a `QueuePolicy`.
        package enum Policy: String, Sendable, CaseIterable {
            /// Adds Date where it is missing (RFC 6409 section 8.2).
            case date
            /// Adds Message-ID where it is missing (RFC 6409 section 8.3).
            case messageID = "message_id"
            /// Puts others in the place of recipients, as `[[forward]]` says.
            case forward
            /// Asks spamd, as `[spamassassin]` says.
            case spamassassin
            /// Adds our Received field (RFC 5321 section 4.4).
            case received
            /// An envelope for each domain of the recipients.
            case domainSplit = "domain_split"
            /// An envelope for each recipient.
            case recipientSplit = "recipient_split"
        }

        /// What `seven_bit` may say: when content with octets above 127 is made 7-bit (RFC 6152 section 3).
        package enum SevenBit: String, Sendable, CaseIterable {
            /// For a host without 8BITMIME, where no other of the hosts can take it as it is.
            case whenNeeded = "when_needed"
            /// Before it is signed and stored.
            case always
            /// Never: it is refused where it cannot go.
            case never
        }

        /// `storage`: where it is.
        package var placement = QueuePlacement.local
        /// What is done to a message before it is stored, in the order that policies have of themselves; none twice.
        package var policies: [Policy] = [.date, .messageID, .received, .domainSplit]
        /// The domain, in A-labels, that addresses in the header get which have none; nil: they stay as they are.
        package var qualify: String?
        /// `received = { hide_client = true }`: whether our Received field leaves out who the client is.
        package var hidesClient = false
        /// How long to wait after attempt 1, 2, ...; the last one repeats. At least one.
        package var retry: [Duration] = [60, 300, 900, 1800, 3600, 7200, 14400].map { .seconds($0) }
        /// How long a message is tried; then its sender gets a bounce.
        package var expire: Duration = .seconds(5 * 86400)
        /// How long a message waits until its sender is told that it is delayed; nil ("never"): not told.
        package var warn: Duration? = .seconds(4 * 3600)
        /// false: accept and store, deliver nothing.
        package var deliver = true
        /// Octets of free disk, and an inode for each 100 KiB of them; with less, 452 4.3.1.
        package var minimumFree = 100 << 20
        /// When content is made 7-bit.
        package var sevenBit = SevenBit.whenNeeded
    }

    /// `[relay]`, and each route's: where mail goes out.
    package struct Relay: Sendable, Equatable {
        /// `type`, with the keys that only this type has.
        package enum Kind: Sendable, Equatable {
            /// To the recipient domain's MXes.
            case mx
            /// To one host, with AUTH if there is a login.
            case smtp(host: HostPort, login: Login?)
            /// To one host, which is spoken to in LMTP (RFC 2033), with AUTH if there is a login.
            case lmtp(host: HostPort, login: Login?)
            /// The same over a UNIX socket: an absolute path.
            case lmtpSocket(path: String)
            /// To one server that takes messages over HTTP.
            case http(HTTP)
            /// Into a maildir: an absolute path.
            case maildir(path: String)
            /// Into a command, which is started for each recipient.
            case pipe(PipeSettings)
            /// To nowhere: everything is delivered at once and gone.
            case blackhole

            /// The login that it has for its host.
            package var login: Login? {
                switch self {
                case .http(let server): server.login
                case .smtp(_, let login), .lmtp(_, let login): login
                case .mx, .lmtpSocket, .maildir, .pipe, .blackhole: nil
                }
            }

            /// Whether it has connections, of which each is an open file.
            package var connects: Bool {
                switch self {
                case .mx, .smtp, .lmtp, .lmtpSocket, .http: true
                case .maildir, .pipe, .blackhole: false
                }
            }
        }

        /// How we say who we are to the host.
        package typealias Login = HostLogin

        /// Which relay it is.
        package var type = Kind.mx
        /// `hosts` behind the first, which ``type`` has.
        package var otherHosts: [HostPort] = []
        /// `priority`: each message begins with the first host; else they take turns.
        package var isByPriority = false
        /// `ip`: which addresses of a host are used.
        package var addresses = AddressChoice.any
        /// `hostname`: our name in EHLO; nil: that of all.
        package var hostname: String?
        /// The TCP port of the domains' MXes; other relays do not use it.
        package var port = 25
        /// `rewrite_sender`, `rewrite_recipient` and `add_fields`: what is done to what goes there.
        package var rewrites = RouteRewrites()
        /// When a connection is encrypted.
        package var tls = RelayTLSMode.opportunistic
        /// What is done about hosts that were encrypted before.
        package var tlsMemory = RelayTLSMemory.enforce
        /// How long one address may take to take a connection.
        package var connectTimeout: Duration = .seconds(30)
        /// How long the first reply of an address is waited for (RFC 5321 section 4.5.3.2.1).
        package var greetingTimeout: Duration = .seconds(60)
        /// How long the reply to a command is waited for (RFC 5321 sections 4.5.3.2.2 to 4.5.3.2.4).
        package var commandTimeout: Duration = .seconds(300)
        /// Octets a second that a message must go out with; 0: any octet is enough.
        package var leastRate = 1024
        /// How long nothing of a message may go out (RFC 5321 section 4.5.3.2.5).
        package var stallTimeout: Duration = .seconds(180)
        /// How long the reply to the whole message is waited for (RFC 5321 section 4.5.3.2.6); with LMTP each of them.
        package var dataTimeout: Duration = .seconds(600)
        /// How long a whole attempt may take for a small message to one recipient, over all hosts.
        package var attemptTimeout: Duration = .seconds(1200)
        /// How long an idle connection is kept for the next message.
        package var idleTimeout: Duration = .seconds(30)
        /// Connections to all destinations together.
        package var connections = 500
        /// Connections to one destination.
        package var connectionsPerDestination = 20
        /// `client_certificate` and `client_key`: what hosts are shown that ask for a certificate; nil: none.
        package var clientCertificate: TLS.Pair?
        /// Our addresses that connections are made from; none: the system chooses.
        package var sourceAddresses: [IPAddress] = []
        /// Where MXes may be though no host of the Internet is there, or ``refuseNetworks`` has it.
        package var allowNetworks: [NetworkRange] = []
        /// Where MXes may not be, besides where they never may.
        package var refuseNetworks: [NetworkRange] = []
    }

    /// `[dns]`: whom we ask, and whether we believe it.
    package struct DNS: Sendable, Equatable {
        /// What `dnssec` may say (RFC 4035 section 5).
        package enum DNSSEC: String, Sendable, CaseIterable {
            case auto, required, off
        }

        /// Name servers, each an IP address with a port; none: those of /etc/resolv.conf.
        package var servers: [HostPort] = []
        /// Whether answers are validated.
        package var dnssec = DNSSEC.auto
    }

    /// `[[route]]`: mail for these domains, and from these senders and logins, goes another way.
    package struct Route: Sendable, Equatable {
        /// Recipients' domains that it takes; at least one.
        package var domains: [DomainPattern]
        /// Who may send what it takes.
        package var origin = RouteOrigin()
        /// Where their mail goes. Complete: what the route does not say is `[relay]`'s.
        package var relay: Relay
    }
}

extension Configuration.Edge {
    /// Who may send on an edge that others reach over a network, and over what.
    package struct Access: Sendable, Equatable {
        /// What `tls` of an edge may say.
        package enum TLSMode: String, Sendable, CaseIterable {
            /// In clear until the client asks for TLS (RFC 3207 section 4).
            case starttls
            /// TLS from the first octet (RFC 8314 section 3.3).
            case immediate
            /// No TLS at all.
            case cleartext = "none"
        }

        /// What `auth` of an edge may say.
        package enum AuthMode: String, Sendable, CaseIterable {
            /// MAIL before AUTH gets 530 5.7.0 (RFC 4954 section 6).
            case required
            /// AUTH is offered; who may send without it is what ``Configuration/Edge/trust`` says.
            case optional
            /// AUTH is not offered.
            case off = "none"
        }

        /// When a session is encrypted.
        package var tls = TLSMode.starttls
        /// Whether a client has to say who it is.
        package var auth = AuthMode.required
        /// Who may send without AUTH. On an edge that is not ``hasOnlyOwnClients`` nobody else may.
        package var trustedNetworks: [NetworkRange] = []
        /// The proxies: whoever connects from there has to say first for whom, in a PROXY header. Nobody else may.
        package var proxyProtocol: [NetworkRange] = []
        /// AUTH without TLS; only on an edge that is ``isLoopbackOnly``.
        package var plaintextAuth = false
    }

    /// What an edge of type "smtp" has.
    package struct SMTP: Sendable, Equatable {
        /// Who may send, and over what.
        package var access = Access()
        /// The first reply of a session.
        package var banner = Banner(code: 220, text: "{hostname} ESMTP Mail Gateway")
        /// How long a client waits for it; one that does not is an early talker.
        package var greetDelay: Duration = .zero

        /// The banner, code included, without CRLF.
        package func greeting(hostname: String) -> String { banner.reply(hostname: hostname).description }
    }

    /// What an edge of type "sendmail" has.
    package struct Sendmail: Sendable, Equatable {
        /// Names of users who may send as anybody; others as NAME@hostname.
        package var trustedUsers = ["root"]

        /// The default.
        package init() {}
    }

    /// What an edge of type "http" has.
    package struct HTTP: Sendable, Equatable {
        /// Who may send, and over what; never ``Access/TLSMode/starttls``.
        package var access = Access()
        /// Where messages are posted to: an absolute path, without a query.
        package var path = "/"
        /// Whether messages are taken as JSON too, at `/v1/messages`.
        package var json = false
        /// What clients that need no login may call it in `Host`, beside its addresses, "localhost" and our name.
        package var serverNames: [String] = []

        /// An edge with these, the rest as by default.
        package init(access: Access) { self.access = access }
    }

    /// What an edge of type "directory" has.
    package struct Directory: Sendable, Equatable {
        /// The pickup folder.
        package var path: String
        /// Whether the owner of a file is the login that submits it; else whoever may put a file there may send as anybody.
        package var ownerLogin = true
        /// How long a file has to stay as it is that was written in its place; zero: those who write rename or link.
        package var settle: Duration = .zero
        /// Owners who may send as anybody.
        package var trustedUsers = ["root"]
    }

    /// `banner`: code and text.
    package struct Banner: Sendable, Equatable {
        /// 220; or 400 to 599: then clients may say nothing but QUIT (RFC 5321 section 3.1).
        package var code: UInt16
        /// Printable ASCII, with `{hostname}` where our name is to be.
        package var text: String
        /// As it goes out. A text that begins with an enhanced status code of the code's class has that as its own.
        package func reply(hostname: String) -> Reply {
            let text = text.replacing("{hostname}", with: hostname)
            guard let status = EnhancedStatus(prefixOf: text), UInt16(status.statusClass) == code / 100 else {
                return Reply(code, nil, text)
            }
            return Reply(code, status, String(text.dropFirst(status.description.count + 1)))
        }
    }
}
