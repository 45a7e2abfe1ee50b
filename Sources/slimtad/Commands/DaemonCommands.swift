// `slimtad reload` and `slimtad drain`: what SIGHUP and SIGTERM do, with an answer.

import ArgumentParser
import Glibc
import SlimtaControl
import SlimtaNet
import SlimtaSystem

struct ReloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload", abstract: "Have the running daemon read configuration, certificates and users again.",
        discussion: "What is wrong is printed, the old configuration stays in use, and the exit status is 78.")

    @OptionGroup var config: ConfigurationOption

    func run() {
        orExit { () throws(Failure) in
            let daemon = try daemon()
            let (status, answer) = try daemon.answer(.post, ["reload"])
            for warning in answer["warnings"].elements.compactMap(\.text) { say("warning: \(warning)") }
            if status == 200 { return }
            var errors = answer["errors"].elements.compactMap(\.text)
            if errors.isEmpty { errors = [answer["error"].text ?? "the daemon answered \(status)"] }
            errors.append(
                answer["applied"].isTrue ? "everything else is in use" : "nothing was changed, the old is in use")
            throw Failure(.configuration, errors.joined(separator: "\n"))
        }
    }

    /// The daemon is asked even if the file is wrong, for its log and its status to tell of it too.
    private func daemon() throws(Failure) -> RunningDaemon {
        do throws(Failure) {
            return try RunningDaemon.need(try ConfigurationFile.find(config.path), for: "reload")
        } catch {
            guard error.status == .configuration,
                let daemon = try? RunningDaemon.connect(socket: ConfigurationFile.usualControlSocket),
                (try? daemon.ask(.get, ["status"]))?["configuration"].text == config.path
            else { throw error }
            return daemon
        }
    }
}

struct DrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain", abstract: "Have the running daemon finish what it does and end; wait until it has.",
        discussion: """
            Nothing more is accepted; sessions and deliveries in progress get [daemon] drain_timeout. The queue is kept.
            """)

    @OptionGroup var config: ConfigurationOption

    @Flag(help: "Return at once.")
    var noWait = false

    func run() {
        orExit { () throws(Failure) in
            let file = try ConfigurationFile.find(config.path)
            let daemon = try RunningDaemon.need(file, for: "drain")
            let pid = try daemon.ask(.get, ["status"])["pid"].integer ?? 0
            _ = try daemon.ask(.post, ["drain"])
            if noWait { return }
            while isRunning(pid) { usleep(50_000) }
        }
    }
}

/// Whether a process is there and has not ended: one whose parent has not asked for it yet has.
private func isRunning(_ pid: Int64) -> Bool {
    guard let octets = try? SecureFile.read("/proc/\(pid)/stat", maximum: 4096, mustNotBeReadableByOthers: false),
        let end = octets.lastIndex(of: UInt8(ascii: ")"))
    else { return false }
    return !octets[end...].starts(with: ") Z".utf8)
}
