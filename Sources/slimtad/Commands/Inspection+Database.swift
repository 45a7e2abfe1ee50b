// What `slimtad check` finds of the database that the queue is in: would a node start with it, and is mail safe there?

import SlimtaCluster
import SlimtaConfiguration
import SlimtaSystem

extension Inspection {
    /// Connects as the service would.
    mutating func lookAtDatabase() {
        // Of a queue that was to come out of a database, too.
        do throws(Failure) { try MoveMarker(file.stateDirectory).demandNone() } catch {
            self.error("queue.storage", error.message)
        }
        guard case .postgresql(let settings) = file.values.queue.placement else { return }
        let key = "queue.postgresql[0].connection"
        let node = file.values.node
        let roles = NodeSettings.Role.allCases.filter { node.roles.contains($0) }.map(\.rawValue)
        note("node \(node.name ?? file.hostname): \(roles.joined(separator: " and "))")
        do throws(Failure) { try StorageMaker.demandEmptyLocalQueue(file) } catch {
            self.error("queue.storage", error.message)
        }
        var password: String?
        if let named = file.values.databasePasswordFile {
            // What is wrong with it is told with the other passwords.
            guard let content = try? find(named), let text = try? named.text(in: content) else { return }
            password = text
        }
        let options = PostgresOptions(
            connection: settings.connection, password: password, applicationName: "slimtad check")
        do throws(ClusterDatabaseError) {
            let database = try ClusterDatabase(options)
            let server = try database.server()
            for obstacle in server.obstacles { error(key, obstacle) }
            for warning in server.warnings(needsStandby: settings.synchronous == .required) { warn(key, warning) }
            let form = try database.check()
            note(
                "database: PostgreSQL \(server.version) as \(server.role), tables of version \(form.version), "
                    + counted(form.buckets, "bucket"))
            if !node.roles.contains(.relay) { warnOfWaiting(try database.status()) }
        } catch {
            self.error(key, Failure(database: error).message)
        }
    }

    /// Who delivers nothing needs others who do.
    private mutating func warnOfWaiting(_ status: DatabaseStatus) {
        let delivers = status.nodes.contains { $0.roles.contains(.relay) && !$0.isGone }
        if delivers { return }
        warn("node.roles", "no node with the role \"relay\" works: mail that is taken here waits for one")
    }
}
