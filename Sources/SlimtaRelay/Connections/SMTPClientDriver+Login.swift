// What AUTH takes on an SMTP connection: the octets of its TLS session, and time away from the event loop. A part of
// SMTPClientDriver.

import NIOCore
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import SlimtaTLS

extension SMTPClientDriver {
    /// What AUTH can be bound to the TLS session by (RFC 5802 section 6): for passwords, which SCRAM proves.
    var bindings: [ChannelBinding: [UInt8]] {
        guard case .password? = plan.credentials?.secret, let tlsHandler else { return [:] }
        return ChannelBinding.allCases.reduce(into: [:]) { $0[$1] = tlsHandler.channelBinding($1) }
    }

    private var token: String? {
        if case .token(let token)? = machine.configuration.credentials?.secret { token } else { nil }
    }

    func tokenTaken() { if let token { plan.tokens?.accepted(token) } }

    func tokenRefused() { if let token { plan.tokens?.rejected(token) } }

    /// Has a response of AUTH computed: a key takes as long as the server wants it to. If the session ends meanwhile, nobody
    /// wants it any more.
    func compute() {
        guard let context, let computation = machine.computation else { return }
        let eventLoop = context.eventLoop
        let driver = NIOLoopBound(self, eventLoop: eventLoop)
        Task.detached {
            var running = computation
            running.run()
            let done = running
            eventLoop.execute { driver.value.computed(done) }
        }
    }

    private func computed(_ computation: SMTPLoginComputation) {
        guard context != nil else { return }
        var out = ByteBuffer()
        perform(machine.computed(computation, into: &out), &out)
        advance(&out)
    }
}

extension SessionPlan {
    /// ``credentials`` with the token that a session begins with now.
    var credentialsNow: SASLClient.Credentials? {
        guard let credentials, let tokens else { return credentials }
        // The pool does not connect without one; what refuses it between the two refuses that as well.
        return SASLClient.Credentials(username: credentials.username, .token(tokens.current ?? ""))
    }
}
