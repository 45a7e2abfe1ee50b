// `slimtad tls list|forget|explain`: what the running daemon remembers of the TLS of those whom mail goes to, and how it would
// go to a domain now.

import ArgumentParser
import SlimtaControl
import SlimtaNet

struct TLSCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tls", abstract: "How securely mail leaves: what is remembered of hosts, and what would be done.",
        subcommands: [List.self, Forget.self, Explain.self], defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List hosts that were encrypted.",
            discussion: """
                On a terminal a table; otherwise a line for each, with tabs between domain, host, days on which it was \
                encrypted, the last of them, the day on which DANE, and that on which MTA-STS authenticated it last, and \
                "yes" where mail waits rather than going in clear: after three days, until thirty days after the last.
                """)

        @OptionGroup var config: ConfigurationOption

        @Argument(help: "A domain; without one, all.")
        var domain: String?

        @Flag(help: "Print a JSON array.")
        var json = false

        func run() {
            orExit { () throws(Failure) in
                let daemon = try RunningDaemon.need(try ConfigurationFile.find(config.path), for: "tls list")
                let hosts = try daemon.ask(.get, ["tls"], domain.map { [.init("domain", $0)] } ?? [])
                if json { return print(hosts.line) }
                var table = Table([
                    .init("DOMAIN", 30), .init("HOST", 34), .init("DAYS", 5), .init("LAST", 10), .init("DANE", 10),
                    .init("MTA-STS", 10), .init("IN FORCE"),
                ])
                for one in hosts.elements {
                    table.row([
                        one["domain"].text ?? "", one["host"].text ?? "", "\(one["days"].integer ?? 0)",
                        one["last"].text ?? "", one["dane"].text ?? "", one["mta_sts"].text ?? "",
                        one["in_force"].isTrue ? "yes" : "no",
                    ])
                }
            }
        }
    }

    struct Forget: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "forget", abstract: "Forget what is remembered of a domain's hosts.",
            discussion: "Exit status 69: nothing is, or no daemon runs.")

        @OptionGroup var config: ConfigurationOption

        @Argument(help: "The domain.")
        var domain: String

        func run() {
            orExit { () throws(Failure) in
                let daemon = try RunningDaemon.need(try ConfigurationFile.find(config.path), for: "tls forget")
                let answer = try daemon.ask(.post, ["tls", "forget"], [.init("domain", domain)])
                print("forgotten: \(counted(answer["forgotten"].integer ?? 0, "host"))")
            }
        }
    }

    struct Explain: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "explain", abstract: "Say how mail for a domain would go to its hosts now, and why.",
            discussion: """
                The daemon asks DNS and decides as it does for a message; it connects to no mail host. Exit status 69: mail \
                for the domain goes to no host over the network, or no daemon runs.
                """)

        @OptionGroup var config: ConfigurationOption

        @Argument(help: "The domain.")
        var domain: String

        @Flag(help: "Print a JSON object.")
        var json = false

        func run() {
            orExit { () throws(Failure) in
                let daemon = try RunningDaemon.need(try ConfigurationFile.find(config.path), for: "tls explain")
                let answer = try daemon.ask(.get, ["tls", "explain"], [.init("domain", domain)])
                if json { return print(answer.line) }
                if let error = answer["error"].text { return print(error) }
                print(answer["proved"].isTrue ? "hosts proved" : "hosts not proved (no DNSSEC)")
                if let mode = answer["mta_sts"].text { print("MTA-STS \(mode)") }
                for host in answer["hosts"].elements {
                    let reasons = host["reasons"].elements.compactMap(\.text)
                    let why = reasons.isEmpty ? "" : " (\(reasons.joined(separator: ", ")))"
                    print("\(host["host"].text ?? ""): \(host["error"].text ?? host["plan"].text ?? "")\(why)")
                }
            }
        }
    }
}
