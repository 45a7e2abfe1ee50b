// Sockets that edges listen on, made before privileges are dropped and before there is any thread, and at a reload. The
// composition root makes them in the phase `bindListeners`.

import Glibc

/// A socket that is bound and listens.
package struct ListeningSocket: Hashable, Sendable {
    /// What could not be done, in words for the operator.
    package struct BindError: Error, Hashable, Sendable, CustomStringConvertible {
        /// The address as configured.
        package let address: String
        /// `errno` of the call that failed.
        package let errorNumber: Int32

        /// With what most likely helps.
        package var description: String {
            let text = "cannot listen on \(address): \(String(cString: strerror(errorNumber)))"
            let isFile = address.hasPrefix("unix:")
            switch errorNumber {
            case EADDRINUSE: return text + "; another program listens there"
            case ENOTSOCK: return text + "; what is there is no socket, and is not replaced: move it away"
            case EACCES where !isFile: return text + "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
            case EPERM where !isFile: return text + "; see SocketBindAllow= of the unit"
            case EACCES, EROFS: return text + "; its folder must be one that the service's user may write to"
            default: return text
            }
        }
    }

    /// Non-blocking, closed on exec.
    package let descriptor: CInt

    /// A socket that somebody else made: systemd.
    package init(inherited descriptor: CInt) {
        self.descriptor = descriptor
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    }

    /// Whether connections can be accepted on it.
    package var isListening: Bool {
        var value: CInt = 0
        var size = socklen_t(MemoryLayout<CInt>.size)
        return getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value != 0
    }

    private init(_ family: CInt, address: String) throws(BindError) {
        descriptor = socket(
            family, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw BindError(address: address, errorNumber: errno) }
    }

    /// A UNIX socket's file stays.
    package func close() { _ = Glibc.close(descriptor) }

    /// Another descriptor of the same socket: it listens until the last one is closed. Throws what the system says.
    package func duplicate() throws(BindError) -> ListeningSocket {
        let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw BindError(address: "descriptor \(descriptor)", errorNumber: errno) }
        return ListeningSocket(inherited: copy)
    }

    /// O_PATH and AT_EMPTY_PATH, which Swift's Glibc does not show: the same on all of Linux that Swift runs on.
    private static let (onlyPath, emptyPath): (CInt, CInt) = (0o10000000, 0x1000)

    /// Makes it this user's: beside a socket of another user the kernel would refuse what ``overlapping(_:_:)`` is for.
    /// Of a UNIX socket it is the file `path` that clients open. Throws what the system says.
    package func setOwner(uid: UInt32, gid: UInt32, path: String? = nil) throws(BindError) {
        guard let path else {
            guard fchown(descriptor, uid, gid) == 0 else {
                throw BindError(address: "descriptor \(descriptor)", errorNumber: errno)
            }
            return
        }
        try Self.change(path) { file, _ in fchownat(file, "", uid, gid, Self.emptyPath) == 0 }
    }

    /// Opens the file `path` of a UNIX socket to every user, or to its owner and group alone, as ``unix(path:isForAll:)`` makes
    /// it. Throws what the system says.
    package static func setMode(isForAll: Bool, path: String) throws(BindError) {
        let mode: mode_t = isForAll ? 0o666 : 0o660
        // O_PATH does not allow fchmod; behind this name nobody can put something else. Where the mode is right, it need not be
        // ours: root may have no right to what the service owns.
        try change(path) { file, info in info.st_mode & 0o777 == mode || chmod("/proc/self/fd/\(file)", mode) == 0 }
    }

    /// Has `body` change the file of a UNIX socket by a descriptor: the folder may be somebody's who puts another file in its
    /// place meanwhile. It returns false where the system refuses.
    private static func change(_ path: String, _ body: (CInt, stat) -> Bool) throws(BindError) {
        func fault(_ number: CInt) -> BindError { BindError(address: "unix:\(path)", errorNumber: number) }
        let file = open(path, onlyPath | O_NOFOLLOW | O_CLOEXEC)
        guard file >= 0 else { throw fault(errno) }
        defer { _ = Glibc.close(file) }
        var info = stat()
        guard fstat(file, &info) == 0 else { throw fault(errno) }
        guard info.st_mode & S_IFMT == S_IFSOCK, info.st_nlink == 1 else { throw fault(EPERM) }
        guard body(file, info) else { throw fault(errno) }
    }

    /// The TCP port that it is bound to; nil for a UNIX socket.
    package var port: Int? {
        var address = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var text = [CChar](repeating: 0, count: 128)
        let error = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { general in
                getsockname(descriptor, general, &length) == 0
                    ? getnameinfo(general, length, nil, 0, &text, socklen_t(text.count), NI_NUMERICSERV) : EAI_SYSTEM
            }
        }
        guard error == 0 else { return nil }
        return Int(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }

    /// Runs `body`, in which sockets can be made whose addresses overlap those of `sockets`, as [::]:587 does
    /// 127.0.0.1:587: made by the same user, and with ``tcp(host:port:isOverlapping:)``. Both listen until one is closed,
    /// so that nobody who connects meanwhile is refused.
    package static func overlapping<Result, Failure: Error>(
        _ sockets: [ListeningSocket], _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        // Only for that time: a second slimtad is to be told that the port is taken, not to get a share of the connections.
        for socket in sockets { socket.setReusePort(true) }
        defer { for socket in sockets { socket.setReusePort(false) } }
        return try body()
    }

    /// SO_REUSEPORT, which a socket of another family does not have.
    private func setReusePort(_ isOn: Bool) {
        var value: CInt = isOn ? 1 : 0
        _ = setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &value, socklen_t(MemoryLayout<CInt>.size))
    }

    /// Listens on all addresses of `host`. "::" takes IPv4 too; on a machine without IPv6 it is IPv4 alone.
    package static func tcp(host: String, port: Int, isOverlapping: Bool = false) throws(BindError) -> [ListeningSocket]
    {
        let text = host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)"
        var hints = addrinfo()
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &found) == 0, let first = found else {
            throw BindError(address: text, errorNumber: EADDRNOTAVAIL)
        }
        defer { freeaddrinfo(found) }
        var sockets: [ListeningSocket] = []
        var next: UnsafeMutablePointer<addrinfo>? = first
        do throws(BindError) {
            while let info = next {
                sockets.append(
                    try bound(
                        info.pointee.ai_family, info.pointee.ai_addr, info.pointee.ai_addrlen, text, isOverlapping))
                next = info.pointee.ai_next
            }
        } catch {
            if host == "::", error.errorNumber == EAFNOSUPPORT {
                return try tcp(host: "0.0.0.0", port: port, isOverlapping: isOverlapping)
            }
            for socket in sockets { socket.close() }
            throw error
        }
        return sockets
    }

    /// Listens on a UNIX socket. A socket file that nobody listens on any more is replaced. The file is open to its
    /// owner and group.
    ///
    /// - Parameter isForAll: it is open to every user: to be told apart by who is asked for it.
    package static func unix(path: String, isForAll: Bool = false) throws(BindError) -> ListeningSocket {
        let text = "unix:\(path)"
        let mode: mode_t = isForAll ? 0o666 : 0o660
        return try withAddress(of: path) { address, length throws(BindError) in
            do throws(BindError) {
                return try bound(AF_UNIX, address, length, text, fileMode: mode)
            } catch {
                guard error.errorNumber == EADDRINUSE else { throw error }
                try look(at: path)
                guard unlink(path) == 0 else { throw BindError(address: text, errorNumber: errno) }
                return try bound(AF_UNIX, address, length, text, fileMode: mode)
            }
        }
    }

    /// Returns if what is at `path` does not keep ``unix(path:isForAll:)`` from listening there: nothing, or a socket that nobody
    /// listens on any more. Throws what keeps it. Whoever listens there sees a connection that ends at once.
    package static func look(at path: String) throws(BindError) {
        func fault(_ number: CInt) -> BindError { BindError(address: "unix:\(path)", errorNumber: number) }
        var info = stat()
        guard lstat(path, &info) == 0 else { return }
        // A connection to what is no socket is refused as one to a socket of the dead is.
        guard info.st_mode & S_IFMT == S_IFSOCK else { throw fault(ENOTSOCK) }
        try withAddress(of: path) { address, length throws(BindError) in
            let probe = try ListeningSocket(AF_UNIX, address: "unix:\(path)")
            defer { probe.close() }
            let error = connect(probe.descriptor, address, length) == 0 ? 0 : errno
            // One whose queue is full lives, too.
            if error != ECONNREFUSED { throw fault(error == EACCES ? EACCES : EADDRINUSE) }
        }
    }

    private static func withAddress<Result>(
        of path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) throws(BindError) -> Result
    ) throws(BindError) -> Result {
        guard let result = try withUnixSocketAddress(of: path, body) else {
            throw BindError(address: "unix:\(path)", errorNumber: ENAMETOOLONG)
        }
        return result
    }

    private func set(_ level: CInt, _ option: CInt, _ value: CInt, _ text: String) throws(BindError) {
        var value = value
        guard setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<CInt>.size)) == 0 else {
            throw BindError(address: text, errorNumber: errno)
        }
    }

    private static func bound(
        _ family: CInt, _ address: UnsafePointer<sockaddr>, _ length: socklen_t, _ text: String,
        _ isOverlapping: Bool = false, fileMode: mode_t? = nil
    ) throws(BindError) -> ListeningSocket {
        let socket = try ListeningSocket(family, address: text)
        do throws(BindError) {
            if family != AF_UNIX { try socket.set(SOL_SOCKET, SO_REUSEADDR, 1, text) }
            if family == AF_INET6 { try socket.set(CInt(IPPROTO_IPV6), IPV6_V6ONLY, 0, text) }
            if isOverlapping { socket.setReusePort(true) }
            try socket.listen(on: address, length, text, fileMode: fileMode)
            if isOverlapping { socket.setReusePort(false) }
            return socket
        } catch {
            socket.close()
            throw error
        }
    }

    private func listen(
        on address: UnsafePointer<sockaddr>, _ length: socklen_t, _ text: String, fileMode: mode_t?
    ) throws(BindError) {
        // A socket file is made with the mode of the socket and the umask. That is the whole process's: a folder that another
        // thread makes meanwhile must not lose the right to be entered.
        if let fileMode, fchmod(descriptor, fileMode) != 0 { throw BindError(address: text, errorNumber: errno) }
        let mask = fileMode.map { umask(~$0 & 0o7) }
        let result = bind(descriptor, address, length)
        let error = errno
        if let mask { umask(mask) }
        guard result == 0 else { throw BindError(address: text, errorNumber: error) }
        // The kernel caps this at net.core.somaxconn.
        guard Glibc.listen(descriptor, 65535) == 0 else { throw BindError(address: text, errorNumber: errno) }
    }
}
