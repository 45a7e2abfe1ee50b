// The daemon as a whole, as JSON: `slimtad status` and `slimtad audit`.

import Glibc
import SlimtaMail
package import SlimtaNet
package import SlimtaQueue
import SlimtaRules
import Synchronization

extension Control {
    func status(_ query: [HTTPTarget.Parameter]) async throws(Refusal) -> JSON {
        try allow(["all"], query)
        guard query.allSatisfy({ $0.value == "yes" }) else { throw Refusal(400, "all: say all=yes") }
        let now = Timestamp.now()
        let signing = daemon.signing()
        let daemon = await daemon.facts(now)
        let found = await found(isCounting: !query.isEmpty)
        return .object([
            .init("running", .bool(true)), .init("version", .string(daemon.version)),
            .init("hostname", .string(daemon.hostname)),
            .init("since", .string(daemon.since.isoDate)), .init("uptime", .seconds(now - daemon.since)),
            .init("pid", .number(Int64(getpid()))), .init("configuration", .string(daemon.file)),
            .init("configuration_read", .string(daemon.read.isoDate)), .init("in_use", .bool(daemon.difference == nil)),
            .init("reload", daemon.reload.map(reload) ?? .null),
            .init("draining", .bool(daemon.isDraining)), .init("delivering", .bool(daemon.delivers)),
            .init(
                "edges",
                .array(
                    daemon.edges.map { edge in
                        .object([
                            .init("name", .string(edge.name)),
                            .init("listen", .array(edge.listen.map { .string($0) })),
                            .init("sessions", .count(edge.sessions())),
                        ])
                    })),
            .init("queue", queueStatus(now)), .init("storage", storageStatus(queued: found.queued, local: found.local)),
            .init("sharing", found.sharing.map { .sharing($0) } ?? .null),
            .init("ledger", found.ledger.map { .ledger($0) } ?? .null),
            .init(
                "dns",
                .object([
                    .init("validation", .string(daemon.validation)),
                    .init("reason", .optional(daemon.validationReason)),
                ])),
            .init("dkim", .signing(signing)), .init("paced_sites", .count(self.daemon.pacedSites)),
            .init(
                "warnings",
                .array(
                    (warnings(daemon) + signing.warnings + Self.warnings(of: found.sharing) + found.unknown).map {
                        .string($0)
                    })),
        ])
    }

    /// What the storage has to look up.
    private struct Found {
        var ledger: Ledger?
        var sharing: SharedQueue?
        var queued: Int?
        var local: Int?
        /// What it could not tell, and why.
        var unknown: [String] = []
    }

    /// - Parameter isCounting: also what takes a second for a million messages, in a queue that is shared.
    private func found(isCounting: Bool) async -> Found {
        var found = Found()
        let shared = storage as? any SharedBackend
        do throws(StorageError) { found.ledger = try await storage.ledger() } catch {
            found.unknown.append("the ledger cannot be read: \(error.text)")
        }
        do throws(StorageError) { found.sharing = try await shared?.sharing(isCounting: isCounting) } catch {
            found.unknown.append("the nodes cannot be seen: \(error.text)")
        }
        do throws(StorageError) {
            if shared == nil || isCounting { found.queued = try await storage.count() }
            found.local = try await (storage as? FallbackStorage)?.countLocal()
        } catch {
            found.unknown.append("messages cannot be counted: \(error.text)")
        }
        return found
    }

    private func warnings(_ daemon: DaemonFacts) -> [String] {
        let storage = storage.status()
        var warnings = storage.losses.map { "mail may be lost: \($0)" } + storage.away
        if let reload = daemon.reload, !reload.isApplied {
            warnings += reload.events.map { "the reload of \(reload.time.isoDate) failed: \($0)" }
        }
        if let difference = daemon.difference { warnings.append(difference) }
        if !daemon.delivers { warnings.append(DaemonFacts.undelivered) }
        if let node = storage.node, node.isDraining {
            warnings.append("this node takes no mail: it is drained; slimtad node resume \(node.name)")
        }
        return warnings + daemon.warnings + quotas.now.warnings(at: .now())
    }

    private func reload(_ result: ReloadResult) -> JSON {
        .object([
            .init("time", .string(result.time.isoDate)), .init("applied", .bool(result.isApplied)),
            .init("errors", .array(result.errors.map { .string($0) })),
        ])
    }

    func audit() async throws(Refusal) -> HTTPResponse {
        // It reads all that is queued: one at a time.
        guard !isAuditing.exchange(true, ordering: .relaxed) else {
            throw Refusal(409, "an audit is being made: ask again when it has ended")
        }
        defer { isAuditing.store(false, ordering: .relaxed) }
        do throws(StorageError) { return HTTPResponse(.audit(try await storage.audit())) } catch {
            throw Refusal(error)
        }
    }

    /// What was lost is not told of any more.
    func acknowledge() async throws(Refusal) -> HTTPResponse {
        do throws(StorageError) {
            let losses = try await storage.acknowledgeLosses()
            return HTTPResponse(.object([.init("acknowledged", .array(losses.map { .string($0) }))]))
        } catch {
            throw Refusal(error)
        }
    }

    private func queueStatus(_ now: Timestamp) -> JSON {
        let due = queue.dueCount()
        let snapshot = queue.snapshot()
        return .object([
            .init("total", .count(snapshot.depth)), .init("held", .count(snapshot.held)),
            .init("active", .count(snapshot.inFlight)), .init("due", .count(due)),
            // What has left since it was counted must not make this less than nothing.
            .init("deferred", .count(max(0, snapshot.depth - snapshot.held - snapshot.inFlight - due))),
            .init("oldest", .optional(snapshot.oldest?.isoDate)),
            .init("oldest_age", snapshot.oldest.map { .seconds(now - $0) } ?? .null),
            .init("next_due", .optional(snapshot.nextDue?.isoDate)),
            .init("destination_count", .count(snapshot.destinationCount)),
            .init("backed_off_count", .count(snapshot.backedOffCount)),
            .init("destinations", .array(snapshot.destinations.map(destination))),
        ])
    }

    private func destination(_ destination: QueueSnapshot.Destination) -> JSON {
        .object([
            .init("name", .string(destination.name)), .init("depth", .count(destination.depth)),
            .init("active", .count(destination.inFlight)),
            .init(
                "back_off",
                destination.backOff.map { backOff in
                    .object([
                        .init("since", .string(backOff.since.isoDate)), .init("until", .string(backOff.until.isoDate)),
                        .init("probes", .count(backOff.probes)),
                        .init("reply", .string(backOff.reason.reply.description)),
                    ])
                } ?? .null),
        ])
    }

    private func storageStatus(queued: Int?, local: Int?) -> JSON {
        let status = storage.status()
        return .object([
            .init("queued", queued.map { .count($0) } ?? .null), .init("journal_octets", .count(status.journalOctets)),
            .init("generations", .count(status.generations)), .init("checkpoint", .count(status.checkpoint)),
            .init("free_octets", .count(status.freeOctets)),
            .init("free_inodes", status.freeInodes == .max ? .null : .count(status.freeInodes)),
            .init("full", .bool(status.isFull)),
            .init(
                "node",
                status.node.map { node in
                    .object([
                        .init("name", .string(node.name)), .init("incarnation", .count(node.incarnation)),
                        .init("buckets", .count(node.buckets)), .init("draining", .bool(node.isDraining)),
                        .init("relays", node.relays.map { .count($0) } ?? .null),
                    ])
                } ?? .null),
            .init("local", local.map { .count($0) } ?? .null),
            .init("away", .array(status.away.map { .string($0) })),
            .init("failure", .optional(status.failure)), .init("losses", .array(status.losses.map { .string($0) })),
        ])
    }
}

extension JSON {
    /// What an audit found.
    package static func audit(_ audit: StorageAudit) -> JSON {
        .object([
            .init("clean", .bool(audit.isClean)), .init("ledger", .ledger(audit.ledger)),
            .init("daemon", audit.running.map { .ledger($0) } ?? .null), .init("envelopes", .count(audit.envelopes)),
            .init("octets", .count(audit.octets)), .init("spooled", .count(audit.spooled)),
            .init(
                "findings",
                .array(
                    audit.findings.map { finding in
                        .object([
                            .init("id", .optional(finding.id.map { "\($0)" })), .init("text", .string(finding.text)),
                            .init("fault", .bool(finding.isFault)),
                        ])
                    })),
            .init("omitted", .count(audit.omitted)),
        ])
    }

    /// A ledger with its balance.
    package static func ledger(_ ledger: Ledger) -> JSON {
        .object([
            .init("since", .string(ledger.since.isoDate)), .init("balanced", .bool(ledger.isBalanced)),
            .init("unaccounted", .number(ledger.unaccounted)), .init("mismatched", .count(ledger.mismatched)),
            .init("submitted", account(ledger.submitted)), .init("notices", account(ledger.notices)),
            .init(
                "removed_by",
                .object(ledger.removedBy.sorted { $0.key < $1.key }.map { .init($0.key, .count($0.value)) })),
        ])
    }

    private static func account(_ account: Ledger.Account) -> JSON {
        .object([
            .init("accepted", .count(account.accepted)), .init("repeated", .count(account.repeated)),
            .init("delivered", .count(account.delivered)), .init("bounced", .count(account.bounced)),
            .init("expired", .count(account.expired)), .init("removed", .count(account.removed)),
            .init("lost", .count(account.lost)), .init("queued", .count(account.queued)),
            .init("unaccounted", .number(account.unaccounted)),
        ])
    }
}
