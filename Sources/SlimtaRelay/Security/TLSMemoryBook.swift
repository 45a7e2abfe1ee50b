// What all relays remember of hosts' TLS, in one place: TLSMemory behind a lock. HostDecisions asks it, HostTrial tells it, the
// composition root keeps it in a file.

package import SlimtaMail
import Synchronization

/// What `tls_memory` may say.
package enum TLSMemoryUse: String, Hashable, Sendable, CaseIterable {
    /// A host that was encrypted is not spoken to in clear.
    case enforce
    /// It is, and the log tells of it.
    case report
    /// Nothing is remembered.
    case off
}

/// Shared by all relays of the daemon, for as long as it runs.
package final class TLSMemoryBook: Sendable {
    /// What is remembered of a host, for people.
    package struct Entry: Hashable, Sendable {
        /// The recipient's domain.
        package let domain: String
        /// The host.
        package let host: String
        /// On how many days it was encrypted.
        package let days: Int
        /// The first and the last of them, and when DANE and MTA-STS authenticated it last: "2026-11-29".
        package let first, last: String
        package let dane, policy: String?
        /// Whether it is in force.
        package let isInForce: Bool
    }

    private struct State {
        var memory = TLSMemory()
        var hasChanged = false
    }

    private let state = Mutex(State())

    /// One that remembers nothing yet.
    package init() {}

    func standing(of key: TLSMemory.Key, at time: Timestamp) -> MemoryStanding {
        state.withLock { $0.memory.standing(of: key, at: time) }
    }

    func encrypted(_ key: TLSMemory.Key, at time: Timestamp, by proof: TLSMemory.Proof) {
        state.withLock { state in
            let before = state.memory.entries[key]
            state.memory.encrypted(key, at: time, by: proof)
            if state.memory.entries[key] != before { state.hasChanged = true }
        }
    }

    /// Nothing is remembered of the domain any more. How many hosts that were.
    package func forget(domain: String) -> Int {
        state.withLock { state in
            let count = state.memory.forget(domain: domain)
            if count > 0 { state.hasChanged = true }
            return count
        }
    }

    /// All of it, or what is remembered of one domain, by domain and host.
    package func entries(of domain: String?, at time: Timestamp) -> [Entry] {
        let memory = state.withLock { $0.memory }
        return memory.entries.filter { domain == nil || $0.key.domain == domain }.sorted { $0.key < $1.key }
            .map { key, entry in
                func date(_ day: Int) -> String { MemoryStanding.Encrypted(days: 1, last: day).lastDate }
                return Entry(
                    domain: key.domain, host: key.host, days: entry.days, first: date(entry.first),
                    last: date(entry.last), dane: entry.lastDANE.map(date), policy: entry.lastPolicy.map(date),
                    isInForce: memory.standing(of: key, at: time).encrypted != nil)
            }
    }

    // MARK: Its file

    /// Takes up what was written before. Whether all of it was understood.
    package func read(_ octets: [UInt8]) -> Bool {
        state.withLock { $0.memory.read(String(decoding: octets, as: UTF8.self)) }
    }

    /// What is to be written, without what has ended; nil: nothing has changed since that was asked.
    package func takeChanged(at time: Timestamp) -> [UInt8]? {
        state.withLock { state in
            guard state.hasChanged else { return nil }
            state.hasChanged = false
            state.memory.sweep(at: time)
            return Array(state.memory.text.utf8)
        }
    }

    /// It could not be written.
    package func setChanged() { state.withLock { $0.hasChanged = true } }
}
