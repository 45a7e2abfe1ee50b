// What a server of Postfix's policy delegation is asked (SMTPD_POLICY_README, "Policy protocol"): the facts of a stage as its
// attributes. SlimtaEdge's gate makes one for each stage at which services are asked, PolicyServiceClient sends it.

package import SlimtaMail

/// What a session has beyond ``Facts`` that the protocol asks for. One of a session, kept by whoever asks.
package struct PolicySession: Hashable, Sendable {
    /// The name of the session, unique for as long as servers may remember it.
    package let id: UInt64
    /// What the client connected to.
    package let server: ConnectionFacts.Endpoint
    /// Whether what is asked about is EHLO, not HELO. Means something at ``Stage/ehlo`` only.
    package var isExtended = true
    /// The SASL mechanism that the login came by, as the client wrote it; nil: nobody has logged in.
    package var saslMethod: String?
    /// AUTH= of MAIL (RFC 4954 section 5), decoded, empty for `<>`; nil: none.
    package var saslSender: String?
    /// Whether MAIL had SMTPUTF8 (RFC 6531 section 3.4).
    package var smtpUTF8 = false
    /// The session's number of the transaction: each message has another one.
    package var transaction: UInt64 = 0
    /// The id that the message has or will have in the queue; nil: it has none yet.
    package var queueID: String?
    private var protocolName = "SMTP"

    /// A session that has begun. `server` is the local end of its connection.
    package init(id: UInt64, server: ConnectionFacts.Endpoint) {
        self.id = id
        self.server = server
    }

    /// EHLO or HELO was let through: from now on the session speaks ESMTP, or SMTP. Postfix does not go back to SMTP behind
    /// STARTTLS, and we do not.
    package mutating func helloAccepted(isExtended: Bool) { protocolName = isExtended ? "ESMTP" : "SMTP" }

    fileprivate var words: (protocolName: String, instance: String) {
        (protocolName, String(id, radix: 16) + "." + String(transaction, radix: 16))
    }
}

/// One question to a policy server.
///
/// All attributes are always there, in Postfix's order: old servers index without looking. A value never has a control
/// character in it, whoever wrote it, so that nobody can add an attribute or end the request.
package struct PolicyRequest: Hashable, Sendable {
    /// The stages that the protocol knows. It has none for STARTTLS and AUTH.
    package static let stages: Set<Stage> = [.connect, .ehlo, .mail, .rcpt, .data, .message]

    /// Names and values, `policy_context` left out: that belongs to the service.
    let attributes: [(name: String, value: String)]

    /// What is asked at `stage`; nil at a stage that the protocol does not know.
    ///
    /// The client's names are those of `facts.ptr`: look them up before. At ``Stage/rcpt`` `facts.recipient` is the one
    /// that is asked about, behind it `facts.recipients` are the accepted ones.
    package init?(_ facts: Facts, at stage: Stage, in session: PolicySession) {
        guard let state = Self.state(stage, session) else { return nil }
        let words = session.words
        let isBehindMAIL = stage.isAtOrBehind(.mail)
        let client = Client(facts)
        let server = Place(session.server)
        var attributes = [
            ("request", "smtpd_access_policy"), ("protocol_state", state), ("protocol_name", words.protocolName),
            ("client_address", client.place.address), ("client_name", client.name),
            ("client_port", client.place.port), ("reverse_client_name", client.reverseName),
            ("server_address", server.address), ("server_port", server.port),
            ("helo_name", stage == .connect ? "" : facts.ehlo ?? ""),
            ("sender", isBehindMAIL ? Self.sender(facts) : ""),
        ]
        attributes += Self.recipients(facts, stage)
        attributes += [
            ("queue_id", stage.isAtOrBehind(.rcpt) ? session.queueID ?? "" : ""),
            ("instance", stage.isAtOrBehind(.rcpt) ? words.instance : ""),
            ("size", isBehindMAIL ? String(facts.size ?? 0) : "0"),
            ("etrn_domain", ""), ("stress", ""),
            ("sasl_method", facts.login == nil ? "" : session.saslMethod ?? ""), ("sasl_username", facts.login ?? ""),
            ("sasl_sender", isBehindMAIL ? session.saslSender ?? "" : ""),
        ]
        attributes += Self.encryption(facts)
        self.attributes = attributes.map { ($0.0, $0.1.asAttribute) }
    }

    /// The request as it is sent: `name=value` and LF for each attribute, then an empty line. `context` is the service's
    /// own word, `policy_context`.
    package func text(context: String) -> String {
        var text = ""
        text.reserveCapacity(1024)
        for (name, value) in attributes { text += "\(name)=\(value)\n" }
        return text + "policy_context=\(context.asAttribute)\n\n"
    }

    private static func state(_ stage: Stage, _ session: PolicySession) -> String? {
        switch stage {
        case .connect: "CONNECT"
        case .ehlo: session.isExtended ? "EHLO" : "HELO"
        case .starttls, .auth: nil
        case .mail: "MAIL"
        case .rcpt: "RCPT"
        case .data: "DATA"
        case .message: "END-OF-MESSAGE"
        }
    }

    private static func sender(_ facts: Facts) -> String {
        switch facts.sender {
        case .mailbox(let mailbox): mailbox.unquoted
        case .null, nil: ""
        }
    }

    /// One recipient is told at RCPT, and later if there is no other. Postfix's count is 0 at each RCPT.
    private static func recipients(_ facts: Facts, _ stage: Stage) -> [(String, String)] {
        switch stage {
        case .connect, .ehlo, .starttls, .auth, .mail: return [("recipient", ""), ("recipient_count", "0")]
        case .rcpt: return [("recipient", facts.recipient?.unquoted ?? ""), ("recipient_count", "0")]
        case .data, .message:
            let only = facts.recipients.count == 1 ? facts.recipients[0].unquoted : ""
            return [("recipient", only), ("recipient_count", String(facts.recipients.count))]
        }
    }

    /// What a certificate says counts only if somebody who is trusted says it; its digests are worth something without.
    private static func encryption(_ facts: Facts) -> [(String, String)] {
        let certificate = facts.certificate
        let isVerified = certificate?.isVerified == true
        let cipher = facts.tls?.session.cipher ?? ""
        return [
            ("ccert_subject", isVerified ? certificate?.commonName.asXtext ?? "" : ""),
            ("ccert_issuer", isVerified ? certificate?.issuerName.asXtext ?? "" : ""),
            ("ccert_fingerprint", certificate?.fingerprint.asFingerprint ?? ""),
            ("ccert_pubkey_fingerprint", certificate?.keyFingerprint.asFingerprint ?? ""),
            ("encryption_protocol", facts.tls?.session.version ?? ""), ("encryption_cipher", cipher),
            ("encryption_keysize", String(keySize(of: cipher))),
        ]
    }

    /// The bits of a cipher's key, by OpenSSL's name of the cipher suite; 0: it names none, or we do not know it.
    static func keySize(of cipher: String) -> Int {
        var isBlockCipher = false
        for word in cipher.split(whereSeparator: { $0 == "-" || $0 == "_" }) {
            if word == "CHACHA20" { return 256 }
            // "AES256", or "AES_256": the digits of SHA256 are no key's.
            for name in ["AES", "ARIA", "CAMELLIA"] where word.hasPrefix(name) {
                isBlockCipher = true
                if let bits = Int(word.dropFirst(name.count)) { return bits }
            }
            if isBlockCipher, let bits = Int(word) { return bits }
        }
        return 0
    }

    /// Attribute for attribute.
    package static func == (a: PolicyRequest, b: PolicyRequest) -> Bool {
        a.attributes.elementsEqual(b.attributes) { $0 == $1 }
    }

    /// Hashes all attributes.
    package func hash(into hasher: inout Hasher) {
        for (name, value) in attributes {
            hasher.combine(name)
            hasher.combine(value)
        }
    }
}

/// An end of a connection as the protocol writes it: no brackets, no "IPv6:".
private struct Place {
    let address: String
    let port: String

    /// A client of a UNIX socket is this machine: Postfix says so of those that its sendmail command serves.
    init(_ endpoint: ConnectionFacts.Endpoint) {
        switch endpoint {
        case .ip(let ip, let number): (address, port) = (ip.description, String(number))
        case .unix: (address, port) = ("127.0.0.1", "")
        case .unknown: (address, port) = ("unknown", "unknown")
        }
    }
}

/// The client and its names. `unknown` stands for none, and for one whose addresses do not have the client among them.
private struct Client {
    let place: Place
    let name: String
    let reverseName: String

    init(_ facts: Facts) {
        place = Place(facts.client)
        guard facts.client != .unix else {
            (name, reverseName) = ("localhost", "localhost")
            return
        }
        name = facts.ptr?.confirmed.first ?? "unknown"
        reverseName = facts.ptr?.reverse ?? "unknown"
    }
}

extension String {
    /// Without anything that ends an attribute for some server: LF, NUL, and the other controls of ASCII, which are no part
    /// of any value.
    fileprivate var asAttribute: String {
        hasNoASCIIControl
            ? self : String(decoding: utf8.map { $0.isASCIIControl ? UInt8(ascii: "?") : $0 }, as: UTF8.self)
    }

    /// RFC 3461 section 4: what is not printable, "+" and "=" as "+" and two digits.
    fileprivate var asXtext: String {
        utf8.reduce(into: "") { text, octet in
            let isPlain =
                (33...126).contains(octet) && octet != UInt8(ascii: "+") && octet != UInt8(ascii: "=")
            text +=
                isPlain
                ? String(UnicodeScalar(octet)) : "+" + String(hexadecimal: octet, digits: 2, uppercase: true)
        }
    }
}

extension [UInt8] {
    /// "A8:DA:…".
    fileprivate var asFingerprint: String {
        map { String(hexadecimal: $0, digits: 2, uppercase: true) }.joined(separator: ":")
    }
}
