// A message as the standard input of a command: a file that is whole before the command starts, so that no command ever takes
// the half of a message for all of it, whatever becomes of us. Blocks: PipeRelay uses it on a thread pool.

import CLinux
import Glibc
import NIOCore
import Synchronization

/// What of the disk went wrong.
struct PipeInputError: Error, CustomStringConvertible {
    let description: String
    /// Whether there was no room.
    let isFull: Bool

    init(_ operation: String, _ number: Int32) {
        description = "\(operation) the message for the command: \(String(cString: strerror(number)))"
        isFull = number == ENOSPC || number == EDQUOT
    }
}

/// The line ends of a message as Unix programs expect them: each CRLF is LF; a CR elsewhere stays.
struct LineFeeds {
    private var hasCR = false

    /// The next octets, converted; `isEnd`: there are no more.
    mutating func convert(_ octets: UnsafeRawBufferPointer, isEnd: Bool = false, into result: inout [UInt8]) {
        for octet in octets {
            if hasCR, octet != UInt8(ascii: "\n") { result.append(UInt8(ascii: "\r")) }
            hasCR = octet == UInt8(ascii: "\r")
            if !hasCR { result.append(octet) }
        }
        if isEnd, hasCR { result.append(UInt8(ascii: "\r")) }
    }
}

/// A file without a name, which goes when its last descriptor is closed. Used by one caller at a time.
final class PipeInput: Sendable {
    private let descriptor: Int32
    /// nil: line ends stay as they are.
    private let lines: Mutex<LineFeeds?>

    /// - Parameter convertsLines: whether it gets LF at the ends of lines.
    init(in folder: String, convertsLines: Bool) throws(PipeInputError) {
        let file = linux_temporary_file(folder)
        guard file >= 0 else { throw PipeInputError("keep", -file) }
        descriptor = file
        lines = Mutex(convertsLines ? LineFeeds() : nil)
    }

    deinit { Self.close(descriptor) }

    /// Closes what ``finish()`` has given.
    static func close(_ reader: Int32) { _ = Glibc.close(reader) }

    func write(_ bytes: ByteBuffer) throws(PipeInputError) {
        let error = bytes.withUnsafeReadableBytes { write($0, isEnd: false) }
        if let error { throw PipeInputError("write", error) }
    }

    func write(_ text: String) throws(PipeInputError) { try write(ByteBuffer(string: text)) }

    /// Ends it: a descriptor of the whole, at its beginning, which is the caller's.
    func finish() throws(PipeInputError) -> Int32 {
        if let error = write(UnsafeRawBufferPointer(start: nil, count: 0), isEnd: true) {
            throw PipeInputError("write", error)
        }
        let reader = linux_open_for_others(descriptor)
        guard reader >= 0 else { throw PipeInputError("open", -reader) }
        return reader
    }

    private func write(_ octets: UnsafeRawBufferPointer, isEnd: Bool) -> Int32? {
        var converted: [UInt8] = []
        let isConverted = lines.withLock { lines in
            converted.reserveCapacity(lines == nil ? 0 : octets.count + 1)
            lines?.convert(octets, isEnd: isEnd, into: &converted)
            return lines != nil
        }
        return isConverted
            ? converted.withUnsafeBytes { writeAll($0, to: descriptor) } : writeAll(octets, to: descriptor)
    }
}
