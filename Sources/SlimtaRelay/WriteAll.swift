// Files that messages are written to, in maildirs and for commands.

import Glibc

/// Writes all octets to a file, however many calls that takes; nil: they are written, else the error's number. Blocks.
func writeAll(_ octets: UnsafeRawBufferPointer, to descriptor: Int32) -> Int32? {
    var rest = octets
    while !rest.isEmpty {
        let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
        if count < 0 {
            if errno == EINTR { continue }
            return errno
        }
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
    return nil
}
