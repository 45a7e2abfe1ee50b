// What `slimtad check` says of the back end "pam": does its service exist, can it be asked for a password alone, and is the
// helper there that asks?

import Glibc
import NIOCore
import NIOPosix
import SlimtaConfiguration
import SlimtaPAM
import SlimtaSystem

extension Inspection {
    /// Where PAM looks for service files, the first counts.
    private static let serviceFolders = ["/etc/pam.d", "/usr/lib/pam.d"]

    /// Modules that ask for more than a password.
    private static let curious = [
        "pam_google_authenticator", "pam_oath", "pam_otpw", "pam_u2f", "pam_yubico", "pam_duo", "pam_fprintd",
    ]

    /// - Parameters:
    ///   - hasUnit: whether slimtad.service is installed here.
    ///   - isRoot: whether check was started as root, as then the daemon will be.
    static func findings(
        about pam: PAMSettings, _ file: ConfigurationFile, hasUnit: Bool, isRoot: Bool
    ) -> [Finding] {
        var findings: [Finding] = []
        if let problem = PAMWorkers.problem {
            findings.append(.warning(key: "auth.backends", "PAM's library cannot be used: \(problem)"))
        }
        findings += Self.findings(aboutServiceOf: pam)
        if hasUnit {
            findings += finding(about: Helper.pam.unitSocket, "systemctl enable --now \(Helper.pam.unit)")
        } else {
            let socket = file.socket(of: .pam)
            // Before the daemon runs there is none.
            if access(socket, F_OK) == 0 { findings += finding(about: socket, "start slimtad again") }
            if !isRoot {
                findings.append(
                    .warning(
                        key: "auth.backends",
                        "a slimtad that is not started as root cannot read /etc/shadow: pam_unix knows "
                            + "nobody's password there but that of slimtad's own user"))
            }
        }
        return findings
    }

    private static func findings(aboutServiceOf pam: PAMSettings) -> [Finding] {
        func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
        let folders = pam.directory.map { [$0] } ?? serviceFolders
        let paths = folders.map { "\($0)/\(pam.service)" }
        guard let path = paths.first(where: exists) else {
            let other = folders.map { "\($0)/other" }.first(where: exists)
            return [
                .warning(
                    key: "auth.pam.service",
                    "\(paths[0]) does not exist, "
                        + (other.map { "and \($0) decides, which lets nobody in as a rule" }
                            ?? "and PAM lets nobody in: clients are to try again later")
                        + "; it may be: auth required pam_unix.so, account required pam_unix.so")
            ]
        }
        let content = try? SecureFile.read(path, maximum: 1 << 20, mustNotBeReadableByOthers: false)
        let lines = String(decoding: content ?? [], as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix("#") }
        let found = curious.filter { module in lines.contains { $0.contains(module) } }
        return [.fact("PAM: \(path)")]
            + found.map { module in
                .warning(
                    key: "auth.pam.service",
                    "\(path) has \(module), which asks for more than a password: mail programs have no other answer")
            }
    }

    private static func finding(about socket: String, _ remedy: String) -> [Finding] {
        let problem: String
        do {
            let channel = try ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connect(unixDomainSocketPath: socket).wait()
            try? channel.close().wait()
            return []
        } catch let error as IOError {
            // It is for the daemon's user.
            if error.errnoCode == EACCES { return [] }
            problem = String(cString: strerror(error.errnoCode))
        } catch {
            problem = "\(error)"
        }
        return [
            .warning(
                key: "auth.backends",
                "PAM's helper at \(socket) cannot be asked: \(problem); clients are to try again later until: \(remedy)"
            )
        ]
    }
}
