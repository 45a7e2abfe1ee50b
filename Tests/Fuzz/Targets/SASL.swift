// SASL: what clients say in each mechanism, what servers say to our client, and the forms of names, passwords and keys.

import SlimtaMail

@testable import SlimtaSASL

extension FuzzTarget {
    /// Whatever a client says, nobody is let in whom no back end has; names stay in their lines of a log, and have one form.
    static let sasl = FuzzTarget(name: "sasl", maximumLength: 1500) { octets in
        var choices = Choices(octets)
        let mechanism = choices.one(of: SASLMechanism.allCases)
        let context = SASLContext(
            listed: choices.flag() ? [mechanism] : [], bindings: [.exporter: [1, 2, 3]],
            inventing: SecretOctets("secret".utf8), iterations: 4096, hostname: "mx.test",
            tokenHint: .init(scope: choices.flag() ? "a\"b" : nil))
        var server = SASLServer(mechanism, context: context, nonce: "NONCE")
        // Lines end responses, so that seeds can be read.
        let lines = choices.rest.split(separator: 10, omittingEmptySubsequences: false)
        var step = lines.first?.elementsEqual("-".utf8) == true ? server.received(nil) : .challenge([])
        var isVouchedFor = false
        for line in lines {
            if case .ask(let question) = step {
                isVouchedFor = isVouchedFor || vouches(question)
                step = server.answered(answer(question))
            }
            if case .challenge(let challenge) = step {
                try hold(challenge.count < 2000 && !challenge.contains { $0 < 0x20 }, "a challenge that is no line")
                step = server.received(Array(line))
            }
            if let login = server.login {
                try hold(
                    !login.hasControls && (1...3 * LoginName.maximumLength).contains(login.utf8.count), "the login")
                try same(try LoginName.normalized(login.utf8), login, "a login that is normalised twice")
            }
        }
        if case .success(let login) = step { try hold(isVouchedFor && !login.isEmpty, "\(login.visible) got in") }
    }

    /// A server that says anything gets a response or none, and proves nothing.
    static let saslClient = FuzzTarget(name: "sasl-client", maximumLength: 600) { octets in
        var choices = Choices(octets)
        let mechanism = choices.one(of: SASLMechanism.allCases)
        for secret in [.password("p"), .token("t"), .certificate] as [SASLClient.Credentials.Secret] {
            guard
                var client = SASLClient(
                    offered: [mechanism], credentials: .init(username: "u", secret), bindings: [.exporter: [1]],
                    nonce: "NONCE")
            else { continue }
            _ = client.begin()
            for line in choices.rest.split(separator: 10, omittingEmptySubsequences: false) {
                // 4,999,999 iterations are as good as 4,096, and take a second.
                if let found = line.firstRange(of: ",i=".utf8), line[found.upperBound...].prefix(5).count > 4 { return }
                guard client.respond(to: Array(line)) != nil else { break }
            }
            try hold(client.isProven == (mechanism.scram == nil), "a server that knows nothing is believed")
        }
    }

    /// A prepared text is UTF-8, and is prepared; keys are read as they are written.
    static let preparation = FuzzTarget(name: "preparation", maximumLength: 400) { octets in
        if let prepared = SASLprep.prepare(octets) {
            try hold(String(validating: prepared, as: UTF8.self) != nil, "SASLprep makes no UTF-8")
            try hold(!prepared.contains { $0 < 0x20 || $0 == 0x7F }, "SASLprep leaves a control")
        }
        if let prepared = PRECIS.opaqueString(octets) {
            try same(PRECIS.opaqueString(prepared), prepared, "a password that is prepared twice")
        }
        if let name = PRECIS.usernameCasePreserved(octets) {
            try same(PRECIS.usernameCasePreserved(name), name, "a name that is prepared twice")
            try hold(!name.contains { $0 <= 0x20 || $0 == 0x7F }, "a name with blanks")
        }
        if let keys = SCRAMKeys(String(decoding: octets, as: UTF8.self)) {
            try same(SCRAMKeys(keys.rfc5803Text), keys, "keys as RFC 5803 has them")
            let dovecots = "{\(keys.hash.rawValue)}\(keys.commaSeparated)"
            try same(SCRAMKeys(dovecots), keys, "keys as Dovecot has them")
            try same(SCRAMKeys(keys.hash, commaSeparated: keys.commaSeparated), keys, "keys between commas")
        }
    }
}

/// Whether a back end that knows nobody's keys says yes.
private func vouches(_ question: SASLQuestion) -> Bool {
    switch question {
    case .password(let credentials): credentials.password.first == UInt8(ascii: "p")
    case .token(_, let token): token.first == UInt8(ascii: "T")
    case .certificate(let name): name != nil
    case .keys, .secret: false
    }
}

private func answer(_ question: SASLQuestion) -> SASLAnswer {
    switch question {
    case .password(let credentials): vouches(question) ? .right(login: credentials.login) : .wrong
    case .token(let login, _): vouches(question) ? .right(login: login ?? "token") : .wrong
    case .certificate(let name): vouches(question) ? .right(login: name ?? "") : .wrong
    case .keys: .keys(nil)
    case .secret: .secret(nil)
    }
}
