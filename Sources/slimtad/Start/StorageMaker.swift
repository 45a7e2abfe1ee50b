// Opens what the queue is kept in, as [queue] storage says: the state directory, or a database. For the daemon, and for commands
// that change the queue while none runs.

import Glibc
import SlimtaCluster
import SlimtaConfiguration
import SlimtaQueue
import SlimtaStorage
import SlimtaSystem

/// Makes storages; none of them is started.
enum StorageMaker {
    /// What a storage tells the operator.
    enum Event {
        case journal(StorageEvent)
        case cluster(ClusterEvent)
        /// The database is away, with the reason, and new mail goes into the local queue.
        case homeAway(String)
    }

    /// Phase `openStorage`, which may run as root, and while the process has one thread.
    ///
    /// - Parameter identity: who the process becomes; nil if it stays who it is.
    static func open(
        _ file: ConfigurationFile, _ identity: Identity?, report: @escaping @Sendable (Event) -> Void
    ) throws(Failure) -> any QueueBackend {
        let marker = MoveMarker(file.stateDirectory)
        try marker.demandNone()
        let storage = try openPlace(file, identity, report: report)
        // Once more behind the lock, which a move has while it runs.
        try marker.demandNone()
        return storage
    }

    private static func openPlace(
        _ file: ConfigurationFile, _ identity: Identity?, report: @escaping @Sendable (Event) -> Void
    ) throws(Failure) -> any QueueBackend {
        switch file.values.queue.placement {
        case .local: return try journal(file, identity, report)
        case .postgresql(let settings):
            PostgresLibrary.forgetEnvironment()
            let options = try options(settings, file)
            try demandEmptyLocalQueue(file)
            if settings.whenAway == .local {
                // The journal has the lock of the state directory.
                let local = try journal(file, identity, report)
                let home = ClusterStorage(options) { event in
                    if case .databaseAway(let reason) = event { return report(.homeAway(reason)) }
                    report(.cluster(event))
                }
                return FallbackStorage(home: home, local: local)
            }
            do throws(StorageOpenError) {
                // The state directory is the node's: two processes with it would take the name from each other.
                let lock = try StateLock.take(file.stateDirectory, owner: identity.map { ($0.uid, $0.gid) })
                lock.name()
                return ClusterStorage(options, lock: lock) { report(.cluster($0)) }
            } catch {
                throw Failure(storage: error)
            }
        }
    }

    private static func journal(
        _ file: ConfigurationFile, _ identity: Identity?, _ report: @escaping @Sendable (Event) -> Void
    ) throws(Failure) -> JournaledStorage {
        var options = StorageOptions()
        options.minimumFree = UInt64(file.values.queue.minimumFree)
        do throws(StorageOpenError) {
            return try JournaledStorage.open(
                directory: file.stateDirectory, owner: identity.map { ($0.uid, $0.gid) }, options: options,
                report: { report(.journal($0)) })
        } catch {
            throw Failure(storage: error)
        }
    }

    /// Mail in the state directory would wait there unseen for as long as the queue is in a database. With
    /// `when_away = "local"` what came while that was away is delivered; what came before the queue was in one has ids that
    /// say that it is in the database.
    static func demandEmptyLocalQueue(_ file: ConfigurationFile) throws(Failure) {
        guard access("\(file.stateDirectory)/super", F_OK) == 0 else { return }
        let isDelivered = file.values.queue.placement.hasJournal
        let queued: [QueuedSummary]
        do throws(StorageOpenError) {
            queued = try StorageInspector(directory: file.stateDirectory).queued
        } catch {
            // Another process has it; what is wrong with the directory is told when it is taken.
            return
        }
        let waiting = queued.count { !isDelivered || !FallbackStorage.isLocal($0.id) }
        if waiting == 0 { return }
        let isOfAway = queued.allSatisfy { FallbackStorage.isLocal($0.id) }
        throw Failure(
            .configuration,
            "\(counted(waiting, "message")) in the local queue (\(file.stateDirectory)) would not be delivered: "
                + (isOfAway
                    ? "with when_away = \"local\" they are, from there, or with storage = \"local\" until none is left"
                    : "`slimtad queue move --to postgresql` carries them into the database"))
    }

    /// What a node is told of itself.
    static func options(
        _ settings: PostgreSQLSettings, _ file: ConfigurationFile
    ) throws(Failure) -> ClusterOptions {
        let node = file.values.node
        let name = node.name ?? file.hostname
        var options = ClusterOptions(
            database: try database(settings, file, for: "slimtad"), node: name,
            machine: "\(Hostname.machineID() ?? Hostname.plain()) \(file.stateDirectory)")
        options.roles = NodeRoles(node.roles)
        options.egress = node.egress ?? name
        options.version = Version.text
        options.lease = settings.lease
        options.commitTimeout = settings.commitTimeout
        options.needsStandby = settings.synchronous == .required
        return options
    }

    /// Where the database is, with the password: read as who we are now.
    static func database(
        _ settings: PostgreSQLSettings, _ file: ConfigurationFile, for name: String
    ) throws(Failure) -> PostgresOptions {
        do throws(SystemError) {
            let password = try file.values.databasePasswordFile.map { named throws(SystemError) in
                try named.text(in: try named.readAnywhere(service: file.serviceUser))
            }
            return PostgresOptions(connection: settings.connection, password: password, applicationName: name)
        } catch {
            throw Failure(error)
        }
    }
}

extension NodeRoles {
    /// As [node] roles has them.
    fileprivate init(_ roles: Set<NodeSettings.Role>) {
        self = []
        if roles.contains(.edge) { insert(.edge) }
        if roles.contains(.relay) { insert(.relay) }
    }
}
