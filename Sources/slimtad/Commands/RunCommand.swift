// `slimtad run`: the phases of the start, in their order. What needs root, and what must be done before there is any
// thread, is done here; `Daemon` takes over when threads are there.

import ArgumentParser
import Glibc
import Logging
import SlimtaConfiguration
import SlimtaSystem

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run the daemon, in the foreground unless --daemonize is given.")

    @OptionGroup var config: ConfigurationOption

    @Flag(help: "Go into the background; return when mail is accepted, or with what went wrong.")
    var daemonize = false

    @Option(help: "Write the process id to this file, and hold a lock on it.")
    var pidFile: String?

    func run() {
        let (file, pipe) = orExit { () throws(Failure) in
            umask(0o077)
            StandardStreams.fill()
            try system { () throws(SystemError) in try Signals.block() }
            let file = try parseConfiguration()
            return (file, try daemonizeIfAsked())
        }
        do throws(Failure) {
            try start(file, pipe)
        } catch {
            // With --daemonize standard error is gone: the process that was started says it.
            pipe?.failed(status: error.status, message: error.message)
            report(error)
            Glibc.exit(error.status.rawValue)
        }
        // There are threads now, and nothing more to do for this one.
        while true { pause() }
    }

    private func parseConfiguration() throws(Failure) -> ConfigurationFile {
        // A daemon's directory is /: a reload must find the file again.
        try ConfigurationFile.parse(absolute(config.path))
    }

    private func daemonizeIfAsked() throws(Failure) -> ReadinessPipe? {
        guard daemonize else { return nil }
        return try system { () throws(SystemError) in try Daemonizer.daemonize() }
    }

    private func start(_ file: ConfigurationFile, _ pipe: ReadinessPipe?) throws(Failure) {
        let level = LogHandlers.install(
            target: file.values.log.target.handlerTarget, level: file.values.log.level.loggerLevel,
            isDaemonized: daemonize)
        let logger = Logger(label: "slimtad")
        // A second slimtad with the same file is turned away here. The lock lives as long as the process.
        let lock = try pidFile.map { path throws(Failure) in
            try system { () throws(SystemError) in try PIDFile(absolute(path)) }
        }
        let (identity, budget) = try system { () throws(SystemError) in
            let identity =
                Privileges.isRoot
                ? try Privileges.lookUp(user: file.values.daemon.user, group: file.values.daemon.group) : nil
            return (identity, FileBudget(limit: try FileLimits.raise()))
        }
        let preparation: Preparation
        let signals: AsyncStream<Signal>
        do throws(Failure) {
            preparation = try Preparation(file, identity: identity, logger: logger)
            try dropPrivileges(to: identity)
            try system { () throws(SystemError) in try LogHandlers.startThread() }
            signals = try system { () throws(SystemError) in try Signals.stream() }
        } catch {
            lock?.remove()
            throw error
        }
        // Medium: what the main thread begins is urgent by default, and libdispatch complains on standard error that it may
        // not raise its threads' priority.
        Task(priority: .medium) {
            do throws(Failure) {
                let daemon = try await Daemon.start(preparation, budget: budget, level: level, logger: logger)
                await daemon.run(signals) { pipe?.ready() }
                lock?.remove()
                Glibc.exit(ExitStatus.success.rawValue)
            } catch {
                lock?.remove()
                pipe?.failed(status: error.status, message: error.message)
                report(error)
                Glibc.exit(error.status.rawValue)
            }
        }
    }

    /// Says why it is over: in the journal as an event with its explanation, elsewhere as commands do.
    private func report(_ error: Failure) {
        guard LogHandlers.usesJournal else { return say(error.message) }
        let logger = Logger(label: "slimtad")
        // Without the lines of the file that are shown below a mistake.
        for line in error.message.split(separator: "\n") where !line.hasPrefix(" ") {
            logger.critical("cannot run", metadata: ["error": "\(line)"])
        }
    }

    /// Calls the system; what it refuses is the end.
    private func system<Result>(_ body: () throws(SystemError) -> Result) throws(Failure) -> Result {
        do throws(SystemError) { return try body() } catch { throw Failure(error) }
    }

    private func dropPrivileges(to identity: Identity?) throws(Failure) {
        do throws(SystemError) {
            guard let identity else { return try Privileges.renounce() }
            try Privileges.drop(to: identity)
        } catch {
            throw Failure(error)
        }
    }

    private func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let directory = getcwd(nil, 0) else { return path }
        defer { free(directory) }
        return String(cString: directory) + "/" + path
    }
}

extension LogSettings.Target {
    fileprivate var handlerTarget: LogTarget {
        switch self {
        case .auto: .auto
        case .journal: .journal
        case .standardError: .standardError
        }
    }
}

extension LogSettings.Level {
    var loggerLevel: Logger.Level {
        switch self {
        case .trace: .trace
        case .debug: .debug
        case .info: .info
        case .notice: .notice
        case .warning: .warning
        case .error: .error
        }
    }
}
