// What `slimtad check` says of the back end "pam": does its service exist, can it be asked for a password alone, and is the
// helper there that asks?

import Glibc
import NIOCore
import NIOPosix
import SlimtaConfiguration
import SlimtaNet
import SlimtaPAM
import SlimtaSystem

extension Inspection {
    /// Where PAM looks for service files, the first counts.
    private static let serviceFolders = ["/etc/pam.d", "/usr/lib/pam.d"]

    /// Modules that ask for more than a password.
    private static let curious = [
        "pam_google_authenticator", "pam_oath", "pam_otpw", "pam_u2f", "pam_yubico", "pam_duo", "pam_fprintd",
    ]

    mutating func look(at pam: PAMSettings) {
        if let problem = PAMWorkers.problem { warn("auth.backends", "PAM's library cannot be used: \(problem)") }
        lookAtService(of: pam)
        if unit != nil {
            askHelper(at: Helper.pam.unitSocket, "systemctl enable --now \(Helper.pam.unit)")
            return
        }
        let socket = file.socket(of: .pam)
        // Before the daemon runs there is none.
        if access(socket, F_OK) == 0 || errno == EACCES { askHelper(at: socket, "start slimtad again") }
        if !isRoot {
            warn(
                "auth.backends",
                "a slimtad that is not started as root cannot read /etc/shadow: pam_unix knows nobody's password there "
                    + "but that of slimtad's own user")
        }
    }

    private mutating func lookAtService(of pam: PAMSettings) {
        func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
        let folders = pam.directory.map { [$0] } ?? Self.serviceFolders
        let paths = folders.map { "\($0)/\(pam.service)" }
        guard let path = paths.first(where: exists) else {
            let other = folders.map { "\($0)/other" }.first(where: exists)
            return warn(
                "auth.pam.service",
                "\(paths[0]) does not exist, "
                    + (other.map { "and \($0) decides, which lets nobody in as a rule" }
                        ?? "and PAM lets nobody in: clients are to try again later")
                    + "; it may be: auth required pam_unix.so, account required pam_unix.so")
        }
        let content = try? SecureFile.read(path, maximum: 1 << 20, mustNotBeReadableByOthers: false)
        let lines = String(decoding: content ?? [], as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix("#") }
        note("PAM: \(path)")
        for module in Self.curious where lines.contains(where: { $0.contains(module) }) {
            warn(
                "auth.pam.service",
                "\(path) has \(module), which asks for more than a password: mail programs have no other answer")
        }
    }

    private mutating func askHelper(at socket: String, _ remedy: String) {
        let problem: String
        do {
            let channel = try ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connect(unixDomainSocketPath: socket).wait()
            try? channel.close().wait()
            return
        } catch let error as IOError where error.errnoCode == EACCES {
            // It is for the daemon's user alone, who has no rights to what is not its own.
            let text =
                isService
                ? "\(user) may not speak to PAM's helper at \(socket): \(error.connectionReason); clients are to try again "
                    + "later until the socket is \(user)'s"
                : "\(user) may not speak to PAM's helper at \(socket): run check as root to see whether "
                    + "\(file.values.daemon.user) may"
            return warn("auth.backends", text)
        } catch {
            problem = error.connectionReason
        }
        warn(
            "auth.backends",
            "PAM's helper at \(socket) cannot be asked: \(problem); clients are to try again later until: \(remedy)")
    }
}
