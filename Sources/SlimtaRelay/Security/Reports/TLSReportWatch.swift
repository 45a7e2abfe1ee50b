// What a connection tells TLSReports of its TLS. A job that may open one carries it there; SMTPClientDriver calls it once, when
// the session is open or is none.

import NIOCore
import SlimtaSMTP
import SlimtaTLS

/// For one host, of one attempt.
struct TLSReportWatch: Sendable {
    let subject: TLSReportSubject
    let reports: TLSReports
    /// Has the roots of the system; nil: nothing is verified by this relay.
    let trusted: TLSClientContext?
    /// Hosts of the domain that are not asked, for its policy does not name them: where mail finds another way, they are told
    /// with the connection that it goes by, and not with each message.
    var leftOut: [String] = []

    /// What there is to be said of the certificate of a session that is established: it is compared where somebody wants that
    /// and the plan has not.
    func certificate(of session: TLSHandler?, by plan: TLSPlan) -> TLSSessionOutcome.Certificate {
        if plan.proves(subject.host) { return .good }
        guard subject.wantsCertificate, let trusted, let session else { return .unseen }
        guard let error = session.certificateError(for: subject.host, trusting: trusted) else { return .good }
        return .bad(error.fault ?? .chain)
    }

    /// Counts what came of the connection's TLS.
    func tell(
        _ outcome: TLSSessionOutcome, by plan: TLSPlan, from source: SocketAddress?, to host: MailHost,
        greeting: String?
    ) {
        let policies = subject.results(of: outcome, by: plan)
        guard !policies.isEmpty else { return }
        reports.count(
            TLSNegotiation(
                policies: policies, source: source?.ipAddress ?? "", mxName: subject.host, mxHELO: greeting,
                address: host.address.ipAddress ?? ""), for: subject.domain,
            leftOut: subject.sts.map { (hosts: leftOut, policy: $0) })
    }
}

extension TLSSessionOutcome {
    /// What did not come about.
    init(_ fault: SMTPClientMachine.SessionFailure.TLSFault, _ error: TLSError?, words: String) {
        switch fault {
        case .notOffered: self = .notOffered
        case .refused: self = .refused
        case .failed:
            if let fault = error?.fault {
                self = .certificate(fault, isBesideRecords: error?.isBesideRecords == true)
            } else {
                self = .handshake(error?.message ?? words)
            }
        }
    }
}
