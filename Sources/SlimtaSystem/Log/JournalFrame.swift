// How an event is carried to the thread that sends it to the journal. JournalLogHandler packs it, LogWriter sends it.

import CSystemd
import Glibc

/// Events for the journal on their way through a LogWriter: each field with its length before it, and at the end of an
/// event a length that no field has.
enum JournalFrame {
    private static let end = UInt32.max

    /// One event.
    static func encode(_ entries: [[UInt8]]) -> [UInt8] {
        var frame: [UInt8] = []
        frame.reserveCapacity(entries.reduce(4) { $0 + 4 + $1.count })
        for entry in entries {
            append(UInt32(entry.count), to: &frame)
            frame += entry
        }
        append(end, to: &frame)
        return frame
    }

    /// Sends events, one call for each. What the journal does not take is lost: there is nowhere to say it.
    static func send(_ frames: inout [UInt8]) {
        frames.withUnsafeMutableBytes { buffer in
            var vectors: [iovec] = []
            var offset = 0
            while offset < buffer.count {
                let length = buffer.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
                offset += 4
                if length == end {
                    sd_journal_sendv(vectors, Int32(vectors.count))
                    vectors.removeAll(keepingCapacity: true)
                } else {
                    vectors.append(iovec(iov_base: buffer.baseAddress.map { $0 + offset }, iov_len: Int(length)))
                    offset += Int(length)
                }
            }
        }
    }

    private static func append(_ length: UInt32, to frame: inout [UInt8]) {
        withUnsafeBytes(of: length) { frame += $0 }
    }
}
