// A storage may be made of several, each of which may be away by itself: what the queue has to know of that. One that is
// not says nothing here.

package import SlimtaMail

/// Some of the storages that a storage is made of.
package struct StorageMembers: OptionSet, Hashable, Sendable {
    /// A bit for each.
    package let rawValue: UInt8

    /// Of its bits.
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The only one of a storage that is one, or the first.
    package static let home = StorageMembers(rawValue: 1)
    /// The one that takes mail while the first is away.
    package static let local = StorageMembers(rawValue: 2)
}

extension QueueStorage {
    /// One, by itself.
    package var members: StorageMembers { .home }

    /// That one.
    package func member(of id: QueueID) -> StorageMembers { .home }

    /// The storage, if it is away.
    package var awayMembers: StorageMembers {
        switch admission(of: 0) {
        case .away: members
        case .open, .full, .draining: []
        }
    }
}
