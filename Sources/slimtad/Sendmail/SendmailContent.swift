// A message that sendmail has read and not yet handed on. It is read to its end first: who writes it may take hours (cron's jobs
// do), and nobody is to be kept waiting with a connection for that.

import Glibc
import NIOCore
import SlimtaSystem

/// The octets of a message: the first in memory, the others in a file without a name. Belongs to one thread.
final class SendmailContent {
    /// What is kept in memory.
    static let memory = 1 << 20
    /// What is handed out at once.
    private static let chunk = 64 << 10

    /// The beginning, or all of it. Whoever sets it gives other octets for those.
    var head = ByteBuffer()
    /// What comes behind ``head``; -1: nothing.
    private var file: CInt = -1
    private var fileSize = 0

    /// Whether there was more that was not kept: what came is no message.
    var isCut = false

    /// How many octets there are.
    var size: Int { head.readableBytes + fileSize }
    /// Whether ``head`` is all of it.
    var isInMemory: Bool { fileSize == 0 }

    deinit { if file >= 0 { close(file) } }

    /// Adds octets at the end.
    func append(_ content: ByteBuffer) throws(Failure) {
        if file < 0 {
            head.writeImmutableBuffer(content)
            guard head.readableBytes > Self.memory else { return }
            file = try Self.makeFile()
            return
        }
        var rest = content
        while rest.readableBytes > 0 {
            let count = rest.readWithUnsafeReadableBytes { max(0, write(file, $0.baseAddress, $0.count)) }
            if count == 0, errno != EINTR { throw Self.failure("be kept") }
            fileSize += count
        }
    }

    /// Calls `body` with all of it, a piece at a time.
    func forEach(_ body: (ByteBuffer) throws(Failure) -> Void) throws(Failure) {
        try body(head)
        var offset = 0
        while offset < fileSize {
            var piece = ByteBufferAllocator().buffer(capacity: Self.chunk)
            let count = piece.writeWithUnsafeMutableBytes(minimumWritableBytes: Self.chunk) {
                max(0, pread(file, $0.baseAddress, Self.chunk, off_t(offset)))
            }
            if count == 0 {
                if errno == EINTR { continue }
                throw Self.failure("be read again")
            }
            offset += count
            try body(piece)
        }
    }

    /// In $TMPDIR, or where large files are for as long as they are needed.
    private static func makeFile() throws(Failure) -> CInt {
        let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/var/tmp"
        var path = Array("\(folder)/sendmail-XXXXXX".utf8CString)
        let file = mkstemp(&path)
        guard file >= 0 else { throw failure("be kept in \(folder)") }
        _ = unlink(path)
        return file
    }

    private static func failure(_ what: String) -> Failure {
        Failure(.inputOutput, "the message cannot \(what): \(String(cString: strerror(errno)))")
    }
}
