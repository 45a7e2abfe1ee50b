// `slimtad login list|show|hold|release|bounce`: how much logins send, and who is held, by the running daemon.

import ArgumentParser
import Glibc
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaRules
import SlimtaSystem

struct LoginCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "login", abstract: "Show how much logins send; hold or release one.",
        discussion: """
            What is counted and what is too much is in [quota] of slimta.conf. Instead of a login, the address of a client \
            without one can be named. All of it needs the running daemon. Where several machines share the queue, each counts and \
            holds for itself, and all of them are asked; a node that does not answer is named, and the exit status is 1.
            """,
        subcommands: [List.self, Show.self, Hold.self, Release.self, Bounce.self], defaultSubcommand: List.self)

    /// What all of them take.
    struct Options: ParsableArguments {
        @OptionGroup var config: ConfigurationOption

        @Flag(help: "Print a JSON object.")
        var json = false
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List those that are held, and those that send most.",
            discussion: """
                On a terminal a table; otherwise a line for each, with tabs between the name, messages, recipients, new \
                recipients and refused recipients within an hour, the same within a day, and why it is held, or over \
                which soft limit. Of a shared queue the node comes first.
                """)

        @OptionGroup var options: Options
        @OptionGroup var here: HereOption

        @Flag(help: "Only those that are held.")
        var held = false

        @Option(help: "So many at most, up to 1000.")
        var limit = 100

        func run() {
            let answers = orExit { () throws(Failure) in
                let query = [HTTPTarget.Parameter("limit", "\(limit)")] + (held ? [.init("held", "yes")] : [])
                return try daemon(options, "login list").askNodes(.get, ["logins"], query, here: here.here)
            }
            if options.json { print(answers.whole.line) } else { LoginCommand.table(answers) }
            for part in answers.parts where !options.json && !part.answer["counting"].isTrue {
                say("\(part.prefix)nothing is counted: slimta.conf has no [quota]")
            }
            answers.close()
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Show all that was counted of a login.")

        @OptionGroup var options: Options
        @OptionGroup var here: HereOption

        @Argument(help: "The login, or the address of who has none.")
        var name: String

        func run() {
            let answers = orExit { () throws(Failure) in
                try daemon(options, "login show").askNodes(.get, ["logins"], [.init("login", name)], here: here.here)
            }
            if options.json {
                print(answers.whole.line)
            } else {
                for part in answers.parts {
                    if let node = part.node { LoginCommand.line("node", node) }
                    LoginCommand.tell(part.answer)
                }
            }
            answers.close()
        }
    }

    struct Hold: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "hold",
            abstract: "Hold all that a login sends from now on, and what it has sent within an hour.",
            discussion: """
                It can log in and send as before; its mail stays in the queue until the login is released. A node that was not there \
                does not hold it: say it again when it is.
                """)

        @OptionGroup var options: Options
        @OptionGroup var here: HereOption

        @Argument(help: "The login, or the address of who has none.")
        var name: String

        func run() { LoginCommand.change(.hold, name, options, here: here.here) }
    }

    struct Release: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "release", abstract: "End the hold of a login, and let its held mail go.",
            discussion: "For a day it is not held again by itself.")

        @OptionGroup var options: Options
        @OptionGroup var here: HereOption

        @Argument(help: "The login, or the address of who has none.")
        var name: String

        func run() { LoginCommand.change(.release, name, options, here: here.here) }
    }

    struct Bounce: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "bounce", abstract: "Give the held mail of a login up: its senders are told so.",
            discussion: "The login stays held. Asks on a terminal; elsewhere it needs --yes.")

        @OptionGroup var options: Options

        @Argument(help: "The login, or the address of who has none.")
        var name: String

        @Flag(help: "Do not ask.")
        var yes = false

        func run() {
            if !yes {
                orExit { () throws(Failure) in
                    try Terminal.confirm(LoginAction.bounce.rawValue) { "all held mail of \(name.visible)" }
                }
            }
            // Mail is all nodes', and seen to by the one that is asked.
            LoginCommand.change(.bounce, name, options, here: true)
        }
    }

    private static func daemon(_ options: Options, _ what: String) throws(Failure) -> RunningDaemon {
        try RunningDaemon.need(try ConfigurationFile.find(options.config.path), for: what)
    }

    private static func change(_ action: LoginAction, _ name: String, _ options: Options, here: Bool) {
        let answers = orExit { () throws(Failure) -> NodeAnswers in
            // As of a message that is not in the queue.
            try daemon(options, "login \(action.rawValue)").askNodes(
                .post, ["logins", action.rawValue], [.init("login", name)], here: here, unknown: 1)
        }
        if options.json { print(answers.whole.line) }
        var failures = 0
        for part in answers.parts { failures += tell(action, name, part, isTold: options.json) }
        answers.close(tellsUnknown: action == .hold)
        if failures > 0 { Glibc.exit(1) }
    }

    /// What came of it at one node: for how many messages nothing did.
    private static func tell(_ action: LoginAction, _ name: String, _ part: NodeAnswers.Part, isTold: Bool) -> Int {
        let answer = part.answer
        let name = answer["login"].text ?? name
        if !answer["known"].isTrue, action == .hold {
            say("\(part.prefix)nothing is known of \(name) as yet: a user of that name is held when there is one")
        }
        if !isTold {
            // Mail is all nodes', and seen to by the one that was asked.
            let messages = answer["done"].integer.map { counted($0, "message") }
            switch action {
            case .hold:
                print("\(part.prefix)\(name.visible) is held\(messages.map { ", and \($0) of the last hour" } ?? "")")
            case .release: print("\(part.prefix)\(name.visible) is released\(messages.map { ", and \($0)" } ?? "")")
            case .bounce: print("\(part.prefix)\(messages ?? "") of \(name.visible) bounced")
            }
        }
        for failed in answer["failed"].elements { say("\(failed["id"].text ?? ""): \(failed["error"].text ?? "")") }
        if action == .release, answer["delivering"] == .bool(false) { say(part.prefix + DaemonFacts.undelivered) }
        return answer["failed"].elements.count
    }
}

extension LoginCommand {
    fileprivate static func table(_ answers: NodeAnswers) {
        var table = Table(
            (answers.isShared ? [.init("NODE", 12)] : []) + [
                .init("NAME", 28), .init("HOUR", 5), .init("RCPT", 5), .init("NEW", 5), .init("BAD", 5),
                .init("DAY", 6),
                .init("RCPT", 6), .init("NEW", 6), .init("BAD", 6), .init("STATE"),
            ])
        for part in answers.parts {
            for login in part.answer["logins"].elements {
                let amounts = QuotaWindow.allCases.flatMap { window in
                    QuotaCounter.summed.map { "\(amount($0, window, of: login))" }
                }
                table.row((part.node.map { [$0] } ?? []) + [login["name"].text ?? ""] + amounts + [state(login)])
            }
        }
    }

    private static func amount(_ counter: QuotaCounter, _ window: QuotaWindow, of login: JSON) -> Int64 {
        login[window.name][counter.rawValue].integer ?? 0
    }

    private static func state(_ login: JSON) -> String {
        if login["held"].isTrue { return "held: \(login["reason"].text ?? "")" }
        return login["exceeded"].elements.compactMap(\.text).joined(separator: "; ")
    }

    fileprivate static func line(_ name: String, _ text: String) {
        print("\(name):\(String(repeating: " ", count: max(1, 17 - name.count)))\(text.visible)")
    }

    fileprivate static func tell(_ login: JSON) {
        line("name", (login["name"].text ?? "") + (login["is_login"].isTrue ? "" : " (without a login)"))
        if login["held"].isTrue {
            line("held", "since \(login["held_since"].text ?? ""): \(login["reason"].text ?? "")")
            line(
                "since then",
                "\(counted(login["held_messages"].integer ?? 0, "message")), \(octets(login["held_octets"].integer ?? 0))"
            )
        }
        for excess in login["exceeded"].elements { line("soft limit", excess.text ?? "") }
        if let until = login["forgiven_until"].text { line("not held before", until) }
        if login["learning"].isTrue { line("new", "it is not held by itself yet: what would hold it is refused") }
        for window in QuotaWindow.allCases {
            // Who has no login is one address.
            let counters = QuotaCounter.allCases.filter { $0 != .networks || login["is_login"].isTrue }
            let amounts = counters.map { counter -> String in
                let most = QuotaLimits.Level.allCases.map(\.rawValue).compactMap { level in
                    login["limits"][level].elements.first {
                        $0["counter"].text == counter.rawValue && $0["window"].text == window.rawValue
                    }.flatMap { $0["most"].integer }.map { "\(level) \($0)" }
                }
                return "\(amount(counter, window, of: login)) \(counter.words)"
                    + (most.isEmpty ? "" : " (\(most.joined(separator: ", ")))")
            }
            line("within \(window.words)", amounts.joined(separator: ", "))
        }
        let outcomes = login["last_outcomes"]
        line(
            "last recipients",
            "\(outcomes["refused"].integer ?? 0) of \(outcomes["all"].integer ?? 0) were refused"
                + (login["refused_share"].integer.map { " (breaker \($0) of 100)" } ?? ""))
        line("known recipients", "\(login["known_recipients"].integer ?? 0)")
        line("first seen", login["since"].text ?? "")
        line("last seen", login["last"].text ?? "")
    }
}
