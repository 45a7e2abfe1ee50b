// A message in the folder of a directory edge, for when the daemon runs again. The edge takes it as soon as its name is there;
// its owner is the login.

import Glibc
import NIOCore
import SlimtaMail
import SlimtaSystem

/// A file that is written under a name that the edge passes over, and then gets its own. Belongs to one thread.
final class PickupFile {
    private let descriptor: CInt
    private let path: String
    private let unfinished: String
    private let folder: String
    private var isFinished = false

    /// Makes the file, with the envelope as its first fields.
    init(in folder: String, _ envelope: SendmailEnvelope) throws(Failure) {
        let name = "\(QueueID(at: .now())).eml"
        self.folder = folder
        path = "\(folder)/\(name)"
        unfinished = "\(folder)/.\(name)"
        // The daemon must be able to read it, and nobody else where the folder gives its own group to what is in it.
        var place = stat()
        let mode: mode_t = stat(folder, &place) == 0 && place.st_mode & S_ISGID != 0 ? 0o640 : 0o644
        descriptor = open(unfinished, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)
        guard descriptor >= 0, fchmod(descriptor, mode) == 0 else {
            let number = errno
            let remedy =
                switch number {
                case EACCES: "; members of its group may"
                case ENOENT, ENOTDIR: "; slimtad check says how to make it"
                default: ""
                }
            throw Failure(
                .cannotCreate,
                "slimtad does not run, and no mail can be left in \(folder) until it does: "
                    + "\(String(cString: strerror(number)))\(remedy)")
        }
        var fields = "X-Envelope-Sender: <\(envelope.sender?.text ?? "")>\r\n"
        for recipient in envelope.recipients { fields += "X-Envelope-Recipient: <\(recipient)>\r\n" }
        // The message may begin with such fields: they are its own.
        try append(ByteBuffer(string: fields + "X-Envelope-End:\r\n"))
    }

    deinit {
        abandon()
        close(descriptor)
    }

    /// Writes the next octets.
    func append(_ content: ByteBuffer) throws(Failure) {
        var rest = content
        while rest.readableBytes > 0 {
            let count = rest.readWithUnsafeReadableBytes { octets in
                max(0, write(descriptor, octets.baseAddress, octets.count))
            }
            if count == 0, errno != EINTR { throw failure }
        }
    }

    /// Gives it its name; returns when file and name are on the disk.
    func finish() throws(Failure) {
        guard fsync(descriptor) == 0, rename(unfinished, path) == 0 else { throw failure }
        isFinished = true
        // Who may put files into the folder need not be allowed to open it: then everything is brought to the disk.
        let place = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard place >= 0 else { return sync() }
        defer { close(place) }
        guard fsync(place) == 0 else { throw failure }
    }

    /// Deletes it, unless it is finished.
    func abandon() {
        if !isFinished { _ = unlink(unfinished) }
        isFinished = true
    }

    private var failure: Failure {
        Failure(.inputOutput, "the message cannot be left in \(folder): \(String(cString: strerror(errno)))")
    }
}
