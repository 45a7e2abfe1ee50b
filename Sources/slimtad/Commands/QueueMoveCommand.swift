// `slimtad queue move --to postgresql|local`: carries a queue from the files of this machine into a database, or back, while no
// daemon runs.

import ArgumentParser
import Glibc
import SlimtaCluster
import SlimtaConfiguration
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaStorage
import SlimtaSystem
import Synchronization

struct QueueMoveCommand: ParsableCommand {
    /// Where the queue is to be.
    enum Place: String, ExpressibleByArgument, CaseIterable {
        case postgresql, local

        var words: String { self == .postgresql ? "in PostgreSQL" : "in the local queue" }
    }

    static let configuration = CommandConfiguration(
        commandName: "move", abstract: "Carry the queue of this machine into PostgreSQL, or back.",
        discussion: """
            The database is that of [[queue.postgresql]]: slimta.conf says storage = "postgresql" before a queue is \
            carried there, and until it has been carried back. slimtad must not run on this machine; back, on none that \
            shares the queue. Messages keep their ids and all that they have been through; receipts of submissions go \
            with them. It may be stopped or killed at any time: the same command goes on, and slimtad does not start \
            before it has. Exit status 1: some messages or receipts stay, since they cannot be read, or since their ids \
            are of the local queue of when_away; 75: others use the queue, or it was stopped: do it again.
            """)

    @OptionGroup var config: ConfigurationOption

    @Option(help: "postgresql, or local: the state directory.")
    var to: Place

    @Flag(help: "Print a JSON object.")
    var json = false

    func run() {
        let (to, json) = (to, json)
        let result = orExit { () throws(Failure) in
            let file = try ConfigurationFile.parse(config.path)
            guard case .postgresql(let settings) = file.values.queue.placement else {
                throw Failure(
                    .configuration,
                    "\(file.path): there is no database: storage = \"postgresql\" in [queue], and [[queue.postgresql]], "
                        + "say where the queue is to be, or is")
            }
            let (storage, options) = try Self.open(file, settings)
            let marker = MoveMarker(file.stateDirectory)
            let isStopped = try Self.stopSignals()
            let isTerminal = !json && isatty(STDERR_FILENO) == 1
            return try wait { () async throws(Failure) in
                try await Self.move(to, storage, options, marker, isStopped, isTerminal)
            }
        }
        tell(result)
        if result.isInterrupted { Glibc.exit(ExitStatus.temporary.rawValue) }
        if !result.failed.isEmpty || !result.failedReceipts.isEmpty { Glibc.exit(1) }
    }

    /// Takes the state directory, and becomes who the daemon is: its files must not belong to somebody else.
    private static func open(
        _ file: ConfigurationFile, _ settings: PostgreSQLSettings
    ) throws(Failure) -> (JournaledStorage, ClusterOptions) {
        let identity: Identity?
        do throws(SystemError) {
            let daemon = file.values.daemon
            identity = Privileges.isRoot ? try Privileges.lookUp(user: daemon.user, group: daemon.group) : nil
        } catch {
            throw Failure(error)
        }
        PostgresLibrary.forgetEnvironment()
        let options = try StorageMaker.options(settings, file)
        let storage = try open(file, identity)
        do throws(SystemError) {
            if let identity, identity.uid != 0 { try Privileges.drop(to: identity) }
        } catch {
            throw Failure(error)
        }
        return (storage, options)
    }

    private static func open(_ file: ConfigurationFile, _ identity: Identity?) throws(Failure) -> JournaledStorage {
        var options = StorageOptions()
        options.minimumFree = UInt64(file.values.queue.minimumFree)
        do throws(StorageOpenError) {
            return try JournaledStorage.open(
                directory: file.stateDirectory, owner: identity.map { ($0.uid, $0.gid) }, options: options,
                report: { say("queue: \($0)") })
        } catch {
            guard case .inUse = error else { throw Failure(storage: error) }
            throw Failure(.temporary, "queue: \(error): stop it first (systemctl stop slimtad.socket slimtad)")
        }
    }

    /// Whether SIGINT or SIGTERM has come.
    private static func stopSignals() throws(Failure) -> @Sendable () -> Bool {
        do throws(SystemError) {
            try Signals.block()
            let stream = try Signals.stream()
            let flag = StopFlag()
            Task { for await _ in stream { flag.set() } }
            return { flag.isSet }
        } catch {
            throw Failure(error)
        }
    }

    private final class StopFlag: Sendable {
        private let value = Atomic(false)
        func set() { value.store(true, ordering: .relaxed) }
        var isSet: Bool { value.load(ordering: .relaxed) }
    }

    private static func move(
        _ place: Place, _ storage: JournaledStorage, _ options: ClusterOptions, _ marker: MoveMarker,
        _ isStopped: @escaping @Sendable () -> Bool, _ isTerminal: Bool
    ) async throws(Failure) -> MoveResult {
        do throws(StorageOpenError) { try await storage.start { _ in } } catch { throw Failure(storage: error) }
        do throws(MoveError) {
            let result = try await QueueMove.run(
                place == .local ? .outOfDatabase : .intoDatabase, storage, options,
                begin: { marker.begin(node: options.node, database: $0) }, isStopped: isStopped,
                progress: { moved, total in
                    if isTerminal { writeProgress("\r\(moved) of \(total) messages") }
                })
            if isTerminal, result.envelopes > 0 { writeProgress("\n") }
            await storage.close()
            do throws(SystemError) { try marker.end() } catch { throw MoveError.others(error.description) }
            return result
        } catch {
            await storage.close()
            throw Failure(move: error)
        }
    }

    private func tell(_ result: MoveResult) {
        for (id, reason) in result.failed.prefix(10) { say("\(id): \(reason)") }
        if result.failed.count > 10 { say("and \(counted(result.failed.count - 10, "more message"))") }
        for (key, reason) in result.failedReceipts.prefix(10) { say("receipt \(key): \(reason)") }
        if result.failedReceipts.count > 10 { say("and \(counted(result.failedReceipts.count - 10, "more receipt"))") }
        if result.isInterrupted { say("not all: \(counted(result.left, "message")) left; the same command goes on") }
        if json {
            let failed = result.failed.map {
                JSON.object([.init("id", .string("\($0)")), .init("error", .string($1))])
            }
            let receipts = result.failedReceipts.map {
                JSON.object([.init("receipt", .string($0)), .init("error", .string($1))])
            }
            print(
                JSON.object([
                    .init("moved", .count(result.envelopes)), .init("receipts", .count(result.receipts)),
                    .init("failed", .array(failed + receipts)), .init("left", .count(result.left)),
                ]).line)
            return
        }
        let what = "\(counted(result.envelopes, "message")) and \(counted(result.receipts, "receipt"))"
        print("\(what) carried: \(to.words) now")
        if to == .local, result.left == 0 { print("storage = \"local\" in [queue] has slimtad work with it") }
    }
}

/// Writes to the terminal where errors go.
private func writeProgress(_ text: String) {
    var octets = Array(text.utf8)
    write(STDERR_FILENO, &octets, octets.count)
}

extension Failure {
    /// Why a move has stopped, and what to do.
    fileprivate init(move error: MoveError) {
        switch error {
        case .database(let error):
            let failure = Failure(database: error)
            self.init(failure.status, "\(failure.message); nothing is lost: run the same command again")
        case .local, .fenced: self.init(.temporary, "\(error); nothing is lost: run the same command again")
        case .others: self.init(.temporary, "\(error)")
        }
    }
}
