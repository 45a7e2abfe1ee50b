// What the storage reports, as lines of the log; and its refusals to open, as exit statuses.

import Logging
import SlimtaCluster
import SlimtaMail
import SlimtaQueue
import SlimtaStorage
import SlimtaSystem

extension Logger {
    /// Writes a line for what an operator must know of the storage.
    func log(_ event: StorageMaker.Event) {
        switch event {
        case .journal(let event): log(event)
        case .cluster(let event): log(event)
        case .homeAway(let reason):
            error(
                "the queue's database is away, new mail goes into the local queue", metadata: ["error": "\(reason)"])
        }
    }

    private func log(_ event: ClusterEvent) {
        switch event {
        case .databaseAway(let reason):
            critical("the queue's database is away, nothing is accepted", metadata: ["error": "\(reason)"])
        case .databaseBack: notice("the queue's database is back")
        case .doubt(let reason):
            warning("nobody knows whether a commit came through", metadata: ["error": "\(reason)"])
        case .takenBack(let ids):
            for id in ids {
                notice(
                    "a message was stored though its client was told to send it again, and was taken out",
                    metadata: ["queue_id": "\(id)"])
            }
        case .leftInDoubt(let ids):
            for id in ids {
                notice(
                    "a message may be delivered though its client was told to send it again",
                    metadata: ["queue_id": "\(id)"])
            }
        case .vanished(let ids):
            for id in ids {
                warning("a message is not in the database any more", metadata: ["queue_id": "\(id)"])
            }
        case .fenced: error("this node was declared dead, what it had of the queue is others'")
        case .joined(let incarnation):
            notice("joined the nodes of the queue", metadata: ["incarnation": "\(incarnation)"])
        case .declaredDead(let node): warning("a node was declared dead", metadata: ["node": "\(node)"])
        case .noRelays: warning("no node delivers, mail waits")
        case .relaysBack: notice("a node delivers again")
        case .callsMissing(let reason):
            warning("nodes cannot call each other by the database", metadata: ["error": "\(reason)"])
        case .buckets(let count): info("parts of the queue that are this node's", metadata: ["buckets": "\(count)"])
        case .draining(true): notice("this node is drained: it takes no mail and gives away what it has")
        case .draining(false): notice("this node takes mail again")
        case .sharing(let nodes):
            notice("limits of destinations are shared by nodes", metadata: ["nodes": "\(nodes)"])
        case .damaged(let id, let description):
            error("stored mail is unreadable", metadata: ["queue_id": "\(id)", "error": "\(description)"])
        case .clock(let offset):
            warning(
                "the clocks of this machine and of the database differ",
                metadata: ["offset": "\(offset.milliseconds) ms"])
        case .oldTransaction(let age):
            warning(
                "a transaction keeps the database from cleaning up",
                metadata: ["age": "\(age.milliseconds / 1000) s"])
        case .housekeepingFailed(let reason):
            warning("the database was not cleaned up, it is tried again", metadata: ["error": "\(reason)"])
        }
    }

    private func log(_ event: StorageEvent) {
        switch event {
        case .tornTail(let segment, let offset, let quarantine):
            notice(
                "the journal ended in an unfinished write, which was never acknowledged",
                metadata: [
                    "segment": "\(segment)", "offset": "\(offset)", "quarantine": "\(quarantine ?? "none")",
                ])
        case .damaged(let what, let id, let description, let quarantine):
            error(
                "stored mail is damaged and was moved aside",
                metadata: [
                    "queue_id": "\(id.map(\.description) ?? "unknown")", "what": "\(what)",
                    "envelope": "\(description)", "quarantine": "\(quarantine ?? "none")",
                ])
        case .missing(let what, let description):
            error(
                "a file of the queue is missing, mail may be lost",
                metadata: ["what": "\(what)", "error": "\(description)"])
        case .resurrected(let id):
            warning("a message may be delivered again, its state was damaged", metadata: ["queue_id": "\(id)"])
        case .superblockRepaired(let what): warning("queue index repaired", metadata: ["what": "\(what)"])
        case .journalFailed(let reason):
            critical("the queue's disk failed, nothing is accepted", metadata: ["error": "\(reason)"])
        case .journalRecovered: notice("the queue's disk works again")
        case .checkpointFailed(let reason):
            error("checkpoint failed, all is still in the journal", metadata: ["error": "\(reason)"])
        case .diskFull(let lacks, let free, let inodes):
            error(
                "disk is full, nothing is accepted",
                metadata: ["lacks": "\(lacks)", "free": "\(free)", "inodes": "\(Self.count(inodes))"])
        case .diskRoom(let free, let inodes):
            notice("disk has room again", metadata: ["free": "\(free)", "inodes": "\(Self.count(inodes))"])
        case .receiptsForgotten(let limit):
            warning("submissions are forgotten before their time", metadata: ["limit": "\(limit)"])
        case .leftover(let path):
            warning("a file that is not needed could not be deleted", metadata: ["path": "\(path)"])
        }
    }
}

extension Logger {
    /// Inodes, where the file system counts them.
    private static func count(_ inodes: UInt64) -> String { inodes == .max ? "uncounted" : "\(inodes)" }
}

extension Failure {
    init(storage error: StorageOpenError) {
        let status: ExitStatus =
            switch error {
            case .inUse, .nameInUse: .temporary
            case .unsafe: .notPermitted
            case .newerFormat: .configuration
            case .damaged: .unavailable
            case .system: .cannotCreate
            }
        self.init(status, "queue: \(error)")
    }
}
