// What [auth] says and does not do: where nobody can log in, what is offered to nobody, which settings change nothing. It takes
// mechanisms, back ends, channel_binding and edges together to say so. Part of Configuration.warnings.

internal import SlimtaMail
internal import SlimtaSASL

extension Configuration {
    /// Clients of an edge who can use the same mechanisms.
    private struct Clients {
        let edge: Edge
        /// Whether they come through one of its proxies, where their TLS may end.
        let isBehindProxy: Bool
    }

    /// Why some clients cannot use a mechanism.
    private enum Lack {
        case backEnd
        case isOff
        case isRequired
        case tls
        case directness
        case certificate
        /// HTTP has Basic and Bearer.
        case smtp
    }

    /// What of `[auth]` does nothing, or not all that it may seem to do.
    var loginWarnings: [Warning] {
        let clients = edges.flatMap { Self.clients(of: $0) }
        guard !clients.isEmpty else {
            let text = "it is never asked: no edge of type smtp or http has AUTH"
            return auth == Auth() ? [] : [Warning(keyPath: "auth", text: text)]
        }
        return offerWarnings(clients) + bindingWarnings(clients) + idleWarnings
    }

    private static func clients(of edge: Edge) -> [Clients] {
        guard edge.access.auth != .off else { return [] }
        let proxies = edge.access.proxyProtocol
        guard !proxies.isEmpty else { return [Clients(edge: edge, isBehindProxy: false)] }
        // Where nobody but this machine can connect, and it is a proxy, there is nobody else.
        let isProxyAlone =
            edge.isLoopbackOnly && !edge.listen.contains(where: \.isUNIX)
            && proxies.contains { network in
                ["127.0.0.1", "::1"].compactMap { IPAddress($0) }.contains(where: network.contains)
            }
        return (isProxyAlone ? [] : [Clients(edge: edge, isBehindProxy: false)])
            + [Clients(edge: edge, isBehindProxy: true)]
    }

    // MARK: What is offered

    /// Mechanisms that one of the back ends can serve; which of them a users file or Dovecot does serve is known later.
    private var served: Set<SASLMechanism> { auth.backends.reduce(into: []) { $0.formUnion(served(by: $1)) } }

    private func served(by backEnd: AuthenticationBackEnd) -> [SASLMechanism] {
        switch backEnd {
        case .file: SASLMechanism.allCases.filter { $0.scram != nil } + [.plain, .login, .external]
        case .pam: [.plain, .login]
        case .oauth: [.oauthBearer, .xoauth2]
        case .dovecot:
            // It knows users by names alone, and nothing of TLS sessions.
            SASLMechanism.allCases.filter {
                !$0.bindsChannel && ($0 != .external || auth.certificateLogin != .fingerprint)
            }
        }
    }

    /// Why they cannot use it; nil: they may.
    private func lack(of mechanism: SASLMechanism, _ clients: Clients) -> Lack? {
        guard served.contains(mechanism) else { return .backEnd }
        let hasTLS = clients.edge.access.tls != .cleartext
        if clients.edge.isHTTP { return mechanism == .plain ? nil : .smtp }
        if mechanism == .external {
            guard hasTLS else { return .tls }
            return tls?.clientCA == nil && !auth.knowsCertificates ? .certificate : nil
        }
        guard mechanism.scram != nil else { return nil }
        guard mechanism.bindsChannel else { return auth.channelBinding == .require ? .isRequired : nil }
        if auth.channelBinding == .off { return .isOff }
        return !hasTLS ? .tls : clients.isBehindProxy ? .directness : nil
    }

    private func canLogIn(_ clients: Clients) -> Bool {
        // Bearer is taken whether SMTP lists it or not; that Dovecot has it is known by who names it.
        let hasTokens =
            auth.backends.contains(.oauth)
            || auth.backends.contains(.dovecot) && auth.mechanisms.contains { $0 == .oauthBearer || $0 == .xoauth2 }
        return clients.edge.isHTTP && hasTokens || auth.mechanisms.contains { lack(of: $0, clients) == nil }
    }

    private func offerWarnings(_ clients: [Clients]) -> [Warning] {
        var texts: [String] = []
        for edge in edges {
            let own = Self.clients(of: edge)
            let shutOut = own.filter { !canLogIn($0) }
            guard let some = shutOut.first else { continue }
            let who = shutOut.count == own.count ? "nobody" : "nobody who comes through a proxy"
            let why =
                edge.isHTTP
                ? "Basic is taken with PLAIN in mechanisms only, and Bearer with \"oauth\" in backends"
                : reasons(auth.mechanisms, some)
            texts.append(
                "\(who) can log in \(edge.isHTTP ? "over HTTP " : "")on edge \(KeyPath.quoted(edge.name)): \(why)")
        }
        let idle = auth.mechanisms.filter { !served.contains($0) }
        // Nobody has said those that are there where nothing is said.
        if !idle.isEmpty, auth.mechanisms != Auth().mechanisms, clients.contains(where: { canLogIn($0) }) {
            texts.append("none of auth.backends serves \(Self.list(idle)): never offered")
        }
        let external = clients.filter { canLogIn($0) }.compactMap { lack(of: .external, $0) }
        if auth.mechanisms.contains(.external), served.contains(.external), let first = external.first,
            !clients.contains(where: { lack(of: .external, $0) == nil })
        {
            let worst = external.first { $0 == .certificate } ?? external.first { $0 == .tls } ?? first
            texts.append("EXTERNAL is offered to nobody: \(Self.reason(worst, [.external]))")
        }
        return texts.map { Warning(keyPath: "auth.mechanisms", text: $0) }
    }

    /// Why they can use none of these.
    private func reasons(_ mechanisms: [SASLMechanism], _ clients: Clients) -> String {
        var groups: [(lack: Lack, mechanisms: [SASLMechanism])] = []
        for mechanism in mechanisms {
            guard let lack = lack(of: mechanism, clients) else { continue }
            if let place = groups.firstIndex(where: { $0.lack == lack }) {
                groups[place].mechanisms.append(mechanism)
            } else {
                groups.append((lack, [mechanism]))
            }
        }
        return groups.map { Self.reason($0.lack, $0.mechanisms) }.joined(separator: "; ")
    }

    private static func reason(_ lack: Lack, _ mechanisms: [SASLMechanism]) -> String {
        let names = list(mechanisms)
        return switch lack {
        case .backEnd: "none of auth.backends serves \(names)"
        case .isOff: "channel_binding = \"off\" takes away \(names)"
        case .isRequired: "channel_binding = \"require\" takes away \(names)"
        case .tls: "without TLS there is no \(names)"
        case .directness: "who comes through a proxy has no \(names), for TLS may end there"
        case .certificate:
            "clients are asked for a certificate only with client_ca in [tls], or with certificate_login = "
                + "\"fingerprint\" and the back end \"file\""
        case .smtp: "HTTP has no \(names)"
        }
    }

    private static func list(_ mechanisms: [SASLMechanism]) -> String {
        mechanisms.map(\.rawValue).joined(separator: ", ")
    }

    // MARK: What does nothing

    private func bindingWarnings(_ clients: [Clients]) -> [Warning] {
        func warning(_ text: String) -> [Warning] { [Warning(keyPath: "auth.channel_binding", text: text)] }
        guard auth.channelBinding != .offer else { return [] }
        if let lack = lackOfSCRAM { return warning("does nothing: \(lack)") }
        let bound = auth.mechanisms.filter { $0.bindsChannel && served.contains($0) }
        guard auth.channelBinding == .require else {
            return bound.isEmpty ? warning("does nothing: mechanisms has no -PLUS that a back end serves") : []
        }
        let isOffered = clients.contains { some in bound.contains { lack(of: $0, some) == nil } }
        guard isOffered else {
            let others = clients.filter { canLogIn($0) && !$0.edge.isHTTP }
            guard let some = others.first else { return [] }
            let why = bound.isEmpty ? "mechanisms has no -PLUS that a back end serves" : reasons(bound, some)
            return warning("SCRAM is offered to nobody: \(why)")
        }
        return auth.mechanisms.contains { $0 == .plain || $0 == .login }
            ? warning(
                "it is SCRAM that is bound: who wants no passwords at all takes PLAIN and LOGIN out of mechanisms") : []
    }

    /// Why nobody logs in by SCRAM, bound or not; nil: somebody may.
    private var lackOfSCRAM: String? {
        let listed = auth.mechanisms.filter { $0.scram != nil }
        if listed.isEmpty { return "mechanisms has no SCRAM" }
        if served.isDisjoint(with: listed) { return "none of auth.backends serves SCRAM" }
        return edges.contains { $0.access.auth != .off && !$0.isHTTP } ? nil : "no edge of type smtp has AUTH"
    }

    private var idleWarnings: [Warning] {
        var warnings: [Warning] = []
        func warn(_ key: String, _ text: String) { warnings.append(Warning(keyPath: "auth.\(key)", text: text)) }
        let defaults = Auth()
        let hasFile = auth.backends.contains(.file)
        let noFile = "\"file\" is not in backends"
        if auth.users != defaults.users, !hasFile { warn("users", "nobody logs in by it: \(noFile)") }
        if auth.scramIterations != defaults.scramIterations, let lack = lackOfSCRAM {
            warn("scram_iterations", "does nothing: \(lack)")
        }
        if auth.learnSCRAM {
            let showsPassword = auth.mechanisms.contains { $0 == .plain || $0 == .login }
            let lack =
                !hasFile
                ? noFile : lackOfSCRAM ?? (showsPassword ? nil : "without PLAIN and LOGIN nobody shows a password")
            if let lack { warn("learn_scram", "does nothing: \(lack)") }
        }
        if auth.foldCase, !hasFile, !auth.backends.contains(.pam) {
            warn("fold_case", "does nothing: it is for \"file\" and \"pam\", and neither is in backends")
        }
        if auth.oauth != nil, !auth.backends.contains(.oauth) {
            warn("oauth", "the issuer is not asked: \"oauth\" is not in backends of [auth]")
        }
        // Of a single one it is said that nobody can log in.
        for backEnd in auth.backends where auth.backends.count > 1 {
            let own = served(by: backEnd)
            // Bearer is taken whatever SMTP lists.
            let isOfHTTP = backEnd == .oauth && edges.contains { $0.isHTTP && $0.access.auth != .off }
            guard !isOfHTTP, auth.mechanisms.allSatisfy({ !own.contains($0) }) else { continue }
            warn("backends", "\"\(backEnd.rawValue)\" is never asked: it serves none of mechanisms")
        }
        return warnings
    }
}

extension Configuration.Edge {
    /// Whether it speaks HTTP.
    fileprivate var isHTTP: Bool {
        switch type {
        case .http: true
        case .smtp, .sendmail, .directory: false
        }
    }
}
