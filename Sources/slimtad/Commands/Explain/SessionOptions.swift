// The options of `slimtad explain-session`: a session as an operator makes it up.

import ArgumentParser
import Glibc
import NIOCore
import SlimtaConfiguration
import SlimtaMail
import SlimtaRules
import SlimtaSASL
import SlimtaSystem

/// What an operator says of a session.
struct SessionOptions: ParsableArguments {
    @Option(help: "The client's IP address, or \"local\" for a UNIX socket.")
    var client: String

    @Option(help: "The edge that it comes to; without this the first one.")
    var edge: String?

    @Option(help: "The name in EHLO.")
    var ehlo: String?

    @Flag(help: "The session is in TLS.")
    var tls = false

    @Option(help: "The cipher of TLS.")
    var cipher = "TLS_AES_256_GCM_SHA384"

    @Flag(name: .customLong("proxy-tls"), help: "The proxy that it comes by says that it is in TLS there.")
    var proxyTLS = false

    @Option(help: "The name in the client's certificate, which is a good one.")
    var certificate: String?

    @Option(help: "Who logs in.")
    var login: String?

    @Option(help: "By which mechanism, such as PLAIN; without this by any that there is.")
    var mechanism: String?

    @Option(help: "Whose user the login is: one of [auth] backends; without this the first that may know it.")
    var backend: String?

    @Option(help: "The sender; \"<>\" is the null one.")
    var mail: String?

    @Option(help: "The size that MAIL says, in octets.")
    var size: Int?

    @Option(help: "A recipient; may be given several times.")
    var rcpt: [String] = []

    @Option(help: "A file with the message, or its header.")
    var message: String?

    @Flag(help: "The client speaks before it is greeted.")
    var earlyTalker = false

    @Option(help: "The time: HH:MM today, or a day and a time such as \"mon 09:30\".")
    var at: String?

    @Option(help: "How many messages were sent lately, such as \"login 120/hour\"; may be given several times.")
    var rate: [String] = []

    @Option(help: "The client's confirmed name; \"none\": it has none.")
    var ptr: String?

    @Option(help: "What SPF says: none, neutral, pass, fail, softfail, temperror, permerror.")
    var spf: String?

    @Option(help: "A list that has the client, the sender or the EHLO name; may be given several times.")
    var listed: [String] = []

    @Option(help: "A list that has it not; may be given several times.")
    var notListed: [String] = []

    @Flag(help: "Look nothing up: what is needed and not given is told as missing.")
    var noLookups = false

    // MARK: What they mean

    /// The session.
    func session(_ values: Configuration) throws(Failure) -> MadeUpSession {
        let edge = try edge(values)
        var facts = Facts(client: try endpoint(), edge: edge.name, now: try time())
        facts.isEarlyTalker = earlyTalker
        if proxyTLS { facts.proxyTLS = TLSDescription(version: "TLSv1.3", cipher: cipher) }
        facts.certificate = certificate.map {
            CertificateIdentity(
                emailAddresses: $0.contains("@") ? [$0] : [], hostNames: $0.contains("@") ? [] : [$0], commonName: $0,
                fingerprint: [], isVerified: true)
        }
        facts.rates = try rates()
        try fill(&facts, values)
        var session = MadeUpSession(edge: edge, facts: facts)
        // What comes later cannot be without what comes before.
        session.ehlo = ehlo ?? (tls || login != nil || mail != nil ? "client.example" : nil)
        if tls || edge.access.tls == .immediate {
            session.tls = TLSFacts(
                TLSDescription(version: cipher.hasPrefix("TLS_") ? "TLSv1.3" : "TLSv1.2", cipher: cipher),
                isPeerVerified: certificate != nil)
        }
        session.login = login
        session.sender = try sender()
        session.recipients = try recipients()
        session.declaredSize = size
        session.message = try content()
        return session
    }

    /// By what the client logs in, and whose user it is, as far as that is said.
    func choice(_ auth: Configuration.Auth) throws(Failure) -> LoginExplanation.Choice {
        var choice = LoginExplanation.Choice()
        if let mechanism {
            guard let found = SASLMechanism(rawValue: mechanism.uppercased()) else {
                throw wrong("mechanism", mechanism, SASLMechanism.allCases.map(\.rawValue).joined(separator: ", "))
            }
            choice.mechanism = found
        }
        if let backend {
            guard let found = auth.backends.first(where: { $0.rawValue == backend }) else {
                throw wrong("backend", backend, auth.backends.map(\.rawValue).joined(separator: ", "))
            }
            choice.backEnd = found
        }
        return choice
    }

    private func wrong(_ option: String, _ found: String, _ allowed: String) -> Failure {
        Failure(.usage, "--\(option): found \"\(found.visible)\", allowed is \(allowed)")
    }

    private func edge(_ values: Configuration) throws(Failure) -> Configuration.Edge {
        guard let edge else {
            guard let first = values.edges.first else { throw Failure(.configuration, "there is no [[edge]]") }
            return first
        }
        guard let found = values.edges.first(where: { $0.name == edge }) else {
            throw wrong("edge", edge, values.edges.map { "\"\($0.name)\"" }.joined(separator: ", "))
        }
        return found
    }

    private func endpoint() throws(Failure) -> ConnectionFacts.Endpoint {
        if client == "local" { return .unix }
        guard let address = IPAddress(client) else { throw wrong("client", client, "an IP address, or \"local\"") }
        return .ip(address, port: 0)
    }

    /// `--at`, or now.
    private func time() throws(Failure) -> LocalTime {
        let now = Timestamp.now()
        var time = LocalTime(now, offset: now.localOffset)
        guard let at else { return time }
        var words = at.split(separator: " ")
        if words.count == 2 {
            guard let day = LocalTime.Weekday(rawValue: words[0].lowercased()) else {
                throw wrong("at", at, "a day from mon to sun and a time, such as \"mon 09:30\"")
            }
            time.weekday = day
            words.removeFirst()
        }
        let parts = words.first.map { $0.split(separator: ":").compactMap { Int($0) } } ?? []
        guard words.count == 1, parts.count == 2, (0..<24).contains(parts[0]), (0..<60).contains(parts[1]) else {
            throw wrong("at", at, "HH:MM, or a day and a time such as \"mon 09:30\"")
        }
        time.minute = parts[0] * 60 + parts[1]
        return time
    }

    private func rates() throws(Failure) -> RateFacts {
        var counts: [RateFacts.Key: Int] = [:]
        for rate in rate {
            let words = rate.split(separator: " ")
            let parts = words.last.map { $0.split(separator: "/") } ?? []
            guard words.count == 2, parts.count == 2, let subject = RateSubject(rawValue: String(words[0])),
                let count = Int(parts[0]), let window = RateWindow(rawValue: String(parts[1]))
            else { throw wrong("rate", rate, "\"client\" or \"login\" and a number, such as \"login 120/hour\"") }
            counts[RateFacts.Key(subject, window)] = count
        }
        return RateFacts(counts)
    }

    /// What is given and so needs no lookup.
    private func fill(_ facts: inout Facts, _ values: Configuration) throws(Failure) {
        if let ptr { facts.ptr = ptr == "none" ? PTRFact() : PTRFact(confirmed: [ptr.lowercased()], reverse: ptr) }
        if let spf {
            guard let result = SPFResult(rawValue: spf) else {
                throw wrong("spf", spf, SPFResult.allCases.map(\.rawValue).joined(separator: ", "))
            }
            facts.spf = SPFFact(result, reason: "as --spf says")
        }
        let names = values.dnsbls.map(\.name)
        for (option, given) in [("listed", listed), ("not-listed", notListed)] {
            for name in given {
                guard names.contains(name) else {
                    throw wrong(
                        option, name, names.isEmpty ? "nothing: there is no [[dnsbl]]" : names.joined(separator: ", "))
                }
                facts.listings[name] = option == "listed" ? .listed([], text: nil) : .notListed
            }
        }
    }

    private func sender() throws(Failure) -> Facts.Sender? {
        guard let mail else {
            guard rcpt.isEmpty, message == nil, size == nil else {
                throw Failure(.usage, "--rcpt, --size and --message want --mail, whose they are")
            }
            return nil
        }
        if mail.isEmpty || mail == "<>" { return .null }
        return .mailbox(try mailbox(mail, "mail"))
    }

    private func recipients() throws(Failure) -> [Mailbox] {
        var recipients: [Mailbox] = []
        for text in rcpt { recipients.append(try mailbox(text, "rcpt")) }
        guard !recipients.isEmpty || message == nil else { throw Failure(.usage, "--message wants --rcpt") }
        return recipients
    }

    private func mailbox(_ text: String, _ option: String) throws(Failure) -> Mailbox {
        let inner = text.hasPrefix("<") && text.hasSuffix(">") ? String(text.dropFirst().dropLast()) : text
        guard let mailbox = Mailbox(parsing: inner) else { throw wrong(option, text, "an address") }
        return mailbox
    }

    /// The message of `--message`, as it would come over the wire.
    private func content() throws(Failure) -> (header: HeaderFacts, content: ContentFact, size: Int)? {
        guard let message else { return nil }
        var octets: [UInt8]
        do throws(SystemError) {
            octets = try SecureFile.read(message, maximum: 1 << 30, mustNotBeReadableByOthers: false)
        } catch {
            throw Failure(.usage, "--message: \(error)")
        }
        if !octets.contains(13) {
            octets = octets.flatMap { $0 == 10 ? [13, 10] : [$0] }
        }
        let size = octets.count
        if !HeaderFacts(of: ByteBuffer(bytes: octets)).isComplete {
            // A header alone: its end is added.
            octets += Array((octets.last == 10 ? "\r\n" : "\r\n\r\n").utf8)
        }
        let whole = ByteBuffer(bytes: octets)
        return (HeaderFacts(of: whole), ContentFact(of: whole), size)
    }
}
