// What an SMTP connection tells of its TLS, for TLS reports. A part of SMTPClientDriver.

import SlimtaSMTP

extension SMTPClientDriver {
    /// TLS is established: what there is to be said of the certificate can be asked now, and not later.
    func lookAtCertificate() {
        if let watch { certificate = watch.certificate(of: tlsHandler, by: plan.demand) }
    }

    /// The session is open, or there is none: what came of TLS counts once. Not before: with TLS 1.3 a server says behind the
    /// handshake that it does not like our certificate.
    ///
    /// - Parameter fault: what of TLS did not come about; nil: nothing, or it did not come to that.
    func tellTLS(_ fault: SMTPClientMachine.SessionFailure.TLSFault?, words: String = "") {
        guard let watch else { return }
        self.watch = nil
        let outcome: TLSSessionOutcome
        if let fault {
            outcome = TLSSessionOutcome(fault, tlsError, words: words)
        } else if tls != nil {
            outcome = .established(certificate)
        } else {
            return
        }
        watch.tell(outcome, by: plan.demand, from: source, to: host, greeting: machine.serverName)
    }
}
