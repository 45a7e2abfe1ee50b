// libpq as a whole: loaded when the first connection is wanted, and kept from what the environment says.

import CPostgres
import Synchronization

/// The library, libpq.
package enum PostgresLibrary {
    /// Where it was found.
    private static let loaded = Mutex<String?>(nil)

    /// Loads it unless it is there; `path` is a name that the system's linker knows, or a file.
    static func load(_ path: String = "libpq.so.5") throws(PostgresError) {
        let problem: String? = loaded.withLock { loaded in
            if loaded == path { return nil }
            if let text = cpq_load(path) { return PostgresError.line(text) }
            loaded = path
            return nil
        }
        if let problem { throw .unavailable(problem) }
    }

    /// Takes the variables PG* out of the environment, by which whoever starts the daemon would say where its queue is, as
    /// PGHOST and PGOPTIONS do. For the daemon while it has one thread.
    package static func forgetEnvironment() { cpq_forget_environment() }
}
