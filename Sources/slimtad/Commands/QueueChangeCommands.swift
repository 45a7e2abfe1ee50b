// `slimtad queue flush|hold|release|remove|bounce`: by the running daemon, and where none runs, as far as that goes, on
// the queue's files.

import ArgumentParser
import Glibc
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaStorage
import SlimtaSystem

enum QueueChange {
    static let commands: [any ParsableCommand.Type] = [
        Flush.self, Hold.self, Release.self, Remove.self, Bounce.self,
    ]

    /// What all of them take.
    struct Options: ParsableArguments {
        @OptionGroup var config: ConfigurationOption
        @OptionGroup var filter: FilterOptions

        @Argument(help: "Queue ids, or the beginning of each.")
        var ids: [String] = []

        @Flag(help: "All messages.")
        var all = false

        @Flag(help: "Print a JSON object.")
        var json = false
    }

    struct Flush: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "flush", abstract: "Try messages again now.",
            discussion: "What is held stays held. Needs the running daemon.")

        @OptionGroup var options: Options

        func run() { QueueChange.run(.flush, options, isConfirmed: true) }
    }

    struct Hold: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "hold", abstract: "Keep messages in the queue without trying them, until they are released.")

        @OptionGroup var options: Options

        func run() { QueueChange.run(.hold, options, isConfirmed: true) }
    }

    struct Release: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "release", abstract: "Let messages go that are held: they are tried now.")

        @OptionGroup var options: Options

        func run() { QueueChange.run(.release, options, isConfirmed: true) }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove", abstract: "Take messages out of the queue for good; nobody is told.",
            discussion: "Asks on a terminal; elsewhere it needs --yes. The ledger says who removed how many recipients."
        )

        @OptionGroup var options: Options

        @Flag(help: "Do not ask.")
        var yes = false

        func run() { QueueChange.run(.remove, options, isConfirmed: yes) }
    }

    struct Bounce: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "bounce",
            abstract: "Give messages up now: their senders are told that they cannot be delivered.",
            discussion: "Asks on a terminal; elsewhere it needs --yes. Needs the running daemon.")

        @OptionGroup var options: Options

        @Flag(help: "Do not ask.")
        var yes = false

        func run() { QueueChange.run(.bounce, options, isConfirmed: yes) }
    }

    private static func run(_ action: QueueAction, _ options: Options, isConfirmed: Bool) {
        let failures = orExit { () throws(Failure) -> Int in
            var query = try options.filter.query()
            for id in options.ids { _ = try queueIDs(id) }
            guard [!options.ids.isEmpty, !query.isEmpty, options.all].filter(\.self).count == 1 else {
                throw Failure(.usage, "which messages? Give queue ids, or filters (see --help), or --all: one of these")
            }
            if options.all { query = [.init("all", "yes")] }
            let file = try ConfigurationFile.find(options.config.path)
            let daemon = try RunningDaemon.connect(file)
            if daemon == nil, action == .flush || action == .bounce {
                _ = try RunningDaemon.need(file, for: "queue \(action.rawValue)")
            }
            let ids = try resolve(options.ids, file)
            if !isConfirmed {
                try Terminal.confirm(action.rawValue) { () throws(Failure) in
                    let filter = options.all ? [] : query
                    return counted(ids.isEmpty ? try QueueView.open(file).count(filter) : ids.count, "message")
                }
            }
            let result: QueueChangeResult
            if let daemon {
                result = try change(action, ids, query, daemon)
            } else {
                say("no daemon runs: the queue's files are changed")
                result = try OfflineQueue.change(action, ids, options.all ? [] : query, file)
            }
            tell(result.failed, areNamed: !ids.isEmpty)
            for node in result.silent { say("\(node.visible) did not answer for what is there: ask again") }
            if !result.isDelivering, action == .flush || action == .release { say(DaemonFacts.undelivered) }
            if options.json {
                let failed = result.failed.map { JSON.object([.init("id", .string($0)), .init("error", .string($1))]) }
                let silent = JSON.Member("silent", .array(result.silent.map { .string($0) }))
                print(
                    JSON.object(
                        [.init("done", .count(result.done)), .init("failed", .array(failed))]
                            + (result.silent.isEmpty ? [] : [silent])
                    ).line)
            } else {
                print("\(result.done) \(action.done)")
            }
            return result.failed.count + result.silent.count
        }
        if failures > 0 { Glibc.exit(1) }
    }

    /// Says what could not be done: of messages that were named each, of those that a filter found as many as can be read.
    private static func tell(_ failed: [(id: String, reason: String)], areNamed: Bool) {
        var ids: [String: [String]] = [:]
        for (id, reason) in failed { ids[reason, default: []].append(id) }
        for (reason, ids) in ids.sorted(by: { $0.key < $1.key }) {
            let told = areNamed ? ids.count : min(ids.count, 10)
            for id in ids.prefix(told) { say("\(id): \(reason)") }
            if ids.count > told { say("and \(counted(ids.count - told, "more message")): \(reason)") }
        }
    }

    private static func resolve(_ ids: [String], _ file: ConfigurationFile) throws(Failure) -> [QueueID] {
        // A whole id needs no look at the queue.
        let whole = ids.compactMap { QueueID($0) }
        if whole.count == ids.count { return whole }
        let view = try QueueView.open(file)
        return try ids.map { text throws(Failure) in try view.resolve(text) }
    }

    private static func change(
        _ action: QueueAction, _ ids: [QueueID], _ query: [HTTPTarget.Parameter], _ daemon: RunningDaemon
    ) throws(Failure) -> QueueChangeResult {
        var result = QueueChangeResult()
        func add(_ page: JSON) -> Bool {
            result.done += Int(page["done"].integer ?? 0)
            result.isDelivering = page["delivering"].isTrue
            result.silent += page["silent"].elements.compactMap(\.text)
            result.failed += page["failed"].elements.map { ($0["id"].text ?? "", $0["error"].text ?? "") }
            return true
        }
        let path = ["queue", action.rawValue]
        if ids.isEmpty {
            try daemon.pages(.post, path, query + [.init("limit", "1000")], add)
            return result
        }
        for start in stride(from: 0, to: ids.count, by: 500) {
            _ = add(try daemon.ask(.post, path, ids[start...].prefix(500).map { .init("id", "\($0)") }))
        }
        return result
    }
}
