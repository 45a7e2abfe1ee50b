// What operators do to the queue while no daemon runs: on the files, with the daemon's lock.

import Glibc
import SlimtaConfiguration
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaSystem

/// What came of a change, of the files or over the control socket.
struct QueueChangeResult {
    var done = 0
    /// Ids, and why it could not be done.
    var failed: [(id: String, reason: String)] = []
    /// Nodes that did not say what came of it.
    var silent: [String] = []
    /// Whether the daemon delivers anything.
    var isDelivering = true
}

/// The queue's files, opened as the daemon opens them.
enum OfflineQueue {
    /// Messages that are changed with one commit, which has to fit into the journal.
    private static let pageSize = 128

    /// Holds, releases or removes. `query` is a filter; empty, without ids: all.
    static func change(
        _ action: QueueAction, _ ids: [QueueID], _ query: [HTTPTarget.Parameter], _ file: ConfigurationFile
    ) throws(Failure) -> QueueChangeResult {
        let filter: QueueFilter
        do throws(QueueFilter.Mistake) { filter = try QueueFilter(query) } catch {
            throw Failure(.usage, error.description)
        }
        let by = Accounts.userName(getuid())
        let storage = try open(file)
        return try wait { () async throws(Failure) in
            try await start(storage)
            do throws(StorageError) {
                let result = try await change(action, ids, filter, storage, by: by)
                await storage.close()
                return result
            } catch {
                await storage.close()
                throw Failure(.unavailable, "queue: \(error.text)")
            }
        }
    }

    /// What was lost is not told of any more; what that was.
    static func acknowledgeLosses(_ file: ConfigurationFile) throws(Failure) -> [String] {
        let storage = try open(file)
        return try wait { () async throws(Failure) in
            try await start(storage)
            do throws(StorageError) {
                let losses = try await storage.acknowledgeLosses()
                await storage.close()
                return losses
            } catch {
                await storage.close()
                throw Failure(.unavailable, "queue: \(error.text)")
            }
        }
    }

    /// Takes the lock, and becomes who the daemon is: its files must not belong to somebody else.
    private static func open(_ file: ConfigurationFile) throws(Failure) -> any QueueBackend {
        // A node for the time of a command would take its share from the others, and could change nothing of theirs.
        try file.demandLocalQueue()
        let identity: Identity?
        do throws(SystemError) {
            identity =
                Privileges.isRoot
                ? try Privileges.lookUp(user: file.values.daemon.user, group: file.values.daemon.group) : nil
        } catch {
            throw Failure(error)
        }
        let storage = try StorageMaker.open(file, identity) { event in
            if case .journal(let event) = event { say("queue: \(event)") }
        }
        do throws(StorageOpenError) {
            if let identity, identity.uid != 0 { try become(identity) }
            return storage
        } catch {
            throw Failure(storage: error)
        }
    }

    private static func start(_ storage: any QueueBackend) async throws(Failure) {
        do throws(StorageOpenError) { try await storage.start { _ in } } catch { throw Failure(storage: error) }
    }

    private static func become(_ identity: Identity) throws(StorageOpenError) {
        do throws(SystemError) { try Privileges.drop(to: identity) } catch { throw .unsafe(error.description) }
    }

    private static func change(
        _ action: QueueAction, _ ids: [QueueID], _ filter: QueueFilter, _ storage: any QueueBackend, by: String
    ) async throws(StorageError) -> QueueChangeResult {
        var result = QueueChangeResult()
        for id in ids {
            do throws(StorageError) {
                let state = try await storage.states([id])[0].get()
                guard action != .release || !state.isKept else {
                    result.failed.append(("\(id)", EnvelopeState.keptText))
                    continue
                }
                try await storage.commit(commit(action, state, by: by))
                result.done += 1
            } catch {
                guard error == .notFound else { throw error }
                result.failed.append(("\(id)", error.text))
            }
        }
        var place: QueueID?
        while ids.isEmpty {
            let now = Timestamp.now()
            let page = try await storage.page(after: place, count: pageSize)
            result.failed += page.unreadable.map { ("\($0.id)", $0.reason) }
            var commits = QueueCommit()
            for queued in page.envelopes
            where filter.matches(queued.envelope, queued.state, QueuePlace(of: queued.state, now: now), now: now) {
                guard action != .release || !queued.state.isKept else {
                    result.failed.append(("\(queued.envelope.id)", EnvelopeState.keptText))
                    continue
                }
                let one = commit(action, queued.state, by: by)
                commits.states += one.states
                commits.ended += one.ended
                result.done += 1
            }
            try await storage.commit(commits)
            place = page.next
            if place == nil { break }
        }
        return result
    }

    private static func commit(_ action: QueueAction, _ state: EnvelopeState, by: String) -> QueueCommit {
        var state = state
        switch action {
        case .hold:
            state.hold()
            return QueueCommit(states: [state])
        case .release:
            state.release(at: .now())
            return QueueCommit(states: [state])
        case .remove:
            return QueueCommit(ended: [state.removed(by: by)])
        case .flush, .bounce: preconditionFailure("needs the daemon")
        }
    }
}
