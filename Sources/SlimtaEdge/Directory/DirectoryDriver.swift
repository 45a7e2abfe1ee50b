// The driver of a DirectoryMachine: does what it says, one thing after another, with submissions beside. DirectoryEdge has
// one, and its task runs it.

internal import Logging
internal import NIOCore
internal import NIOPosix
internal import SlimtaMail
internal import SlimtaQueue
import Synchronization

/// Carries out what the machine of one folder decides. Files are touched on threads, never on event loops.
final class DirectoryDriver: Sendable {
    private let inbox: DirectoryInbox
    private let submissions: any Submissions
    private let group: any EventLoopGroup
    private let threads: NIOThreadPool
    private let sessionLog: SessionLog
    private let inProgress = SubmissionsInProgress()

    init(
        inbox: DirectoryInbox, submissions: any Submissions, group: any EventLoopGroup, threads: NIOThreadPool,
        logger: Logger
    ) {
        self.inbox = inbox
        self.submissions = submissions
        self.group = group
        self.threads = threads
        sessionLog = SessionLog(logger)
    }

    /// What is open.
    private struct Place {
        let folder: PickupFolder
        let watch: any Channel
    }

    /// Returns when all is drained, or when the task is cancelled.
    func run() async {
        await withDiscardingTaskGroup { submitting in
            let first = inbox.values.withLock { $0.settings }
            var machine = DirectoryMachine(
                settle: first.settle, isByOwner: first.owners != nil, at: ContinuousClock.now)
            var place: Place?
            var bell = inbox.bell.makeAsyncIterator()
            loop: while !Task.isCancelled {
                let settings = hear(&machine)
                switch (machine.next(ContinuousClock.now), place) {
                case (.end, _): break loop
                case (.open, _):
                    place = await open(settings, &machine)
                    inbox.opened()
                case (.wait(let until), _):
                    let pause = TimeAmount(until - ContinuousClock.now)
                    let alarm = group.any().scheduleTask(in: pause) { [inbox] in inbox.wake() }
                    _ = await bell.next()
                    alarm.cancel()
                case (.submit(let file), let open?):
                    let submission = submission(of: file, in: open.folder, settings)
                    submitting.addTask { [inbox] in
                        let outcome = await submission.run()
                        inbox.change { $0.outcomes.append((file, outcome)) }
                    }
                case (.close, let open?):
                    try? await open.watch.close()
                    place = nil
                    machine.closed(ContinuousClock.now)
                case (let action, let open?): await perform(action, in: open.folder, settings, &machine)
                case (_, nil): machine.closed(ContinuousClock.now)
                }
            }
            try? await place?.watch.close()
            inbox.opened()
        }
    }

    /// Takes what has come in.
    private func hear(_ machine: inout DirectoryMachine) -> DirectoryEdgeSettings {
        let heard = inbox.values.withLock { values in
            defer { (values.changes, values.outcomes) = (FolderChanges(), []) }
            return values
        }
        (machine.settle, machine.isByOwner) = (heard.settings.settle, heard.settings.owners != nil)
        machine.changed(heard.changes, .now)
        for (file, outcome) in heard.outcomes {
            tell(outcome, of: file, heard.settings)
            machine.submitted(file.id, outcome, .now)
        }
        if heard.isDraining {
            machine.drain()
            inProgress.endDelays()
        }
        let (busy, putOff) = (machine.unfinishedCount, machine.putOff)
        inbox.values.withLock { values in
            values.busyCount = busy
            values.putOff = putOff.map { "\($0.count) not taken yet, such as \($0.example.name): \($0.reply)" }
        }
        return heard.settings
    }

    private func submission(
        of file: TakenFile, in folder: PickupFolder, _ settings: DirectoryEdgeSettings
    ) -> DirectorySubmission {
        DirectorySubmission(
            file: file, folder: folder, settings: settings, submissions: submissions, inProgress: inProgress,
            log: sessionLog, eventLoop: group.next(), threads: threads)
    }

    // MARK: Actions

    private func open(_ settings: DirectoryEdgeSettings, _ machine: inout DirectoryMachine) async -> Place? {
        do {
            let path = settings.path
            let (folder, watch) = try await threads.perform {
                () throws(PickupFolder.Problem) -> (PickupFolder, CInt) in
                // Watched first, then read: else what comes in between would not be seen.
                let folder = try PickupFolder(path)
                return (folder, try FolderWatch.begin(path))
            }
            let channel = try await FolderWatch.run(watch, on: group) { [inbox] octets in
                inbox.change { values in
                    if var octets { values.changes.add(&octets) } else { values.changes.end() }
                }
            }
            machine.opened(.now)
            return Place(folder: folder, watch: channel)
        } catch {
            complain(.folder, "\(error)", settings)
            machine.cannotOpen(.now)
            return nil
        }
    }

    private func perform(
        _ action: DirectoryMachine.Action, in folder: PickupFolder, _ settings: DirectoryEdgeSettings,
        _ machine: inout DirectoryMachine
    ) async {
        do throws(PickupFolder.Problem) {
            switch action {
            case .scan: try await scan(folder, settings, &machine)
            case .look(let names):
                let found = await threads.perform { () throws(Never) in
                    names.map { (name: $0, facts: folder.facts(of: $0)) }
                }
                machine.looked(found, .now)
            case .take(let files): await take(files, in: folder, settings, &machine)
            case .remove(let files): await remove(files, from: folder, settings, &machine)
            case .setAside(let file, let reply): await setAside(file, reply, in: folder, settings, &machine)
            case .open, .close, .submit, .wait, .end: break
            }
        } catch {
            complain(.folder, "\(error)", settings)
            machine.lost()
        }
    }

    private func scan(
        _ folder: PickupFolder, _ settings: DirectoryEdgeSettings, _ machine: inout DirectoryMachine
    ) async throws(PickupFolder.Problem) {
        let leavesLinked = settings.owners != nil
        let content = try await threads.perform { () throws(PickupFolder.Problem) in
            try folder.content(limit: DirectoryMachine.limit, leavesLinked: leavesLinked)
        }
        inbox.values.withLock { $0.failedCount = content.failedCount }
        complain(.folder, nil, settings)
        guard content.isThere else { return machine.lost() }
        machine.scanned(
            content.files, taken: content.taken, isAll: content.isAll, wall: Timestamp.now().milliseconds * 1_000_000,
            .now)
    }

    private func take(
        _ files: [PickupFile], in folder: PickupFolder, _ settings: DirectoryEdgeSettings,
        _ machine: inout DirectoryMachine
    ) async {
        let refusal: Reply? = await withCheckedContinuation { continuation in
            submissions.refusal(size: nil) { continuation.resume(returning: $0) }
        }
        if let refusal {
            complain(.room, "\(refusal)", settings)
            return machine.noRoom(.now)
        }
        complain(.room, nil, settings)
        let named = files.map { (file: $0, id: submissions.newID(at: .now())) }
        let takings = await threads.perform { () throws(Never) in folder.take(named) }
        for case (_, let problem?) in takings {
            log(.error, "file cannot be taken", ["error": "\(problem)"], settings)
        }
        machine.took(zip(files, takings).map { ($0.name, $1.taking) }, .now)
    }

    private func remove(
        _ files: [TakenFile], from folder: PickupFolder, _ settings: DirectoryEdgeSettings,
        _ machine: inout DirectoryMachine
    ) async {
        do throws(PickupFolder.Problem) {
            try await threads.perform { () throws(PickupFolder.Problem) in try folder.remove(files) }
        } catch {
            log(.error, "file cannot be removed, its message is queued", ["error": "\(error)"], settings)
            return machine.removed(files, isDone: false, .now)
        }
        // Nobody can find the files any more. A receipt that is not forgotten now is in nobody's way.
        submissions.forget(files.map { DirectorySubmission.key(of: $0.id) }) { _ in }
        machine.removed(files, isDone: true, .now)
    }

    private func setAside(
        _ file: TakenFile, _ reply: Reply, in folder: PickupFolder, _ settings: DirectoryEdgeSettings,
        _ machine: inout DirectoryMachine
    ) async {
        let reason = "time: \(Timestamp.now().isoDate)\nreply: \(reply)\nqueue_id: \(file.id)\n"
        do throws(PickupFolder.Problem) {
            let name = try await threads.perform { () throws(PickupFolder.Problem) in
                try folder.setAside(file, reason: reason)
            }
            inbox.values.withLock { $0.failedCount += 1 }
            log(
                .warning, "file refused, set aside",
                ["file": "\(name)", "queue_id": "\(file.id)", "reply": "\(reply)"], settings)
            machine.setAside(file, isDone: true, .now)
        } catch {
            log(.error, "refused file cannot be set aside", ["error": "\(error)", "reply": "\(reply)"], settings)
            machine.setAside(file, isDone: false, .now)
        }
    }

    // MARK: Log

    private func tell(_ outcome: DirectoryMachine.Outcome, of file: TakenFile, _ settings: DirectoryEdgeSettings) {
        var fields: Logger.Metadata = ["file": "\(file.name)", "queue_id": "\(file.id)"]
        switch outcome {
        case .stored: log(.debug, "file submitted", fields, settings)
        case .changed: log(.info, "file was written to while it was read", fields, settings)
        case .later(let reply):
            fields["reply"] = "\(reply)"
            log(.info, "file is tried again later", fields, settings)
        // When it is set aside.
        case .refused: break
        }
    }

    /// What keeps files from being taken, told when it begins and when it ends; nil: nothing of that kind does.
    private func complain(_ kind: DirectoryInbox.Hindrance, _ problem: String?, _ settings: DirectoryEdgeSettings) {
        let before = inbox.values.withLock { values in
            defer { values.hindrances[kind] = problem }
            return values.hindrances[kind]
        }
        guard before != problem else { return }
        if let problem {
            log(kind == .room ? .warning : .error, "no files are taken", ["error": "\(problem)"], settings)
        } else {
            log(.notice, "files are taken again", [:], settings)
        }
    }

    private func log(
        _ level: Logger.Level, _ message: Logger.Message, _ fields: Logger.Metadata, _ settings: DirectoryEdgeSettings
    ) {
        let place: Logger.Metadata = ["edge": "\(settings.submission.name)", "path": "\(settings.path)"]
        let fields = fields.merging(place) { $1 }
        let loop = group.any()
        loop.execute { [sessionLog] in sessionLog.log(level, message, fields, source: nil, on: loop) }
    }
}
