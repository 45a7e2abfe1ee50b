// `slimtad queue rebuild`: makes a queue from whatever files of one are left, while no daemon runs.

import ArgumentParser
import Glibc
import SlimtaConfiguration
import SlimtaQueue
import SlimtaStorage
import SlimtaSystem

struct QueueRebuild: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rebuild", abstract: "Make a queue from the files that are left of a damaged one.",
        discussion: """
            For a queue that the daemon refuses to open since it is damaged, or files of which are lost. Not while \
            the daemon runs. Messages of which it is not known whether they were delivered are queued; the ledger \
            begins anew, and what was lost counts as acknowledged. Old files are moved to quarantine/ in the state directory.
            """)

    @OptionGroup var config: ConfigurationOption

    func run() {
        orExit { () throws(Failure) in
            let file = try ConfigurationFile.parse(config.path)
            guard file.values.queue.placement.hasJournal else {
                throw Failure(.configuration, "the queue is in PostgreSQL: there are no files to be rebuilt")
            }
            let marker = MoveMarker(file.stateDirectory)
            if Self.canBeOpened(file) { try marker.demandNone() }
            do throws(SystemError) {
                // The files must not belong to somebody else than the daemon.
                if Privileges.isRoot {
                    let daemon = file.values.daemon
                    let identity = try Privileges.lookUp(user: daemon.user, group: daemon.group)
                    if identity.uid != 0 { try Privileges.drop(to: identity) }
                }
            } catch {
                throw Failure(error)
            }
            do throws(StorageOpenError) {
                let made = try StorageRebuild.run(directory: file.stateDirectory, owner: nil) { event in
                    if let text = Self.text(event) { say("queue: \(text)") }
                }
                print(
                    "\(made.envelopes) messages are queued, from \(made.generations) sealed files and "
                        + "\(made.segments) segments of the journal")
                print("old files are in \(made.aside)")
                if marker.isThere { print("the move that was begun goes on with `slimtad queue move`") }
            } catch {
                throw Failure(storage: error)
            }
        }
    }

    /// Whether there are files that a move could go on with.
    private static func canBeOpened(_ file: ConfigurationFile) -> Bool {
        (try? StorageInspector(directory: file.stateDirectory)) != nil
    }

    /// What was found to be damaged; nil of what is no damage.
    private static func text(_ event: StorageEvent) -> String? {
        switch event {
        case .damaged(let what, let id, let description, let quarantine):
            (id.map { "\($0): " } ?? "") + "\(what): \(description)" + (quarantine.map { ", kept in \($0)" } ?? "")
        case .missing(let what, let description): "\(what): \(description)"
        case .resurrected(let id): "\(id): its state is lost, it is queued as it was accepted"
        case .tornTail(let segment, let offset, _):
            "journal segment \(segment) ends at \(offset) in a write that was never acknowledged"
        case .superblockRepaired(let what), .journalFailed(let what), .checkpointFailed(let what),
            .leftover(let what):
            what
        case .journalRecovered, .diskFull, .diskRoom, .receiptsForgotten: nil
        }
    }
}
