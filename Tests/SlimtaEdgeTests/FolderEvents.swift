// What the kernel says of a folder, for tests of what listens to it.

import NIOCore

@testable import SlimtaEdge

extension FolderChanges {
    /// As the kernel would.
    mutating func tell(_ name: String, _ event: Event) {
        let mask: UInt32 =
            switch event {
            case .moved: 0x80
            case .created: 0x100
            case .written: 0x2
            case .closed: 0x8
            }
        var octets = Self.event(mask, name)
        add(&octets)
    }

    mutating func lose() {
        var octets = Self.event(0x4000, "", watch: -1)
        add(&octets)
    }

    /// `struct inotify_event`.
    static func event(_ mask: UInt32, _ name: String, watch: Int32 = 1) -> ByteBuffer {
        var octets = ByteBuffer()
        let length = name.isEmpty ? 0 : (name.utf8.count / 16 + 1) * 16
        octets.writeInteger(watch, endianness: .host)
        octets.writeInteger(mask, endianness: .host)
        octets.writeInteger(UInt32(0), endianness: .host)
        octets.writeInteger(UInt32(length), endianness: .host)
        octets.writeString(name)
        octets.writeRepeatingByte(0, count: length - name.utf8.count)
        return octets
    }
}
