// `slimtad pam-helper`: asks PAM for a daemon that may not read /etc/shadow. slimtad-pam.service is this, and a slimtad that is
// started otherwise starts one itself.

import ArgumentParser
import Glibc
import SlimtaConfiguration
import SlimtaHelper
import SlimtaMail
import SlimtaNet
import SlimtaPAM
import SlimtaSystem

struct PAMHelperCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pam-helper",
        abstract: "Ask PAM for the daemon, where [auth] has the back end \"pam\"; slimtad-pam.socket starts it.",
        shouldDisplay: false)

    @OptionGroup var config: ConfigurationOption

    @Flag(help: .hidden)
    var inherited = false

    func run() {
        let listener = Helper.pam.socketOrExit(inherited: inherited) { () throws(SystemError) in
            // Passwords are in memory.
            try CoreFiles.forbid()
        }
        var configuration = WatchedConfiguration(config.path)
        let workers = PAMWorkers {
            configuration.look()
            if let pam = configuration.file?.values.auth.pam { return .success(PAMService(pam)) }
            return .failure(
                PAMWorkers.Failure(
                    "\(configuration.path) does not have the back end \"pam\""
                        + (configuration.problem.map { "; \($0)" } ?? "")))
        }
        HelperLoop(
            listener: listener.descriptor, lifeline: inherited ? STDIN_FILENO : nil,
            limit: PAMWorkers.connections, mayAsk: { configuration.mayAsk($0) },
            connect: { PAMConnection($0, $1, workers) }
        ).run()
    }
}

extension PAMService {
    fileprivate init(_ settings: PAMSettings) {
        self.init(name: settings.service, folder: settings.directory, timeout: settings.timeout.milliseconds)
    }
}
