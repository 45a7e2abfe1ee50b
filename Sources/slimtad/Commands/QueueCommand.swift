// `slimtad queue list|show|count`: what is queued, asked of the running daemon, or read from its files where none runs.
// What changes the queue is in QueueChangeCommands.swift.

import ArgumentParser
import Glibc
import NIOCore
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaStorage
import SlimtaSystem

struct QueueCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "queue",
        abstract: "Look at the queue, and change what is to become of messages.",
        discussion: """
            list, show and count ask the running daemon, or read the queue's files where none runs; beside a daemon \
            that does not answer they show its last checkpoint, and say so. hold, release and remove work on the files \
            too; flush and bounce need the daemon.
            """,
        subcommands: [List.self, Show.self, Count.self] + QueueChange.commands + [
            QueueMoveCommand.self, QueueRebuild.self,
        ],
        defaultSubcommand: List.self)
}

/// Which messages are meant.
struct FilterOptions: ParsableArguments {
    @Option(help: .init("Messages from this address, from @domain, or \"<>\" for notices.", valueName: "address"))
    var sender: String?

    @Option(help: .init("Messages that wait for this recipient, or one of @domain.", valueName: "address"))
    var recipient: String?

    @Option(help: "Messages that wait for a recipient of this domain.")
    var domain: String?

    @Option(help: "Messages that this login submitted.")
    var login: String?

    @Option(help: "Messages that came in by this edge.")
    var edge: String?

    @Option(help: "Messages this old or older (30s, 10m, 2h, 1d), or between two ages (10m-2h).")
    var age: String?

    @Option(help: "held, active (an attempt is being made), due (waits for its turn), deferred (waits for its time).")
    var state: String?

    @Option(help: .init("Messages whose last reply has this text in it.", valueName: "text"))
    var reason: String?

    /// As the query of a request; throws what is wrong with it.
    func query() throws(Failure) -> [HTTPTarget.Parameter] {
        let values = [
            ("sender", sender), ("recipient", recipient), ("domain", domain), ("login", login), ("edge", edge),
            ("age", age), ("state", state), ("reason", reason),
        ]
        let query = values.compactMap { name, value in value.map { HTTPTarget.Parameter(name, $0) } }
        do throws(QueueFilter.Mistake) {
            _ = try QueueFilter(query)
        } catch {
            throw Failure(.usage, "--\(error.description)")
        }
        return query
    }
}

extension QueueCommand {
    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List queued messages, the oldest first.",
            discussion: """
                On a terminal a table, in whose ids the last digits are left out: the beginning of one is enough for \
                the other commands. Otherwise a line for each message, with tabs between id, state, age in seconds, \
                attempts, sender, recipients that wait, and the last reply, or the rule that holds it. All filters must fit.
                """)

        @OptionGroup var config: ConfigurationOption
        @OptionGroup var filter: FilterOptions

        @Option(help: "List no more than this many.")
        var limit: Int?

        @Flag(help: "Print a JSON array with an object on each line.")
        var json = false

        func run() {
            orExit { () throws(Failure) in
                let query = try filter.query()
                if let limit, limit <= 0 { throw Failure(.usage, "--limit: \(limit) is not a number above 0") }
                let view = try QueueView.open(try ConfigurationFile.find(config.path))
                var table = QueueTable()
                var count = 0
                try view.forEach(query) { message in
                    if json {
                        print(count == 0 ? "[\(message.line)" : ",\(message.line)")
                    } else {
                        table.row(message)
                    }
                    count += 1
                    return limit.map { count < $0 } ?? true
                }
                if json {
                    print(count == 0 ? "[]" : "]")
                } else {
                    table.end(count, isFiltered: !query.isEmpty, isCut: limit.map { count >= $0 } ?? false)
                }
            }
        }
    }

    struct Count: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "count", abstract: "Print how many messages are queued, or how many the filters mean.")

        @OptionGroup var config: ConfigurationOption
        @OptionGroup var filter: FilterOptions

        @Flag(help: "Print a JSON object.")
        var json = false

        func run() {
            orExit { () throws(Failure) in
                let query = try filter.query()
                let count = try QueueView.open(try ConfigurationFile.find(config.path)).count(query)
                print(json ? "{\"count\":\(count)}" : "\(count)")
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Show a queued message: envelope, recipients, attempts.",
            discussion: "The last 16 attempts are kept. --content prints the message itself, as it is sent.")

        @OptionGroup var config: ConfigurationOption

        @Argument(
            help:
                "The queue id, or the beginning of it: it is in the 250 reply, in Received, and in each line of the log."
        )
        var id: String

        @Flag(help: "Print the message instead: header and body.")
        var content = false

        @Flag(help: "Print a JSON object.")
        var json = false

        func run() {
            orExit { () throws(Failure) in
                _ = try queueIDs(id)
                let view = try QueueView.open(try ConfigurationFile.find(config.path))
                let id = try view.resolve(id)
                if content { return try Self.copy(id, view) }
                let message = try view.show(id)
                if json { print(message.line) } else { Self.tell(message) }
            }
        }

        private static func copy(_ id: QueueID, _ view: QueueView) throws(Failure) {
            switch view {
            case .daemon(let daemon):
                try QueueView.accept(daemon.copy(["queue", "\(id)"], [.init("content", "")]), of: id)
            case .files(let inspector):
                let stored = try QueueView.load(inspector, id)
                writeAll(Array(stored.envelope.prependedFields.readableBytesView)[...])
                writeAll(Array(stored.message.head.readableBytesView)[...])
                guard let reader = stored.message.rest?.makeReader() else { return }
                try wait { () async throws(Failure) in
                    do {
                        while let next = try await reader.next(64 << 10) {
                            writeAll(Array(next.readableBytesView)[...])
                        }
                    } catch {
                        throw Failure(.unavailable, "\(id): the message cannot be read to its end: \(error)")
                    }
                }
            }
        }

        private static func tell(_ message: JSON) {
            func line(_ name: String, _ text: String) {
                let label = name.isEmpty ? "" : "\(name):"
                print("\(label)\(String(repeating: " ", count: max(1, 13 - label.count)))\(text.visible)")
            }
            func text(_ value: JSON) -> String { value.text ?? "" }
            let client = message["client"]
            line("id", text(message["id"]))
            let state = text(message["state"])
            let rule = message["held_by_rule"].text.map { ", by the rule \($0)" } ?? ""
            line("state", state + (state == "deferred" ? ", due \(text(message["due"]))" : rule))
            line("received", "\(text(message["received"])), \(age(message["age"].integer ?? 0)) ago")
            line("size", octets(message["size"].integer ?? 0))
            line("sender", text(message["sender"]).isEmpty ? "<>" : text(message["sender"]))
            var from = [text(client["address"]).isEmpty ? "local" : text(client["address"])]
            if !text(client["name"]).isEmpty { from.append("as \(text(client["name"]))") }
            if let login = client["login"].text { from.append("login \(login)") }
            from.append("by \(text(client["protocol"]))")
            if let tls = client["tls"].text { from.append("with \(tls)") }
            if !text(client["edge"]).isEmpty { from.append("at edge \(text(client["edge"]))") }
            line("client", from.joined(separator: ", "))
            line("attempts", "\(message["attempts"].integer ?? 0)")
            if message["warned"].isTrue { line("warned", "the sender was told of the delay") }
            for recipient in message["recipients"].elements {
                line("recipient", "\(text(recipient["address"])): \(text(recipient["fate"]))")
                if !text(recipient["reply"]).isEmpty {
                    let relay = text(recipient["relay"])
                    line("", "\(relay.isEmpty ? "" : "\(relay): ")\(text(recipient["reply"]))")
                }
            }
            for attempt in message["history"].elements {
                let others = (attempt["recipients"].integer ?? 1) - 1
                let whom = text(attempt["recipient"]) + (others > 0 ? " and \(others) more" : "")
                line("attempt", "\(text(attempt["time"])) \(text(attempt["result"])): \(whom)")
                let relay = text(attempt["relay"])
                let tls = text(attempt["tls"])
                if !relay.isEmpty { line("", "\(relay)\(tls.isEmpty ? ", no TLS" : ", \(tls)")") }
                line("", text(attempt["reply"]))
            }
        }
    }
}
