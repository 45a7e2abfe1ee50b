// `slimtad status` and `slimtad audit`: the daemon as a whole, and whether every recipient is accounted for.

import ArgumentParser
import Glibc
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaStorage
import SlimtaSystem

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show what the running daemon is doing.",
        discussion: """
            Exit status 69: no daemon runs, and what is printed is what the queue's files say. "unaccounted" counts \
            recipients that nothing accounts for: 0.
            """)

    @OptionGroup var config: ConfigurationOption

    @Flag(help: "Show all machines that share the queue, and how much is queued on all of them.")
    var all = false

    @Flag(help: "Print a JSON object.")
    var json = false

    func run() {
        orExit { () throws(Failure) in
            let file = try ConfigurationFile.find(config.path)
            guard let daemon = try RunningDaemon.connect(file) else {
                let status = JSON.status(try file.inspectQueue())
                if json {
                    print(status.line)
                } else {
                    Self.tellWarnings(status)
                    Self.tellQueue(status)
                }
                throw Failure(
                    .unavailable,
                    "no daemon runs: nobody listens on \(file.controlSocket); this is what the queue's files say")
            }
            let status = try daemon.ask(.get, ["status"], all ? [.init("all", "yes")] : [])
            if json { return print(status.line) }
            Self.tell(status)
            if all { NodeCommand.tell(status["sharing"], queued: status["storage"]["queued"].integer) }
        }
    }

    /// One of the lines that a status is made of.
    static func line(_ name: String, _ text: String) {
        print("\(name):\(String(repeating: " ", count: max(1, 13 - name.count)))\(text.visible)")
    }

    /// What is queued, and whether all of it is accounted for.
    private static func tellQueue(_ status: JSON) {
        let queue = status["queue"]
        let parts = ["held", "active", "due", "deferred"].compactMap { name in
            queue[name].integer.map { "\($0) \(name)" }
        }
        line("queue", "\(counted(queue["total"].integer ?? 0, "message")): " + parts.joined(separator: ", "))
        if let oldest = queue["oldest"].text { line("oldest", "\(oldest) (\(age(queue["oldest_age"].integer ?? 0)))") }
        let ledger = status["ledger"]
        if let unaccounted = ledger["unaccounted"].integer {
            line("unaccounted", "\(unaccounted)" + (ledger["balanced"].isTrue ? "" : ", NOT BALANCED"))
        }
    }

    private static func tell(_ status: JSON) {
        tellWarnings(status)
        let storage = status["storage"]
        line(
            "slimtad",
            "\(status["version"].text ?? "") on \(status["hostname"].text ?? ""), process \(status["pid"].integer ?? 0)"
                + (status["draining"].isTrue ? ", stopping" : ""))
        line("since", "\(status["since"].text ?? "") (\(age(status["uptime"].integer ?? 0)))")
        for edge in status["edges"].elements {
            let listen = edge["listen"].elements.compactMap(\.text).joined(separator: " ")
            line("edge", "\(edge["name"].text ?? ""): \(listen), \(counted(edge["sessions"].integer ?? 0, "session"))")
        }
        tellQueue(status)
        for destination in status["queue"]["destinations"].elements.prefix(10) {
            let backOff = destination["back_off"]
            line(
                "destination",
                "\(destination["name"].text ?? ""): \(counted(destination["depth"].integer ?? 0, "message")), "
                    + "\(destination["active"].integer ?? 0) active"
                    + (backOff == .null
                        ? "" : ", does not answer since \(backOff["since"].text ?? ""): \(backOff["reply"].text ?? "")")
            )
        }
        if let paced = status["paced_sites"].integer, paced > 0 {
            line("sites", "\(counted(paced, "site")) with limits that hold mail up: slimtad site list")
        }
        line("storage", Self.storage(storage))
        if let nodes = NodeCommand.summary(status["sharing"]) { line("nodes", nodes) }
        let dns = status["dns"]
        let validation =
            switch dns["validation"].text {
            case "working": "answers are validated (DNSSEC)"
            case "off": "answers are not validated, as configured"
            case "unavailable": "answers cannot be validated: \(dns["reason"].text ?? "")"
            default: "not known yet whether answers can be validated"
            }
        line("dns", validation)
        for key in status["dkim"]["keys"].elements {
            line(
                "dkim",
                "\(key["record_name"].text ?? "") \(key["algorithm"].text ?? ""): \(key["state"].text ?? "") since "
                    + (key["since"].text ?? "") + (key["signs"].isTrue ? ", signs" : "")
                    + (key["advice"].text.map { "; \($0)" } ?? ""))
        }
    }

    /// What keeps the queue, and how it is.
    private static func storage(_ storage: JSON) -> String {
        let full = storage["full"].isTrue ? ", FULL: nothing is accepted" : ""
        let node = storage["node"]
        if let name = node["name"].text {
            let waits = node["relays"].integer == 0 ? ", NO NODE DELIVERS: mail waits" : ""
            let local = storage["local"].integer.map { ", \(counted($0, "message")) in the local queue" } ?? ""
            return "PostgreSQL, as node \(name) with \(counted(node["buckets"].integer ?? 0, "bucket")), incarnation "
                + "\(node["incarnation"].integer ?? 0)" + waits + local + full
        }
        return
            "\(octets(storage["journal_octets"].integer ?? 0)) of journal, \(counted(storage["generations"].integer ?? 0, "file")), "
            + "checkpoint \(storage["checkpoint"].integer ?? 0), \(octets(storage["free_octets"].integer ?? 0)) free"
            + (storage["free_inodes"].integer.map { $0 < 100_000 ? ", \($0) inodes" : "" } ?? "") + full
    }

    /// What is wrong, before everything else: nobody reads to the end of what is long and fine.
    private static func tellWarnings(_ status: JSON) {
        if let failure = status["storage"]["failure"].text { line("failure", "\(failure): nothing is accepted") }
        for warning in status["warnings"].elements { line("warning", warning.text ?? "") }
    }
}

struct AuditCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract: "Prove from the queue's storage that every accepted recipient is accounted for.",
        discussion: """
            Reads all that is queued, with its checksums. Exit status 0: every recipient is in the queue or ended in \
            exactly one of delivered, bounced, expired, removed, and every record is readable. 1: something is not so; \
            what, is printed. Mail that was found to be lost is a fault until --acknowledge.
            """)

    @OptionGroup var config: ConfigurationOption

    @Flag(help: "Print a JSON object.")
    var json = false

    @Flag(help: "Say that you know what was lost: it is no fault any more.")
    var acknowledge = false

    func run() {
        if acknowledge { return acknowledgeLosses() }
        let isClean = orExit { () throws(Failure) -> Bool in
            let file = try ConfigurationFile.find(config.path)
            let audit: JSON
            if let daemon = try RunningDaemon.connect(file) {
                audit = try daemon.ask(.get, ["audit"])
            } else {
                let inspector = try file.inspectQueue()
                do throws(StorageOpenError) { audit = .audit(try inspector.audit()) } catch {
                    throw Failure(storage: error)
                }
            }
            if json { print(audit.line) } else { Self.tell(audit) }
            return audit["clean"].isTrue
        }
        if !isClean { Glibc.exit(1) }
    }

    private func acknowledgeLosses() {
        orExit { () throws(Failure) in
            let file = try ConfigurationFile.find(config.path)
            let losses: [String]
            if let daemon = try RunningDaemon.connect(file) {
                losses = try daemon.ask(.post, ["audit", "acknowledge"])["acknowledged"].elements.compactMap(\.text)
            } else {
                losses = try OfflineQueue.acknowledgeLosses(file)
            }
            if json { return print(JSON.object([.init("acknowledged", .array(losses.map { .string($0) }))]).line) }
            for loss in losses { print("acknowledged: \(loss.visible)") }
            if losses.isEmpty { print("nothing was lost") }
        }
    }

    private static func tell(_ audit: JSON) {
        let ledger = audit["ledger"]
        print("recipients since \(ledger["since"].text ?? "")")
        let names = ledger["submitted"].members.map(\.name)
        let width = names.map(\.count).max() ?? 0
        func column(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(0, width - text.count)) + text
        }
        print(column("", width) + column("submitted", 14) + column("notices", 14))
        for name in names {
            print(
                name + column("", width - name.count) + column("\(ledger["submitted"][name].integer ?? 0)", 14)
                    + column("\(ledger["notices"][name].integer ?? 0)", 14))
        }
        for member in ledger["removed_by"].members {
            print("removed by \(member.name.visible): \(member.value.integer ?? 0)")
        }
        print(
            "read: \(counted(audit["envelopes"].integer ?? 0, "message")), \(octets(audit["octets"].integer ?? 0)), "
                + "\(audit["spooled"].integer ?? 0) spooled")
        for finding in audit["findings"].elements {
            let id = finding["id"].text.map { "\($0): " } ?? ""
            print("\(finding["fault"].isTrue ? "FAULT" : "note"): \(id)\((finding["text"].text ?? "").visible)")
        }
        if let omitted = audit["omitted"].integer, omitted > 0 { print("and \(omitted) more") }
        print(audit["clean"].isTrue ? "balanced: every recipient is accounted for" : "NOT BALANCED, or not readable")
    }
}

extension JSON {
    /// The queue and its ledger where no daemon runs, as the daemon would say it.
    static func status(_ inspector: StorageInspector) -> JSON {
        let now = Timestamp.now()
        var counts: [QueuePlace: Int] = [:]
        for summary in inspector.queued {
            counts[summary.isHeld ? .held : summary.due <= now ? .due : .deferred, default: 0] += 1
        }
        let oldest = inspector.queued.first?.received
        return .object([
            .init("running", .bool(false)),
            .init(
                "queue",
                .object([
                    .init("total", .count(inspector.queued.count)), .init("held", .count(counts[.held] ?? 0)),
                    .init("active", .count(0)), .init("due", .count(counts[.due] ?? 0)),
                    .init("deferred", .count(counts[.deferred] ?? 0)), .init("oldest", .optional(oldest?.isoDate)),
                    .init("oldest_age", oldest.map { .seconds(now - $0) } ?? .null),
                ])),
            // As of a checkpoint it has no meaning.
            .init("ledger", inspector.asOfCheckpoint == nil ? .ledger(inspector.ledger) : .null),
            .init("warnings", .array(inspector.losses.map { .string("mail may be lost: \($0)") })),
        ])
    }
}
