// The edge of type "directory": files that are dropped into a folder are messages. The composition root makes one for each
// such `[[edge]]`, starts it, reloads its settings, and drains it.

package import Logging
package import NIOCore
package import NIOPosix
internal import SlimtaMail
package import SlimtaNet
package import SlimtaQueue
import Synchronization

/// An edge without sockets. DirectoryMachine decides, DirectoryDriver does.
package final class DirectoryEdge: Edge {
    /// So many files may be open for one: folders and watch, and for each message its file and that of the spool.
    package static let files = 4 + 2 * DirectoryMachine.slots
    /// So long a start waits for the folder.
    private static let patience = NIOCore.TimeAmount.seconds(5)
    /// So long an end waits for what it has broken off.
    private static let lastMoment = NIOCore.TimeAmount.seconds(1)

    private let inbox: DirectoryInbox
    private let driver: DirectoryDriver
    private let loop: any EventLoop
    private let task = Mutex<Task<Void, Never>?>(nil)

    /// - Parameters:
    ///   - group: its event loops have the messages while they are submitted, and read the watch on the folder.
    ///   - threads: for the disk; they have to run.
    package init(
        settings: DirectoryEdgeSettings, submissions: any Submissions, group: any EventLoopGroup,
        threads: NIOThreadPool, logger: Logger
    ) {
        inbox = DirectoryInbox(settings)
        loop = group.any()
        driver = DirectoryDriver(
            inbox: inbox, submissions: submissions, group: group, threads: threads, logger: logger)
    }

    /// Begins to take files. To be called once. The folder is watched when this returns, or cannot be, or does not answer, as
    /// one that lies elsewhere: what is moved into it from then on is seen at once.
    package func start() async {
        task.withLock { $0 = Task { [driver] in await driver.run() } }
        let alarm = loop.scheduleTask(in: Self.patience) { [inbox] in inbox.opened() }
        for await _ in inbox.opening {}
        alarm.cancel()
    }

    /// Takes effect for files that are submitted from now on.
    package func setSettings(_ settings: DirectoryEdgeSettings) { inbox.change { $0.settings = settings } }

    /// There is nothing to accept.
    package func accept(on socket: ListeningSocket, address: String) async throws { socket.close() }

    /// There is nothing to stop.
    package func stopAccepting(on address: String) async {}

    /// Takes no more files; those that are taken are submitted.
    package func drain() async { inbox.change { $0.isDraining = true } }

    /// Breaks off what is being submitted: it lies in `taken`, and is submitted after the next start. What a policy has in
    /// hand, which may take minutes, is not waited for longer than a moment: if it is stored all the same, its receipt
    /// says so then.
    package func closeSessions() async {
        let task = task.withLock { $0 }
        task?.cancel()
        await answer(within: Self.lastMoment, else: ()) { await task?.value ?? () }
    }

    /// How many files are being submitted, or are and still have to be removed.
    package var sessionCount: Int { inbox.values.withLock { $0.busyCount } }

    /// What the operator has to put right.
    package var complaints: [String] {
        let values = inbox.values.withLock { $0 }
        let (edge, path, failed) = (values.settings.submission.name, values.settings.path, values.failedCount)
        var complaints = values.hindrances.values.sorted().map { "edge \(edge) takes no files: \($0)" }
        if let putOff = values.putOff { complaints.append("edge \(edge): \(putOff)") }
        if failed > 0 { complaints.append("edge \(edge): \(failed) refused, with the reasons in \(path)/failed") }
        return complaints
    }
}

/// What a directory edge is told from outside its driver, and what it says of itself.
final class DirectoryInbox: Sendable {
    /// What can keep files from being taken.
    enum Hindrance: Sendable {
        case folder, room
    }

    struct Values: Sendable {
        var settings: DirectoryEdgeSettings
        var changes = FolderChanges()
        var outcomes: [(file: TakenFile, outcome: DirectoryMachine.Outcome)] = []
        var isDraining = false
        // From the driver, for others.
        var busyCount = 0
        var failedCount = 0
        /// Files that are tried again later, in words; nil: none.
        var putOff: String?
        var hindrances: [Hindrance: String] = [:]
    }

    let values: Mutex<Values>
    /// One element for any number of changes.
    let bell: AsyncStream<Void>
    private let ring: AsyncStream<Void>.Continuation
    /// Ends when the folder is open, or could not be opened at first.
    let opening: AsyncStream<Void>
    private let openingEnd: AsyncStream<Void>.Continuation

    init(_ settings: DirectoryEdgeSettings) {
        values = Mutex(Values(settings: settings))
        (bell, ring) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        (opening, openingEnd) = AsyncStream.makeStream()
    }

    /// Ends ``opening``.
    func opened() { openingEnd.finish() }

    func change(_ body: (inout Values) -> Void) {
        values.withLock { body(&$0) }
        ring.yield()
    }

    /// Wakes the driver.
    func wake() { ring.yield() }
}
