// What `slimtad check` finds of the command of a pipe: would the helper run it, and as whom?

import Glibc
import SlimtaConfiguration
import SlimtaMail
import SlimtaSystem

extension Inspection {
    /// - Parameter relay: the key of the relay whose pipe it is.
    mutating func look(at pipe: PipeSettings, _ relay: String) {
        let (commandKey, userKey) = ("\(relay).command", "\(relay).user")
        if let problem = Self.problem(program: pipe.command.words[0]) { error(commandKey, problem) }
        if let user = pipe.user {
            do throws(SystemError) {
                let (identity, _) = try Privileges.lookUp(user: user)
                if let problem = identity.problemAsPipeUser(service: file.serviceUser) { error(userKey, problem) }
            } catch {
                self.error(userKey, "\(error)")
            }
            if !isRoot, unit == nil {
                warn(userKey, "a slimtad that is not started as root can run no command as \(user)")
            }
        } else if unit != nil || isRoot {
            error(commandKey, "no user is given to run it, and it is not run as root: user = \"...\"")
        } else {
            warn(commandKey, "no user is given to run it: it is run as slimtad is, with its queue")
        }
        var status = stat()
        if unit != nil, stat(Helper.pipes.unitSocket, &status) != 0 {
            warn(
                commandKey, "slimtad.service starts no commands itself: systemctl enable --now \(Helper.pipes.unit)")
        }
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
