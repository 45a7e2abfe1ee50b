// `slimtad node list|drain|resume|forget`: the machines that share a queue, by the running daemon of any of them.

import ArgumentParser
import Glibc
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaSystem

struct NodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Show the machines that share the queue; drain one, or forget it.",
        discussion: """
            A node joins when slimtad starts, and leaves when it stops (slimtad drain). All of it needs the running daemon of this \
            machine, and a queue in PostgreSQL. Exit status 69: there is no such node, or what is wanted cannot be.
            """,
        subcommands: [List.self, Drain.self, Resume.self, Forget.self], defaultSubcommand: List.self)

    /// What all of them take.
    struct Options: ParsableArguments {
        @OptionGroup var config: ConfigurationOption

        @Flag(help: "Print a JSON object.")
        var json = false
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List the nodes.",
            discussion: """
                On a terminal a table; otherwise a line for each, with tabs between its name, its state (works, draining, drained, \
                silent, gone), buckets, messages, seconds since it was heard of, incarnation and release.
                """)

        @OptionGroup var options: Options

        func run() {
            orExit { () throws(Failure) in
                let answer = try daemon(options, "node list").ask(.get, ["nodes"])
                if options.json { return print(answer.line) }
                var table = Table([
                    .init("NODE", 20), .init("STATE", 8), .init("BUCKETS", 7), .init("MESSAGES", 9), .init("HEARD", 6),
                    .init("INCARNATION", 11), .init("VERSION"),
                ])
                for node in answer["nodes"].elements {
                    let numbers = ["buckets", "queued", "heard_seconds", "incarnation"].map { number(node, $0) }
                    let texts = ["name", "state", "version"].map { node[$0].text ?? "" }
                    table.row([texts[0], texts[1]] + numbers + [texts[2]])
                }
            }
        }
    }

    struct Drain: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "drain",
            abstract: "Have a node take no more mail and give its part of the queue to the others.",
            discussion: """
                Clients are told 451 there. Messages go when no attempt is made for them; the command waits until all have. Exit \
                status 75: for a minute nobody was there who takes them. The node goes on running, and stays drained over restarts until slimtad node resume.
                """)

        @OptionGroup var options: Options

        @Flag(help: "Also if no other node delivers: then what it has stays there, and it delivers it.")
        var force = false

        @Flag(help: "Return at once.")
        var noWait = false

        @Argument(help: "The node; without one that of this machine.")
        var name: String?

        func run() {
            orExit { () throws(Failure) in
                let daemon = try daemon(options, "node drain")
                let name = try named(name, daemon)
                var answer = try daemon.ask(
                    .post, ["nodes", "drain"], [.init("name", name)] + (force ? [.init("force", "yes")] : []))
                if !noWait { answer = try wait(answer, for: name, daemon) }
                NodeCommand.tell(answer, of: name, options)
            }
        }

        /// Until the node has nothing of the queue.
        private func wait(_ answer: JSON, for name: String, _ daemon: RunningDaemon) throws(Failure) -> JSON {
            var answer = answer
            var pauses = 0
            while true {
                if answer["error"].text == nil {
                    guard let node = NodeCommand.node(answer, name) else {
                        throw Failure(.unavailable, "node \(name) has been forgotten meanwhile")
                    }
                    let count = node["buckets"].integer ?? 0
                    if count == 0 { return answer }
                    // One may be silent for a while, as in a failover.
                    pauses = NodeCommand.hasHeir(answer, of: name) ? 0 : pauses + 1
                    if force, pauses > 0 { return answer }
                    if pauses > Self.mostPauses {
                        throw Failure(
                            .temporary,
                            "no other node delivers: \(name) is drained and still has \(counted(count, "bucket")); start "
                                + "another one, or slimtad node resume \(name)")
                    }
                }
                usleep(500_000)
                answer = try daemon.ask(.get, ["nodes"], [.init("queued", "no")])
            }
        }

        /// A minute: a failover takes less.
        private static let mostPauses = 120
    }

    struct Resume: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "resume", abstract: "Have a drained node take mail, and its part of the queue, again.")

        @OptionGroup var options: Options

        @Argument(help: "The node; without one that of this machine.")
        var name: String?

        func run() {
            orExit { () throws(Failure) in
                let daemon = try daemon(options, "node resume")
                let name = try named(name, daemon)
                NodeCommand.tell(try daemon.ask(.post, ["nodes", "resume"], [.init("name", name)]), of: name, options)
            }
        }
    }

    struct Forget: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "forget", abstract: "Forget a node that has gone for good.",
            discussion: """
                One that is silent is declared dead first. One that works is not forgotten; one that left or died is by itself \
                after 30 days.
                """)

        @OptionGroup var options: Options

        @Argument(help: "The node.")
        var name: String

        func run() {
            orExit { () throws(Failure) in
                let answer = try daemon(options, "node forget").ask(.post, ["nodes", "forget"], [.init("name", name)])
                print(options.json ? answer.line : "forgotten")
            }
        }
    }

    private static func daemon(_ options: Options, _ what: String) throws(Failure) -> RunningDaemon {
        try RunningDaemon.need(try ConfigurationFile.find(options.config.path), for: what)
    }

    /// The node that is meant: without a name, that of this machine.
    private static func named(_ name: String?, _ daemon: RunningDaemon) throws(Failure) -> String {
        if let name { return name }
        if let name = try daemon.ask(.get, ["status"])["storage"]["node"]["name"].text { return name }
        throw Failure(.unavailable, "this queue is one machine's alone: nodes share one that is in PostgreSQL")
    }

    // MARK: Telling

    private static func node(_ answer: JSON, _ name: String) -> JSON? {
        answer["nodes"].elements.first { $0["name"].text == name }
    }

    /// Whether somebody is there who takes it.
    private static func hasHeir(_ answer: JSON, of name: String) -> Bool {
        answer["nodes"].elements.contains {
            $0["name"].text != name && $0["state"].text == "works" && $0["roles"].elements.contains(.string("relay"))
        }
    }

    private static func number(_ node: JSON, _ name: String) -> String { "\(node[name].integer ?? 0)" }

    private static func tell(_ answer: JSON, of name: String, _ options: Options) {
        if options.json { return print(answer.line) }
        if let error = answer["error"].text { say("that is done; the nodes could not be looked at: \(error)") }
        if let node = node(answer, name) { StatusCommand.line("node", line(node)) }
    }

    private static func line(_ node: JSON) -> String {
        let roles = node["roles"].elements.compactMap(\.text).joined(separator: " and ")
        return "\(node["name"].text ?? ""): \(node["state"].text ?? ""), \(roles), "
            + "\(counted(node["buckets"].integer ?? 0, "bucket")), "
            + (node["queued"].integer.map { "\(counted($0, "message")), " } ?? "") + "heard "
            + "\(age(node["heard_seconds"].integer ?? 0)) ago, incarnation \(number(node, "incarnation")) since "
            + "\(age(node["begun_seconds"].integer ?? 0)), \(node["version"].text ?? "")"
    }

    /// How many nodes there are of each state; nil: the queue is shared with nobody, or the database does not say.
    static func summary(_ sharing: JSON) -> String? {
        let states = sharing["nodes"].elements.compactMap { $0["state"].text }
        if states.isEmpty { return nil }
        let counts = ["works", "draining", "drained", "silent", "gone"].compactMap { state -> String? in
            let count = states.count { $0 == state }
            return count == 0 ? nil : "\(count) \(state == "works" ? "at work" : state)"
        }
        let free = sharing["free_buckets"].integer ?? 0
        return counts.joined(separator: ", ") + (free > 0 ? "; \(counted(free, "bucket")) nobody's" : "")
    }

    /// For `slimtad status --all`: each node, and the server.
    static func tell(_ sharing: JSON, queued: Int64?) {
        if let queued { StatusCommand.line("all nodes", "\(counted(queued, "message")) queued") }
        for node in sharing["nodes"].elements { StatusCommand.line("node", line(node)) }
        guard let position = sharing["log_position"].text else { return }
        let transaction = sharing["oldest_transaction_seconds"].integer.map { ", oldest transaction \(age($0))" } ?? ""
        StatusCommand.line("database", "log at \(position)\(transaction)")
        for standby in sharing["standbys"].elements {
            let name = standby["name"].text ?? ""
            let lag =
                standby["behind_octets"].integer.map { "\(octets($0)) behind" }
                ?? "how far behind only members of pg_monitor see"
            let mode = standby["mode"].text.map { " (\($0))" } ?? ""
            StatusCommand.line("standby", "\(name.isEmpty ? "one" : name)\(mode), \(lag)")
        }
    }
}
