// `slimtad queue ...`: what is queued, asked of the running daemon, or read from its files where none runs.

import ArgumentParser
import Glibc
import SlimtaControl
import SlimtaStorage
import SlimtaSystem

struct QueueCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "queue", abstract: "Look at the queue.", subcommands: [CountCommand.self])
}

extension QueueCommand {
    struct CountCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "count", abstract: "Print how many messages are queued.",
            discussion: "Asks the running daemon; without one, the queue's files are read.")

        @OptionGroup var config: ConfigurationOption

        func run() {
            let count = orExit { () throws(Failure) -> Int64 in
                let file = try ConfigurationFile.parse(config.path)
                guard let daemon = try RunningDaemon.connect(file) else {
                    return Int64(try file.inspectQueue().queued.count)
                }
                return try daemon.ask(.get, ["queue", "count"])["count"].integer ?? 0
            }
            print(count)
        }
    }
}
