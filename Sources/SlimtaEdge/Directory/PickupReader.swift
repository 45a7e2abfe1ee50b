// A file in `taken` that is open. Blocks; DirectorySubmission reads it on a thread.

internal import Glibc
internal import NIOCore

/// Reads a file from its beginning to its end. Closed with the object.
final class PickupReader: Sendable {
    /// So much is read at once.
    private static let part = 64 * 1024

    private let descriptor: CInt

    /// Owns `descriptor`.
    init(_ descriptor: CInt) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// What it is now; nil: no regular file.
    var facts: FileFacts? {
        var status = stat()
        return fstat(descriptor, &status) == 0 ? FileFacts(status) : nil
    }

    /// The next octets behind `offset`; none at the end. Throws what the system says.
    func read(at offset: Int64) throws(PickupFolder.Problem) -> ByteBuffer {
        var octets = [UInt8](repeating: 0, count: Self.part)
        while true {
            let count = pread(descriptor, &octets, octets.count, off_t(offset))
            if count >= 0 { return ByteBuffer(bytes: octets[..<count]) }
            if errno != EINTR { throw PickupFolder.Problem("cannot read the file", errno) }
        }
    }
}
