// What `slimtad check` finds of the command of a pipe: would the helper run it, and as whom?

import Glibc
import SlimtaConfiguration
import SlimtaMail
import SlimtaSystem

/// Something of a pipe that does not work, or may not.
struct PipeFinding: Hashable {
    let key: String
    let text: String
    let isError: Bool
}

extension PipeSettings {
    /// - Parameters:
    ///   - service: the number of the daemon's user.
    ///   - hasUnit: whether slimtad.service is installed here.
    ///   - isRoot: whether check was started as root, as then the daemon will be.
    func findings(service: UInt32?, hasUnit: Bool, isRoot: Bool) -> [PipeFinding] {
        var findings: [PipeFinding] = []
        func find(_ key: String, _ text: String, isError: Bool = true) {
            findings.append(PipeFinding(key: key, text: text, isError: isError))
        }
        if let problem = Self.problem(program: command.words[0]) { find("command", problem) }
        if let user {
            do throws(SystemError) {
                let (identity, _) = try Privileges.lookUp(user: user)
                if let problem = identity.problemAsPipeUser(service: service) { find("user", problem) }
            } catch {
                find("user", "\(error)")
            }
            if !isRoot, !hasUnit {
                find("user", "a slimtad that is not started as root can run no command as \(user)", isError: false)
            }
        } else if hasUnit || isRoot {
            find("command", "no user is given to run it, and it is not run as root: user = \"...\"")
        } else {
            find("command", "no user is given to run it: it is run as slimtad is, with its queue", isError: false)
        }
        var status = stat()
        if hasUnit, stat(Helper.pipes.unitSocket, &status) != 0 {
            find(
                "command", "slimtad.service starts no commands itself: systemctl enable --now \(Helper.pipes.unit)",
                isError: false)
        }
        return findings
    }

    /// Why a program cannot be run; nil: it can, as far as everybody can see.
    private static func problem(program path: String) -> String? {
        var status = stat()
        guard stat(path, &status) == 0 else {
            // What others cannot look into may be fine for whoever runs it.
            return errno == EACCES ? nil : "\(path): \(String(cString: strerror(errno)))"
        }
        guard status.st_mode & S_IFMT == S_IFREG else { return "\(path) is no file" }
        return status.st_mode & 0o111 == 0 ? "\(path) is not executable" : nil
    }
}
