// Reading files that hold secrets, and systemd credentials. Called by the composition root, at start and at reload.

import Glibc

/// Reads small files with care.
package enum SecureFile {
    /// The content of a regular file of at most `maximum` octets.
    ///
    /// With `mustNotBeReadableByOthers` the file must belong to root, to us or to `service`, must give others no right
    /// at all, and the group none to write: else `.notPermitted`. `.invalid` if it is no regular file or too long.
    /// Symbolic links are followed: certificates are commonly kept so.
    ///
    /// - Parameter service: the user id that the daemon will have, if it still runs as root.
    package static func read(
        _ path: String, maximum: Int, mustNotBeReadableByOthers: Bool, service: UInt32? = nil
    ) throws(SystemError) -> [UInt8] {
        // O_NONBLOCK: a FIFO in its place must not hang the daemon.
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        guard file >= 0 else { throw SystemError("cannot read \(path)", number: errno) }
        defer { close(file) }

        var status = stat()
        guard fstat(file, &status) == 0 else { throw SystemError("cannot examine \(path)", number: errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw SystemError(.invalid, "\(path) is not a regular file") }
        if mustNotBeReadableByOthers {
            guard status.st_uid == 0 || status.st_uid == geteuid() || status.st_uid == service else {
                throw SystemError(.notPermitted, "\(path) belongs to another user: it must be root's or slimtad's own")
            }
            guard status.st_mode & 0o027 == 0 else {
                throw SystemError(
                    .notPermitted,
                    "\(path) has mode \(octal(status.st_mode)): a secret needs 0600 or 0640, nothing for others")
            }
        }

        // One octet more than the file says, and than is allowed: that tells a longer one, also one that grows just now.
        var content = [UInt8](repeating: 0, count: min(maximum, max(0, Int(status.st_size))) + 1)
        var count = 0
        while count <= maximum {
            if count == content.count {
                content += [UInt8](repeating: 0, count: min(content.count, maximum + 1 - content.count))
            }
            let got = content[count...].withUnsafeMutableBytes { Glibc.read(file, $0.baseAddress, $0.count) }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw SystemError("cannot read \(path)", number: errno) }
            if got == 0 { break }
            count += got
        }
        guard count <= maximum else { throw SystemError(.invalid, "\(path) is longer than \(maximum) octets") }
        content.removeSubrange(count...)
        return content
    }

    /// The path that a `..._file` key means: itself, or "credential:NAME" in $CREDENTIALS_DIRECTORY.
    package static func resolve(_ reference: String) throws(SystemError) -> String {
        let prefix = "credential:"
        guard reference.utf8.starts(with: prefix.utf8) else { return reference }
        let name = String(reference.dropFirst(prefix.count))
        guard !name.isEmpty, name != ".", name != "..", !name.utf8.contains(UInt8(ascii: "/")) else {
            throw SystemError(.invalid, "\"\(reference)\" is not the name of a credential")
        }
        guard let directory = getenv("CREDENTIALS_DIRECTORY") else {
            throw SystemError(
                .notFound, "\(reference): no credentials were passed (LoadCredential= in the unit passes them)")
        }
        return String(cString: directory) + "/" + name
    }

    /// The secret that a `..._file` key means: the file's content without the line's end.
    package static func secret(
        _ reference: String, maximum: Int = 4096, service: UInt32? = nil
    ) throws(SystemError) -> [UInt8] {
        let content = try read(
            try resolve(reference), maximum: maximum, mustNotBeReadableByOthers: true, service: service)
        return try secret(in: content, of: reference)
    }

    /// The secret in the content of a file: without the line's end, and not empty.
    package static func secret(in content: [UInt8], of reference: String) throws(SystemError) -> [UInt8] {
        var content = content
        if content.last == UInt8(ascii: "\n") { content.removeLast() }
        if content.last == UInt8(ascii: "\r") { content.removeLast() }
        guard !content.isEmpty else { throw SystemError(.invalid, "\(reference) is empty") }
        return content
    }

    private static func octal(_ mode: mode_t) -> String {
        let digits = String(mode & 0o7777, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
}
