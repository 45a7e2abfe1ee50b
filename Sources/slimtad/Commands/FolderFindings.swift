// What `slimtad check` finds about the folder of an edge of type "directory": would files be taken, and from those alone who
// are meant?

import Glibc
import SlimtaConfiguration
import SlimtaSystem

/// What is wrong with a pickup folder. Looks as the service's user.
struct FolderFindings {
    /// Why no file, or not every file, would be taken.
    private(set) var errors: [String] = []
    /// Who may do more there than is good.
    private(set) var warnings: [String] = []

    private let path: String
    private let user: String

    /// - Parameters:
    ///   - user, uid: whose the folder has to be: the daemon's.
    ///   - group: of the daemon, for what is proposed.
    init(_ directory: Configuration.Edge.Directory, user: String, uid: UInt32, group: String) {
        path = directory.path
        self.user = user
        var status = stat()
        guard stat(path, &status) == 0 else {
            let number = errno
            // Who tries slimtad out has no group for it.
            let owner = "-o \(user)" + (Accounts.group(named: group) == nil ? "" : " -g \(group)")
            let remedy =
                number == ENOENT
                ? ": install -d -m 3730 \(owner) \(path), where members of the group may put files" : ""
            errors.append("\(path): \(String(cString: strerror(number)))\(remedy)")
            return
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            errors.append("\(path) is no folder")
            return
        }
        lookForRights(status, uid)
        lookForOthers(status, directory)
        let own = (try? Privileges.lookUp(user: user, group: group)) ?? (try? Privileges.lookUp(user: user))?.identity
        if let own { lookForGroup(status, own) }
        for name in ["taken", "failed"] { lookInside(name, status, uid) }
    }

    /// What slimtad itself needs.
    private mutating func lookForRights(_ status: stat, _ uid: UInt32) {
        if status.st_uid != uid, status.st_mode & S_ISVTX != 0 {
            errors.append(
                "\(path) is sticky and not \(user)'s, who could not take others' files: chown \(user) \(path)")
        } else if uid == geteuid(), access(path, R_OK | W_OK | X_OK) != 0 {
            errors.append("\(user) cannot read and write \(path): chown \(user) \(path), chmod 3730 \(path)")
        }
    }

    /// What others may do.
    private mutating func lookForOthers(_ status: stat, _ directory: Configuration.Edge.Directory) {
        let mode = status.st_mode
        if mode & (S_IWGRP | S_IWOTH) == 0 {
            warnings.append(
                "nobody but its owner and root may put files into \(path): chmod 3730, and chgrp to who may")
        } else if mode & S_ISVTX == 0 {
            warnings.append("who may put files into \(path) may take away those of others: chmod 3730 \(path)")
        }
        if mode & (S_IRGRP | S_IROTH) != 0 {
            warnings.append("others may see what files are in \(path), and read those: chmod 3730 \(path)")
        }
        if mode & S_IWOTH != 0, !directory.ownerLogin {
            warnings.append("everybody on this machine may send as anybody through \(path): chmod 3730 \(path)")
        }
        if directory.ownerLogin, mode & (S_IWGRP | S_IWOTH) != 0, Self.linksAreOpen {
            warnings.append(
                "who may put files into \(path) may put links to others' files there, and send them as their owners: "
                    + "sysctl fs.protected_hardlinks=1")
        }
    }

    /// What members of the folder's group leave there has that group, and often no right for others, as sendmail's files.
    private mutating func lookForGroup(_ status: stat, _ own: Identity) {
        guard status.st_mode & S_ISGID != 0, status.st_mode & S_IWGRP != 0, own.uid != 0,
            !own.groups.contains(status.st_gid)
        else { return }
        warnings.append(
            "\(user) is not in the group of \(path), and cannot read what sendmail leaves there while slimtad does not run: "
                + "usermod -a -G $(stat -c %G \(path)) \(user)")
    }

    /// Where the kernel lets anybody make links to files of others.
    private static var linksAreOpen: Bool {
        let setting = try? SecureFile.read(
            "/proc/sys/fs/protected_hardlinks", maximum: 16, mustNotBeReadableByOthers: false)
        return setting?.first == UInt8(ascii: "0")
    }

    /// The folders that slimtad makes there.
    private mutating func lookInside(_ name: String, _ parent: stat, _ uid: UInt32) {
        var status = stat()
        guard lstat("\(path)/\(name)", &status) == 0 else { return }
        if status.st_mode & S_IFMT != S_IFDIR || status.st_uid != uid || status.st_mode & 0o022 != 0 {
            errors.append(
                "\(path)/\(name) has to be a folder of \(user)'s to which nobody else may write: remove it, slimtad makes it"
            )
        } else if status.st_dev != parent.st_dev {
            errors.append("\(path)/\(name) is on another file system than \(path): files are renamed into it")
        }
    }
}
