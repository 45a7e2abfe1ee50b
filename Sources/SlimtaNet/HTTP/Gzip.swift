// gzip (RFC 1952), as bodies of requests and parts of messages have it. Whoever reports to others calls it.

import CZlib

/// Compresses what is in memory.
package enum Gzip {
    /// The octets as a file of gzip, without a name and without a time: the same always make the same. nil: zlib has no memory.
    package static func compress(_ octets: [UInt8]) -> [UInt8]? {
        var stream = z_stream()
        guard C_gzip_init(&stream) == Z_OK, let count = UInt32(exactly: octets.count) else { return nil }
        defer { deflateEnd(&stream) }
        let bound = Int(deflateBound(&stream, UInt(octets.count)))
        guard let room = UInt32(exactly: bound) else { return nil }
        var input = octets
        var isDone = false
        let result = [UInt8](unsafeUninitializedCapacity: bound) { output, filled in
            input.withUnsafeMutableBufferPointer { input in
                (stream.next_in, stream.avail_in) = (input.baseAddress, count)
                (stream.next_out, stream.avail_out) = (output.baseAddress, room)
                isDone = deflate(&stream, Z_FINISH) == Z_STREAM_END
            }
            filled = bound - Int(stream.avail_out)
        }
        return isDone ? result : nil
    }
}
