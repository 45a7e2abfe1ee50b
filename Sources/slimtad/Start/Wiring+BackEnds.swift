// From `[auth]` to the back ends that are asked who clients are.

import NIOCore
import SlimtaConfiguration
import SlimtaEdge

extension Configuration {
    /// Whether clients of some edge say who they are.
    var hasAuth: Bool { edges.contains { $0.access.auth != .off } }
}

extension ConfigurationFile {
    /// The back end `pam`; nil: it is not asked.
    func pamBackEnd(group: any EventLoopGroup) throws -> PAMBackEnd? {
        guard let pam = values.auth.pam else { return nil }
        let socket = socket(of: .pam)
        return PAMBackEnd(
            at: try SocketAddress(unixDomainSocketPath: socket), socket: socket, timeout: TimeAmount(pam.timeout),
            names: pamNames, systemErrorsRefuse: pam.systemError == .refuse, group: group)
    }

    /// What users of PAM are called.
    var pamNames: PAMNames {
        PAMNames(domain: values.auth.pam?.domain, hostname: hostname, foldsCase: values.auth.foldCase)
    }
}

extension Configuration.Auth {
    /// The back end `dovecot`, which begins to connect; nil: it is not asked.
    ///
    /// - Parameter previous: the one in use, with the settings that it was made by: it stays if they are the same.
    func dovecotBackEnd(
        keeping previous: (settings: Configuration.Auth, backEnd: DovecotBackEnd?)?, on ground: Ground
    ) throws -> DovecotBackEnd? {
        guard let dovecot else { return nil }
        if let previous, previous.settings.dovecot == dovecot,
            previous.settings.certificateLogin == certificateLogin, let backEnd = previous.backEnd
        {
            return backEnd
        }
        let client = DovecotClient([try dovecot.socketAddress], group: ground.group, logger: ground.logger)
        client.start()
        return DovecotBackEnd(
            client, certificates: certificateLogin, keeping: Lease(ground.endings) { await client.close() })
    }
}
