// What inotify(7) says of the pickup folder, as a value. Read by FolderWatch, told to DirectoryMachine.

internal import NIOCore

/// What has happened in the folder since somebody looked last. Bounded: where there is more, the folder is read anew.
struct FolderChanges: Equatable, Sendable {
    /// What has happened to a name.
    enum Event: Equatable, Sendable {
        /// A file was renamed to it.
        case moved
        /// There is a new file, or a new link to one.
        case created
        /// Somebody is writing.
        case written
        /// Somebody who could write has closed it.
        case closed
    }

    /// One of them.
    struct Change: Equatable, Sendable {
        var name: PickupName
        var event: Event
    }

    /// So many changes are kept.
    static let limit = 4000

    /// In their order.
    private(set) var changes: [Change] = []
    /// Something was lost: the folder has to be read.
    private(set) var hasLost = false
    /// The folder has gone, or has another name, or slimtad's own folders in it have.
    private(set) var isGone = false

    /// Adds the events that `octets` are.
    mutating func add(_ octets: inout ByteBuffer) {
        while let (mask, name) = octets.readInotifyEvent() { add(mask, name) }
    }

    /// The watch itself has failed: nothing more will be heard.
    mutating func end() { isGone = true }

    private mutating func add(_ mask: Mask, _ name: PickupName) {
        if mask.contains(.overflow) { hasLost = true }
        if !mask.isDisjoint(with: [.ignored, .unmount, .deleteSelf, .moveSelf]) { isGone = true }
        // Of a folder that is open the kernel does not say that it is removed: what is in it goes before.
        if mask.contains(.isFolder), !mask.isDisjoint(with: [.delete, .movedFrom]) {
            isGone = isGone || PickupName.ownFolders.contains(name)
        }
        guard !mask.contains(.isFolder), name.mayBeMessage, let event = mask.event else { return }
        let change = Change(name: name, event: event)
        guard changes.last != change else { return }
        guard changes.count < Self.limit else { return hasLost = true }
        changes.append(change)
    }

    /// The bits of `mask` in inotify(7).
    struct Mask: OptionSet {
        let rawValue: UInt32

        static let modify = Mask(rawValue: 0x2)
        static let closeWrite = Mask(rawValue: 0x8)
        static let movedFrom = Mask(rawValue: 0x40)
        static let movedTo = Mask(rawValue: 0x80)
        static let create = Mask(rawValue: 0x100)
        static let delete = Mask(rawValue: 0x200)
        static let deleteSelf = Mask(rawValue: 0x400)
        static let moveSelf = Mask(rawValue: 0x800)
        static let unmount = Mask(rawValue: 0x2000)
        static let overflow = Mask(rawValue: 0x4000)
        static let ignored = Mask(rawValue: 0x8000)
        /// Of the path that is watched: it must be a folder.
        static let onlyFolder = Mask(rawValue: 0x0100_0000)
        static let isFolder = Mask(rawValue: 0x4000_0000)

        /// What is watched.
        static let watched: Mask = [
            .modify, .closeWrite, .movedFrom, .movedTo, .create, .delete, .deleteSelf, .moveSelf, .onlyFolder,
        ]

        fileprivate var event: Event? {
            if contains(.movedTo) { return .moved }
            if contains(.create) { return .created }
            if contains(.closeWrite) { return .closed }
            return contains(.modify) ? .written : nil
        }
    }
}

extension ByteBuffer {
    /// `struct inotify_event`: watch, mask, cookie, length, and a name of that length with zeros behind it. nil: there is no
    /// whole one.
    fileprivate mutating func readInotifyEvent() -> (mask: FolderChanges.Mask, name: PickupName)? {
        guard let mask: UInt32 = getInteger(at: readerIndex + 4, endianness: .host),
            let length: UInt32 = getInteger(at: readerIndex + 12, endianness: .host),
            readableBytes >= 16 + Int(length)
        else { return nil }
        moveReaderIndex(forwardBy: 16)
        let name = readBytes(length: Int(length)) ?? []
        return (.init(rawValue: mask), PickupName(name.prefix { $0 != 0 }))
    }
}
