// `slimtad pipe-helper`: runs commands for the pipes of a daemon that may not become another user. slimtad-pipe.service is
// this, and a slimtad that is started otherwise starts one itself.

import ArgumentParser
import Glibc
import SlimtaConfiguration
import SlimtaMail
import SlimtaNet
import SlimtaPipe
import SlimtaSystem

struct PipeHelperCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pipe-helper",
        abstract: "Run the commands of [relay] type \"pipe\" for the daemon; slimtad-pipe.socket starts it.",
        shouldDisplay: false)

    @OptionGroup var config: ConfigurationOption

    @Flag(help: .hidden)
    var inherited = false

    func run() {
        let listener = Helper.pipes.socketOrExit(inherited: inherited) { () throws(SystemError) in
            if Privileges.isRoot { try Privileges.keepThoseOfPipes() }
        }
        var permits = PipePermits(config.path)
        let judge = { (pipe: PipeRequest.Pipe) in
            let verdict = permits.judge(pipe)
            if case .refuse(let reason) = verdict { say(reason) }
            return verdict
        }
        PipeHelper(
            listener: listener.descriptor, lifeline: inherited ? STDIN_FILENO : nil,
            limit: PipeSettings.mostProcesses, mayAsk: { permits.configuration.mayAsk($0) }, judge: judge
        ).run()
    }
}

/// What slimta.conf permits, as it is now.
struct PipePermits {
    fileprivate(set) var configuration: WatchedConfiguration

    init(_ path: String) { configuration = WatchedConfiguration(path) }

    /// What becomes of a request. A file with mistakes permits what it did before.
    mutating func judge(_ pipe: PipeRequest.Pipe) -> PipeVerdict {
        configuration.look()
        guard configuration.file?.values.pipes.contains(where: { $0.requested == pipe }) == true else {
            return .refuse(
                "\(configuration.path) does not have this command: \(pipe.command.joined(separator: " ").visible)"
                    + (configuration.problem.map { "; \($0)" } ?? "; if it has changed, reload slimtad"))
        }
        return verdict(on: pipe.user)
    }

    /// As whom a command is run.
    private func verdict(on user: String?) -> PipeVerdict {
        let mayChange = Privileges.isRoot
        guard let user else {
            if mayChange { return .refuse("a pipe without user = \"...\" is not run: it would run as root") }
            let name = Accounts.userName(geteuid())
            return .run(
                .init(name: name, home: Accounts.home(of: geteuid()), uid: geteuid(), gid: getegid(), groups: []),
                changing: false)
        }
        guard mayChange else {
            return .refuse(
                "no command can be run as \(user): that takes root's rights, which slimtad-pipe.socket has, or a "
                    + "slimtad that is started as root")
        }
        do throws(SystemError) {
            let (found, home) = try Privileges.lookUp(user: user)
            if let problem = found.problemAsPipeUser(service: configuration.service) { return .refuse(problem) }
            return .run(
                .init(name: user, home: home, uid: found.uid, gid: found.gid, groups: found.groups), changing: true)
        } catch {
            return .refuse("\(error)")
        }
    }
}

extension Identity {
    /// Why no command is run as this user; nil: one may be.
    ///
    /// - Parameter service: the number of the daemon's user.
    func problemAsPipeUser(service: UInt32?) -> String? {
        if uid == 0 || gid == 0 || groups.contains(0) { return "no command is run with root's user or group: \(name)" }
        return uid == service
            ? "no command is run as \(name), who has slimtad's queue and secrets: give it a user of its own" : nil
    }
}

extension PipeSettings {
    /// As the helper is asked for it.
    var requested: PipeRequest.Pipe {
        PipeRequest.Pipe(
            command: command.words, environment: environment.words, user: user, timeout: timeout.milliseconds)
    }
}
