// What is known of a connection but for what is said on it: who, where to, and how it is encrypted. An edge makes one at
// accept, and another one if a proxy says who the client is; trust, limits, logs and whoever judges a client read it.
// What the edge learns later (TLS) is added to it.

package import NIOCore

/// The facts of a client's connection.
package struct ConnectionFacts: Sendable {
    /// One end of a connection.
    package enum Endpoint: Hashable, Sendable, CustomStringConvertible {
        /// An IPv4 or IPv6 address, and the TCP port at it.
        case ip(IPAddress, port: Int)
        /// A UNIX socket.
        case unix
        /// The peer of a TCP connection that was gone before we asked for its address. It is trusted with nothing.
        case unknown

        /// The IP address; nil for a UNIX socket.
        package var address: IPAddress? {
            guard case .ip(let address, _) = self else { return nil }
            return address
        }

        /// For logs: the IP address, "local" for a UNIX socket, or "unknown".
        package var description: String {
            switch self {
            case .ip(let address, _): address.description
            case .unix: "local"
            case .unknown: "unknown"
            }
        }

        fileprivate init(_ address: SocketAddress?) {
            switch address {
            case .v4, .v6: self = IPAddress(address).map { .ip($0, port: address?.port ?? 0) } ?? .unknown
            case .unixDomainSocket: self = .unix
            case nil: self = .unknown
            }
        }
    }

    /// The client: behind a proxy who that says it is, if it says so.
    package let peer: Endpoint
    /// The address that the client connected to: behind a proxy one of the proxy's, if it says which.
    package let local: Endpoint
    /// What the proxy said; nil: there is none.
    package let proxy: ProxyFacts?
    /// What was agreed in the handshake; nil in clear.
    package var tls: TLSFacts?

    /// The addresses of an accepted socket. Most clients of a UNIX socket have no address: our end says what it is.
    package init(peer: SocketAddress?, local: SocketAddress?) {
        self.local = Endpoint(local)
        self.peer = peer == nil && self.local == .unix ? .unix : Endpoint(peer)
        proxy = nil
    }

    /// As a proxy tells it.
    package init(peer: Endpoint, local: Endpoint, proxy: ProxyFacts) {
        self.peer = peer
        self.local = local
        self.proxy = proxy
    }

    /// Whether ``peer`` is who talks to us, as far as we know: not if a proxy stands between and does not say for whom. Such
    /// a client has the proxy's address, and must not have its rights.
    package var isClientKnown: Bool { proxy.map { $0.endpoint != peer } ?? true }

    /// The peer's address as Received and the queue's records have it: empty for a UNIX socket.
    package var clientAddress: String { peer.address?.description ?? "" }
}

/// What a proxy said in its PROXY header (proxy-protocol.txt of HAProxy, section 2), but for the addresses. All texts are
/// visible ones, of bounded length.
package struct ProxyFacts: Hashable, Sendable {
    /// TLS as it was between the client and the proxy: the session between the proxy and us may be in clear.
    package struct TLS: Hashable, Sendable {
        /// Version and cipher as the proxy calls them, "unknown" where it does not say.
        package let session: TLSDescription
        /// What the client's certificate calls its subject; nil: there is none, or it was not told.
        package let commonName: String?
        /// Whether the client had a certificate that the proxy found good.
        package let isClientVerified: Bool

        /// As the header has it.
        package init(_ session: TLSDescription, commonName: String?, isClientVerified: Bool) {
            self.session = session
            self.commonName = commonName
            self.isClientVerified = isClientVerified
        }
    }

    /// The proxy: who has really connected to us.
    package let endpoint: ConnectionFacts.Endpoint
    /// How the proxy names the connection in its own log, in hexadecimal if it is no text; nil: it does not say.
    package let uniqueID: String?
    /// The host that the client asked the proxy for (SNI); nil: it does not say.
    package let authority: String?
    /// nil: the client spoke in clear with the proxy, or it does not say.
    package let tls: TLS?

    /// A proxy that says nothing but addresses: all else is nil.
    package init(
        endpoint: ConnectionFacts.Endpoint, uniqueID: String? = nil, authority: String? = nil, tls: TLS? = nil
    ) {
        self.endpoint = endpoint
        self.uniqueID = uniqueID
        self.authority = authority
        self.tls = tls
    }
}

/// What was agreed with the peer in a TLS handshake: what costs nothing to know. Channel bindings and the peer's
/// certificate are to be had of SlimtaTLS's handler.
package struct TLSFacts: Hashable, Sendable {
    /// Version and cipher.
    package let session: TLSDescription
    /// The host that the client asked for (SNI, RFC 6066 section 3); nil if it named none, or none that is printable.
    package let serverName: String?
    /// Whether the peer's certificate was asked for and found good: chain and time, and of a server its host name.
    package let isPeerVerified: Bool

    /// Facts of a handshake that has ended well. Without the others: no name was asked for, no certificate looked at.
    package init(_ session: TLSDescription, serverName: String? = nil, isPeerVerified: Bool = false) {
        self.session = session
        self.serverName = serverName
        self.isPeerVerified = isPeerVerified
    }
}

/// What a TLS session turned out to be: for Received and logs.
package struct TLSDescription: Hashable, Sendable, CustomStringConvertible {
    /// "TLSv1.2" or "TLSv1.3".
    package let version: String
    /// OpenSSL's name of the cipher suite.
    package let cipher: String
    /// What the server's certificate was found to be by, in words; nil: nothing was asked of it.
    package var proof: String?

    /// From the words of OpenSSL.
    package init(version: String, cipher: String) {
        self.version = version
        self.cipher = cipher
    }

    /// "TLSv1.3 TLS_AES_256_GCM_SHA384".
    package var description: String { "\(version) \(cipher)" }
}

/// What binds a SASL exchange to the TLS session that it runs in (RFC 5056), so that nobody in between can pass it on.
package enum ChannelBinding: String, CaseIterable, Sendable {
    /// RFC 9266: of TLS 1.3, and of TLS 1.2 with the extended master secret (RFC 7627).
    case exporter = "tls-exporter"
    /// RFC 5929 section 4: a digest of the server's certificate.
    case endPoint = "tls-server-end-point"
}

/// Who a peer's certificate is for.
package struct CertificateIdentity: Hashable, Sendable {
    /// Subject alternative names of type rfc822Name (RFC 5280 section 4.2.1.6), and SmtpUTF8Mailbox (RFC 9598).
    package let emailAddresses: [String]
    /// Of type dNSName.
    package let hostNames: [String]
    /// What the subject is called; not to be believed where there are alternative names.
    package let commonName: String
    /// Whether there are alternative names, of whatever type.
    package let hasAlternativeNames: Bool
    /// What the issuer is called.
    package let issuerName: String
    /// SHA-256 of the whole certificate.
    package let fingerprint: [UInt8]
    /// SHA-256 of its public key, SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7): that stays when the certificate is
    /// renewed with the same key.
    package let keyFingerprint: [UInt8]
    /// Whether somebody who is trusted says so; the fingerprint alone is worth something without.
    package let isVerified: Bool

    /// What SlimtaTLS read in the certificate.
    package init(
        emailAddresses: [String], hostNames: [String], commonName: String, hasOtherNames: Bool = false,
        issuerName: String = "", fingerprint: [UInt8], keyFingerprint: [UInt8] = [], isVerified: Bool
    ) {
        self.emailAddresses = emailAddresses
        self.hostNames = hostNames
        self.commonName = commonName
        hasAlternativeNames = hasOtherNames || !emailAddresses.isEmpty || !hostNames.isEmpty
        self.issuerName = issuerName
        self.fingerprint = fingerprint
        self.keyFingerprint = keyFingerprint
        self.isVerified = isVerified
    }
}
