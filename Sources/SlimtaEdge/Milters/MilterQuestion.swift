// What milters are told of a session: an event for each question of the gate, with the macros that go with it (reference/content.md
// section 2.3). The names are sendmail's, what they say is what Postfix says.

internal import SlimtaMail
internal import SlimtaMilter
internal import SlimtaRules
internal import SlimtaSMTP

extension Milters {
    /// What else than the question is known.
    struct Known {
        let situation: SessionGate.Situation
        /// The name of the edge: what milters call a daemon.
        let edge: String
        /// Whom the client's certificate is for.
        let certificate: CertificateIdentity?
        /// The client's name, if somebody has looked it up.
        let ptr: String?
        /// Whom mail for others goes to: they are who gets it.
        let forwards: ForwardRules
    }

    /// nil: they are told nothing at this stage.
    func events(_ question: SMTPServerMachine.Question, _ known: Known) -> [SessionMilters.Told]? {
        switch question {
        case .connect: [connect(known)]
        case .hello(let name, _): [(.hello(name), hello(known))]
        case .mail(let mail):
            [(.mail(path: "<\(mail.sender?.text ?? "")>", parameters: mail.parameters), self.mail(mail, known))]
        case .recipient(let recipient, _): recipients(recipient, known.forwards).map(self.recipient)
        case .data: [(.data, [:])]
        case .startTLS, .authentication, .login, .room, .message, .end: nil
        }
    }

    private func connect(_ known: Known) -> SessionMilters.Told {
        let connection = known.situation.connection
        var macros: MilterMacros = ["j": hostname, "v": version, "daemon_name": known.edge]
        if case .ip(let address, let port) = connection.local {
            macros["daemon_addr"] = address.description
            macros["daemon_port"] = "\(port)"
            macros["if_addr"] = address.description
        }
        let client: MilterClient
        switch connection.peer {
        case .ip(let address, let port):
            client = MilterClient(name: known.ptr, address: .ip(address, port: UInt16(clamping: port)))
            macros["client_port"] = "\(port)"
        // A socket of this machine: as if it had come over its loopback, which milters know what to make of.
        case .unix:
            let loopback = IPAddress(bytes: [127, 0, 0, 1])
            client = MilterClient(name: "localhost", address: loopback.map { .ip($0, port: 0) } ?? .unknown)
        case .unknown: client = MilterClient(name: nil, address: .unknown)
        }
        if case .ip(let address, _) = client.address {
            macros["client_addr"] = address.description
            macros["client_name"] = client.name ?? "unknown"
            macros["_"] = "\(client.name ?? "unknown") [\(address)]"
        }
        return (.connect(client), macros)
    }

    private func hello(_ known: Known) -> MilterMacros {
        guard let tls = known.situation.connection.tls?.session else { return [:] }
        var macros: MilterMacros = ["tls_version": tls.version, "cipher": tls.cipher]
        macros["cipher_bits"] = tls.cipherBits.map(String.init)
        if let certificate = known.certificate {
            macros["cert_subject"] = certificate.commonName
            macros["cert_issuer"] = certificate.issuerName
        }
        return macros
    }

    private func mail(_ mail: MailCommand, _ known: Known) -> MilterMacros {
        let session = known.situation.session
        var macros: MilterMacros = [:]
        macros["i"] = known.situation.id.map { "\($0)" }
        macros["auth_type"] = session.mechanism
        macros["auth_authen"] = session.login
        if let submitter = mail.submitter, !submitter.isEmpty { macros["auth_author"] = submitter }
        // Empty for the null reverse-path: it is known.
        macros["mail_addr"] = mail.sender?.text ?? ""
        macros["mail_host"] = mail.sender.map { String($0.domain) } ?? ""
        macros["mail_mailer"] = "smtp"
        return macros
    }

    /// What is told of a recipient that is refused: Postfix's macros for it.
    func refused(_ recipient: Mailbox, with reply: Reply) -> SessionMilters.Told {
        var macros: MilterMacros = ["rcpt_addr": reply.text, "rcpt_mailer": "error"]
        macros["rcpt_host"] = reply.status.map { "\($0)" }
        return (.recipient(path: "<\(recipient.text)>", parameters: []), macros)
    }

    private func recipients(_ recipient: Mailbox, _ forwards: ForwardRules) -> [Mailbox] {
        switch forwards.result(for: recipient) {
        case .to(let others): others
        case .unchanged, .refused: [recipient]
        }
    }

    private func recipient(_ recipient: Mailbox) -> SessionMilters.Told {
        (
            .recipient(path: "<\(recipient.text)>", parameters: []),
            ["rcpt_addr": recipient.text, "rcpt_host": String(recipient.domain), "rcpt_mailer": "smtp"]
        )
    }
}

extension MailCommand {
    /// Its parameters, as clients spell them.
    fileprivate var parameters: [String] {
        var parameters: [String] = []
        if let size { parameters.append("SIZE=\(size)") }
        if body == .eightBitMIME { parameters.append("BODY=8BITMIME") }
        if smtpUTF8 { parameters.append("SMTPUTF8") }
        if let submitter { parameters.append("AUTH=\(submitter.isEmpty ? "<>" : submitter.xtext)") }
        return parameters
    }
}

extension TLSDescription {
    /// How many bits its cipher's key has; nil: its name does not say.
    fileprivate var cipherBits: Int? {
        if ["AES_256", "AES256", "ARIA256", "CAMELLIA256", "CHACHA20"].contains(where: cipher.contains) { return 256 }
        return ["AES_128", "AES128", "ARIA128", "CAMELLIA128"].contains(where: cipher.contains) ? 128 : nil
    }
}
