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
            without one can be named. All of it needs the running daemon.
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
                which soft limit.
                """)

        @OptionGroup var options: Options

        @Flag(help: "Only those that are held.")
        var held = false

        @Option(help: "So many at most, up to 1000.")
        var limit = 100

        func run() {
            orExit { () throws(Failure) in
                let query = [HTTPTarget.Parameter("limit", "\(limit)")] + (held ? [.init("held", "yes")] : [])
                let answer = try daemon(options, "login list").ask(.get, ["logins"], query)
                if options.json { return print(answer.line) }
                LoginCommand.table(answer["logins"].elements)
                if !answer["counting"].isTrue { say("nothing is counted: slimta.conf has no [quota]") }
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Show all that was counted of a login.")

        @OptionGroup var options: Options

        @Argument(help: "The login, or the address of who has none.")
        var name: String

        func run() {
            orExit { () throws(Failure) in
                let answer = try daemon(options, "login show").ask(.get, ["logins"], [.init("login", name)])
                if options.json { print(answer.line) } else { LoginCommand.tell(answer) }
            }
        }
    }

    struct Hold: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "hold",
            abstract: "Hold all that a login sends from now on, and what it has sent within an hour.",
            discussion: "It can log in and send as before; its mail stays in the queue until the login is released.")

        @OptionGroup var options: Options

        @Argument(help: "The login, or the address of who has none.")
        var name: String

        func run() { LoginCommand.change(.hold, name, options) }
    }

    struct Release: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "release", abstract: "End the hold of a login, and let its held mail go.",
            discussion: "For a day it is not held again by itself.")

        @OptionGroup var options: Options

        @Argument(help: "The login, or the address of who has none.")
        var name: String

        func run() { LoginCommand.change(.release, name, options) }
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
            LoginCommand.change(.bounce, name, options)
        }
    }

    private static func daemon(_ options: Options, _ what: String) throws(Failure) -> RunningDaemon {
        try RunningDaemon.need(try ConfigurationFile.find(options.config.path), for: what)
    }

    private static func change(_ action: LoginAction, _ name: String, _ options: Options) {
        let failures = orExit { () throws(Failure) -> Int in
            let daemon = try daemon(options, "login \(action.rawValue)")
            let (status, answer) = try daemon.answer(.post, ["logins", action.rawValue], [.init("login", name)])
            guard status == 200 else {
                let failure = RunningDaemon.failure(status, answer["error"].text)
                // As of a message that is not in the queue.
                guard status == 404 else { throw failure }
                say(failure.message)
                return 1
            }
            let name = answer["login"].text ?? name
            if !answer["known"].isTrue, action == .hold {
                say("nothing is known of \(name) as yet: a user of that name is held when there is one")
            }
            if options.json {
                print(answer.line)
            } else {
                let messages = counted(answer["done"].integer ?? 0, "message")
                switch action {
                case .hold: print("\(name.visible) is held, and \(messages) of the last hour")
                case .release: print("\(name.visible) is released, and \(messages)")
                case .bounce: print("\(messages) of \(name.visible) bounced")
                }
            }
            for failed in answer["failed"].elements { say("\(failed["id"].text ?? ""): \(failed["error"].text ?? "")") }
            if action == .release, !answer["delivering"].isTrue { say(DaemonFacts.undelivered) }
            return answer["failed"].elements.count
        }
        if failures > 0 { Glibc.exit(1) }
    }
}

extension LoginCommand {
    fileprivate static func table(_ logins: [JSON]) {
        var table = Table([
            .init("NAME", 28), .init("HOUR", 5), .init("RCPT", 5), .init("NEW", 5), .init("BAD", 5), .init("DAY", 6),
            .init("RCPT", 6), .init("NEW", 6), .init("BAD", 6), .init("STATE"),
        ])
        for login in logins {
            let amounts = QuotaWindow.allCases.flatMap { window in
                QuotaCounter.summed.map { "\(amount($0, window, of: login))" }
            }
            table.row([login["name"].text ?? ""] + amounts + [state(login)])
        }
    }

    private static func amount(_ counter: QuotaCounter, _ window: QuotaWindow, of login: JSON) -> Int64 {
        login[window.name][counter.rawValue].integer ?? 0
    }

    private static func state(_ login: JSON) -> String {
        if login["held"].isTrue { return "held: \(login["reason"].text ?? "")" }
        return login["exceeded"].elements.compactMap(\.text).joined(separator: "; ")
    }

    fileprivate static func tell(_ login: JSON) {
        func line(_ name: String, _ text: String) {
            print("\(name):\(String(repeating: " ", count: max(1, 17 - name.count)))\(text.visible)")
        }
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
