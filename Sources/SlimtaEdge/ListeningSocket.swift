// Sockets that edges listen on, made before privileges are dropped and before there is any thread. The composition root
// makes them in the phase `bindListeners`.

import Glibc

/// A socket that is bound and listens.
package struct ListeningSocket: Hashable, Sendable {
    /// What could not be done, in words for the operator.
    package struct BindError: Error, Hashable, Sendable, CustomStringConvertible {
        /// The address as configured.
        package let address: String
        package let errorNumber: Int32

        package var description: String {
            let reason = String(cString: strerror(errorNumber))
            switch errorNumber {
            case EADDRINUSE: return "cannot listen on \(address): \(reason); another program listens there"
            case EACCES:
                return "cannot listen on \(address): \(reason); ports below 1024 need root or CAP_NET_BIND_SERVICE"
            default: return "cannot listen on \(address): \(reason)"
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

    package func close() { _ = Glibc.close(descriptor) }

    /// Listens on all addresses of `host`. "::" takes IPv4 too; on a machine without IPv6 it is IPv4 alone.
    package static func tcp(host: String, port: Int) throws(BindError) -> [ListeningSocket] {
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
                sockets.append(try bound(info.pointee.ai_family, info.pointee.ai_addr, info.pointee.ai_addrlen, text))
                next = info.pointee.ai_next
            }
        } catch {
            if host == "::", error.errorNumber == EAFNOSUPPORT { return try tcp(host: "0.0.0.0", port: port) }
            for socket in sockets { socket.close() }
            throw error
        }
        return sockets
    }

    /// Listens on a UNIX socket. A socket file that nobody listens on any more is replaced. The file is open to its
    /// owner and group.
    package static func unix(path: String) throws(BindError) -> ListeningSocket {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let text = "unix:\(path)"
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw BindError(address: text, errorNumber: ENAMETOOLONG)
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        return try withUnsafePointer(to: &address) { pointer throws(BindError) in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address throws(BindError) in
                do throws(BindError) {
                    return try bound(AF_UNIX, address, length, text)
                } catch {
                    let probe = try ListeningSocket(AF_UNIX, address: text)
                    defer { probe.close() }
                    guard error.errorNumber == EADDRINUSE, connect(probe.descriptor, address, length) != 0,
                        errno == ECONNREFUSED
                    else { throw error }
                    unlink(path)
                    return try bound(AF_UNIX, address, length, text)
                }
            }
        }
    }

    private static func bound(
        _ family: CInt, _ address: UnsafePointer<sockaddr>, _ length: socklen_t, _ text: String
    ) throws(BindError) -> ListeningSocket {
        let socket = try ListeningSocket(family, address: text)
        var yes: CInt = 1
        var no: CInt = 0
        if family != AF_UNIX {
            setsockopt(socket.descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<CInt>.size))
        }
        if family == AF_INET6 {
            setsockopt(socket.descriptor, CInt(IPPROTO_IPV6), IPV6_V6ONLY, &no, socklen_t(MemoryLayout<CInt>.size))
        }
        // A socket file is made with the umask: open to owner and group, to nobody else.
        let mask = family == AF_UNIX ? umask(0o117) : nil
        let result = bind(socket.descriptor, address, length)
        let error = errno
        if let mask { umask(mask) }
        guard result == 0 else {
            socket.close()
            throw BindError(address: text, errorNumber: error)
        }
        // The kernel caps this at net.core.somaxconn.
        guard listen(socket.descriptor, 65535) == 0 else {
            let error = errno
            socket.close()
            throw BindError(address: text, errorNumber: error)
        }
        return socket
    }
}
