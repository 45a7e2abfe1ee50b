// `slimtad site list|show|set|forget`: how much the hosts take that mail goes to, as the running daemon knows it.

import ArgumentParser
import SlimtaControl
import SlimtaMail
import SlimtaNet

struct SiteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "site", abstract: "Show how much the hosts take that mail goes to; set or forget it.",
        discussion: """
            A site is the mail exchangers of a domain, or of many: what holds mail up is theirs. It is named by its hosts, as \
            list prints them, or by one of them. What is fixed for good is in [[site]] of slimta.conf. All of it needs the \
            running daemon.
            """,
        subcommands: [List.self, Show.self, Set.self, Forget.self], defaultSubcommand: List.self)

    /// What all of them take.
    struct Options: ParsableArguments {
        @OptionGroup var config: ConfigurationOption

        @Flag(help: "Print a JSON object.")
        var json = false
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List the sites that something is known of.",
            discussion: """
                On a terminal a table; otherwise a line for each, with tabs between its hosts, open sessions, the most sessions \
                just now, messages that wait for one, the rate, and what else holds mail up there.
                """)

        @OptionGroup var options: Options

        func run() {
            orExit { () throws(Failure) in
                let answer = try daemon(options, "site list").ask(.get, ["sites"])
                if options.json { return print(answer.line) }
                var table = Table([
                    .init("SITE", 40), .init("SESSIONS", 8), .init("MOST", 4), .init("WAITING", 7), .init("RATE", 8),
                    .init("STATE"),
                ])
                for site in answer["sites"].elements {
                    table.row([
                        site["name"].text ?? "", "\(site["sessions"].integer ?? 0)",
                        site["window"].integer.map { "\($0)" } ?? "", "\(site["waiting"].integer ?? 0)",
                        SiteCommand.limit("rate", of: site) ?? "", SiteCommand.state(of: site),
                    ])
                }
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Show all that is known of a site.",
            discussion: "Exit status 69: nothing is known of it, or no daemon runs.")

        @OptionGroup var options: Options

        @Argument(help: "A host, or the site's name as list prints it.")
        var name: String

        func run() {
            orExit { () throws(Failure) in
                let answer = try daemon(options, "site show").ask(.get, ["sites"], [.init("name", name)])
                SiteCommand.tell(answer, options)
            }
        }
    }

    struct Set: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "set", abstract: "Set limits of a site, until they are set otherwise or forgotten.",
            discussion: """
                Each may be "none": then what is learned counts, or what [[site]] says. It holds from the next message on and \
                over restarts. Exit status 69: nothing is known of the site, or no daemon runs.
                """)

        @OptionGroup var options: Options

        @Option(help: "The most sessions at a time.")
        var connections: String?

        @Option(help: "Messages in a time, such as 60/m, 2/s or 500/h.")
        var rate: String?

        @Option(help: "Messages in a session, at most 100.")
        var messages: String?

        @Option(help: "Recipients in a transaction, at most 100.")
        var recipients: String?

        @Argument(help: "A host, or the site's name as list prints it.")
        var name: String

        func run() {
            orExit { () throws(Failure) in
                var query = [HTTPTarget.Parameter("name", name)]
                for (key, value) in [
                    ("connections", connections), ("rate", rate), ("messages", messages), ("recipients", recipients),
                ] {
                    if let value { query.append(.init(key, value)) }
                }
                SiteCommand.tell(try daemon(options, "site set").ask(.post, ["sites", "set"], query), options)
            }
        }
    }

    struct Forget: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "forget", abstract: "Forget what was learned of a site, and what was set.",
            discussion: "Exit status 69: nothing is known of it, or no daemon runs.")

        @OptionGroup var options: Options

        @Argument(help: "A host, or the site's name as list prints it.")
        var name: String

        func run() {
            orExit { () throws(Failure) in
                let answer = try daemon(options, "site forget").ask(.post, ["sites", "forget"], [.init("name", name)])
                print(options.json ? answer.line : "forgotten")
            }
        }
    }

    private static func daemon(_ options: Options, _ what: String) throws(Failure) -> RunningDaemon {
        try RunningDaemon.need(try ConfigurationFile.find(options.config.path), for: what)
    }

    // MARK: Telling

    private static let limits = ["connections", "rate", "messages", "recipients"]

    private static func text(_ value: JSON) -> String? { value.text ?? value.integer.map { "\($0)" } }

    /// The one that holds: what was set by command is before the configuration, and that before experience.
    private static func limit(_ name: String, of site: JSON) -> String? {
        ["set", "configured", "learned"].lazy.compactMap { text(site[$0][name]) }.first
    }

    private static func state(of site: JSON) -> String {
        var states: [String] = []
        if let until = site["paused_until"].text { states.append("pauses until \(until)") }
        for host in site["failed"].elements {
            states.append("\(host["host"].text ?? "") does not answer, next \(host["until"].text ?? "")")
        }
        if let most = text(site["learned"]["connections"]) { states.append("refuses more than \(most) sessions") }
        if site["greylists"].isTrue { states.append("greylists") }
        return states.joined(separator: "; ")
    }

    private static func tell(_ answer: JSON, _ options: Options) {
        if options.json { return print(answer.line) }
        for site in answer["sites"].elements {
            print("\((site["name"].text ?? "").visible)\(site["fixed"].isTrue ? " (a relay's host)" : "")")
            func line(_ name: String, _ text: String) {
                print("  \(name):\(String(repeating: " ", count: max(1, 13 - name.count)))\(text.visible)")
            }
            let window = site["window"].integer.map { " of at most \($0) just now" } ?? ""
            line("sessions", "\(site["sessions"].integer ?? 0)\(window), \(site["waiting"].integer ?? 0) messages wait")
            for name in limits {
                let origins = [
                    ("set", "set by command"), ("configured", "[[site]] or well known"), ("learned", "learned"),
                ]
                let known = origins.compactMap { key, origin in text(site[key][name]).map { "\($0) (\(origin))" } }
                if !known.isEmpty { line(name, known.joined(separator: ", ")) }
            }
            if site["greylists"].isTrue {
                let wait = site["greylist_wait"].integer.map { ", \($0) s were enough" } ?? ""
                line("greylisting", "strangers have to come back\(wait)")
            }
            let state = state(of: site)
            if !state.isEmpty { line("state", state) }
            line("last used", site["last_used"].text ?? "")
        }
    }
}
