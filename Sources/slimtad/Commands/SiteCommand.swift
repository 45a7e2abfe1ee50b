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
            running daemon. Where several machines share the queue, all of them are asked; a node that does not answer is named, \
            and the exit status is 1.
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
                just now, messages that wait for one, the rate, and what else holds mail up there. Of a shared queue the node \
                comes first.
                """)

        @OptionGroup var options: Options
        @OptionGroup var here: HereOption

        func run() {
            let answers = orExit { () throws(Failure) in
                try daemon(options, "site list").askNodes(.get, ["sites"], here: here.here)
            }
            if options.json { print(answers.whole.line) } else { SiteCommand.table(answers) }
            answers.close()
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Show all that is known of a site.",
            discussion: "Exit status 69: nothing is known of it, or no daemon runs.")

        @OptionGroup var options: Options
        @OptionGroup var here: HereOption

        @Argument(help: "A host, or the site's name as list prints it.")
        var name: String

        func run() {
            let answers = orExit { () throws(Failure) in
                try daemon(options, "site show").askNodes(.get, ["sites"], [.init("name", name)], here: here.here)
            }
            SiteCommand.tell(answers, options)
            answers.close()
        }
    }

    struct Set: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "set", abstract: "Set limits of a site, until they are set otherwise or forgotten.",
            discussion: """
                Each may be "none": then what is learned counts, or what [[site]] says. It holds from the next message on and \
                over restarts. A node that was not there, or knows nothing of the site, is named: there it is not set. Exit status \
                69: nothing is known of the site, or no daemon runs.
                """)

        @OptionGroup var options: Options
        @OptionGroup var here: HereOption

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
            let answers = orExit { () throws(Failure) in
                var query = [HTTPTarget.Parameter("name", name)]
                for (key, value) in [
                    ("connections", connections), ("rate", rate), ("messages", messages), ("recipients", recipients),
                ] {
                    if let value { query.append(.init(key, value)) }
                }
                return try daemon(options, "site set").askNodes(.post, ["sites", "set"], query, here: here.here)
            }
            SiteCommand.tell(answers, options)
            answers.close(tellsUnknown: true)
        }
    }

    struct Forget: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "forget", abstract: "Forget what was learned of a site, and what was set.",
            discussion: "Exit status 69: nothing is known of it, or no daemon runs.")

        @OptionGroup var options: Options
        @OptionGroup var here: HereOption

        @Argument(help: "A host, or the site's name as list prints it.")
        var name: String

        func run() {
            let answers = orExit { () throws(Failure) in
                try daemon(options, "site forget").askNodes(
                    .post, ["sites", "forget"], [.init("name", name)], here: here.here)
            }
            if options.json {
                print(answers.whole.line)
            } else {
                answers.parts.forEach { print("\($0.prefix)forgotten") }
            }
            answers.close()
        }
    }

    private static func daemon(_ options: Options, _ what: String) throws(Failure) -> RunningDaemon {
        try RunningDaemon.need(try ConfigurationFile.find(options.config.path), for: what)
    }

    // MARK: Telling

    private static func table(_ answers: NodeAnswers) {
        var table = Table(
            (answers.isShared ? [.init("NODE", 12)] : []) + [
                .init("SITE", 40), .init("SESSIONS", 8), .init("MOST", 4), .init("WAITING", 7), .init("RATE", 8),
                .init("STATE"),
            ])
        for part in answers.parts {
            for site in part.answer["sites"].elements {
                table.row(
                    (part.node.map { [$0] } ?? []) + [
                        site["name"].text ?? "", "\(site["sessions"].integer ?? 0)",
                        site["window"].integer.map { "\($0)" } ?? "", "\(site["waiting"].integer ?? 0)",
                        limit("rate", of: site) ?? "", state(of: site),
                    ])
            }
        }
    }

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

    private static func tell(_ answers: NodeAnswers, _ options: Options) {
        if options.json { return print(answers.whole.line) }
        for part in answers.parts { part.answer["sites"].elements.forEach { tell($0, part.prefix) } }
    }

    private static func tell(_ site: JSON, _ prefix: String) {
        print("\(prefix)\((site["name"].text ?? "").visible)\(site["fixed"].isTrue ? " (a relay's host)" : "")")
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
