// `slimtad tlsrpt show|send`: what domains are told of TLS with their hosts (RFC 8460).

import ArgumentParser
import SlimtaControl
import SlimtaNet
import SlimtaSystem

struct TLSReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tlsrpt", abstract: "Show and send TLS reports: what domains are told of TLS with their hosts.",
        discussion: "With [tls_report] in slimta.conf. All of it needs the running daemon.",
        subcommands: [Show.self, Send.self], defaultSubcommand: Show.self)

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract: "Show what is counted, which reports wait, and what became of the last ones.",
            discussion: """
                On a terminal a table; otherwise a line for each, with tabs between "counted", "waiting", "sent" or "dropped", \
                the day (UTC), the domain, the policy, sessions that satisfied it and that did not, and what there is to be \
                said. Counted are domains that want reports, and those that DNS is still being asked about.
                """)

        @OptionGroup var config: ConfigurationOption

        @Argument(help: "A domain; without one, all.")
        var domain: String?

        @Flag(help: "Print a JSON object.")
        var json = false

        func run() {
            orExit { () throws(Failure) in
                let daemon = try RunningDaemon.need(try ConfigurationFile.find(config.path), for: "tlsrpt show")
                let answer = try daemon.ask(.get, ["tlsrpt"], domain.map { [.init("domain", $0)] } ?? [])
                if json { return print(answer.line) }
                if !answer["on"].isTrue { say("no reports are sent: slimta.conf has no [tls_report]") }
                var table = Table([
                    .init("STATE", 8), .init("DAY", 10), .init("DOMAIN", 30), .init("POLICY", 16), .init("GOOD", 6),
                    .init("FAILED", 6), .init("WHAT"),
                ])
                for one in answer["counted"].elements {
                    let results = one["results"].elements.map {
                        "\($0["result"].text ?? "") \($0["count"].integer ?? 0)"
                    }
                    table.row([
                        "counted", one["day"].text ?? "", one["domain"].text ?? "", one["policy"].text ?? "",
                        "\(one["successful"].integer ?? 0)", "\(one["failed"].integer ?? 0)",
                        results.joined(separator: ", "),
                    ])
                }
                for one in answer["waiting"].elements {
                    let error = one["error"].text.map { ": \($0)" } ?? ""
                    table.row(TLSReportCommand.row("waiting", one, "until \(one["due"].text ?? "")\(error)"))
                }
                for one in answer["past"].elements { table.row(TLSReportCommand.row(past: one, failed: "dropped")) }
            }
        }
    }

    struct Send: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "send", abstract: "Send the reports that wait now, and not when it is their time.",
            discussion: """
                What became of each is printed as show prints it; "failed" is tried again later. With --today what this day has \
                counted so far is sent too: to see that reports arrive. What is counted behind that makes a second report of \
                the day with the same name, which its reader may take for the first one. Exit status 75: one was not taken; \
                69: no reports are sent, or no daemon runs.
                """)

        @OptionGroup var config: ConfigurationOption

        @Flag(help: "Today's, as far as it has come, as well.")
        var today = false

        func run() {
            orExit { () throws(Failure) in
                let daemon = try RunningDaemon.need(try ConfigurationFile.find(config.path), for: "tlsrpt send")
                let answer = try daemon.ask(.post, ["tlsrpt", "send"], today ? [.init("today", "yes")] : [])
                var table = Table([
                    .init("STATE", 8), .init("DAY", 10), .init("DOMAIN", 30), .init("POLICY", 16), .init("GOOD", 6),
                    .init("FAILED", 6), .init("WHAT"),
                ])
                let tried = answer["tried"].elements
                for one in tried { table.row(TLSReportCommand.row(past: one, failed: "failed")) }
                if tried.contains(where: { $0["to"].text == nil }) {
                    throw Failure(.temporary, "not all were taken")
                }
            }
        }
    }

    fileprivate static func row(past one: JSON, failed: String) -> [String] {
        row(
            one["to"].text == nil ? failed : "sent", one,
            "\(one["time"].text ?? ""): \(one["to"].text ?? one["error"].text ?? "")")
    }

    fileprivate static func row(_ state: String, _ one: JSON, _ what: String) -> [String] {
        [state, one["day"].text ?? "", one["domain"].text ?? "", "", "", "", what]
    }
}
