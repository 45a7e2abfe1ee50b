// What the storage reports, as lines of the log; and its refusals to open, as exit statuses.

import Logging
import SlimtaMail
import SlimtaQueue
import SlimtaStorage
import SlimtaSystem

extension Logger {
    /// Writes a line for what an operator must know of the storage.
    func log(_ event: StorageEvent) {
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
            case .inUse: .temporary
            case .unsafe: .notPermitted
            case .newerFormat: .configuration
            case .damaged: .unavailable
            case .system: .cannotCreate
            }
        self.init(status, "queue: \(error)")
    }
}
