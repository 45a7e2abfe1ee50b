// `slimtad guess list|release`: who has guessed passwords, as the running daemon knows it, and letting in again.

import ArgumentParser
import SlimtaControl
import SlimtaNet

struct GuessCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "guess", abstract: "List who has guessed passwords, or let in again.",
        subcommands: [List.self, Release.self], defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List whose logins wait, and who is turned away, after failed logins.",
            discussion: """
                On a terminal a table; otherwise a line for each, with tabs between kind (address, network, login), name, \
                failures that are not forgotten yet, different logins that have failed, and the state: "delayed 8s", or \
                "until TIME" for who is turned away with 421, with how many times it was.
                """)

        @OptionGroup var config: ConfigurationOption

        @Flag(help: "Print a JSON array.")
        var json = false

        func run() {
            orExit { () throws(Failure) in
                let daemon = try RunningDaemon.need(try ConfigurationFile.find(config.path), for: "guess list")
                let guesses = try daemon.ask(.get, ["guesses"])
                if json { return print(guesses.line) }
                var table = Table([
                    .init("KIND", 8), .init("NAME", 40), .init("FAILURES", 8), .init("LOGINS", 6), .init("STATE"),
                ])
                for one in guesses.elements {
                    let times = one["times"].integer ?? 0
                    let state =
                        one["until"].text.map { "until \($0)" + (times > 1 ? ", \(times) times" : "") }
                        ?? "delayed \(one["delay"].integer ?? 0)s"
                    table.row([
                        one["kind"].text ?? "", one["name"].text ?? "", "\(one["failures"].integer ?? 0)",
                        one["logins"].integer.map { "\($0)" } ?? "", state,
                    ])
                }
            }
        }
    }

    struct Release: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "release", abstract: "Forget what is held against an address, a network or a login.",
            discussion: "Exit status 69: nothing is, or no daemon runs.")

        @OptionGroup var config: ConfigurationOption

        @Argument(help: "An address, a network such as 192.0.2.0/24, or a login.")
        var name: String

        func run() {
            orExit { () throws(Failure) in
                let daemon = try RunningDaemon.need(try ConfigurationFile.find(config.path), for: "guess release")
                _ = try daemon.ask(.post, ["guesses", "release"], [.init("name", name)])
                print("released")
            }
        }
    }
}
