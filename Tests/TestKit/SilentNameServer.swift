// A name server that never answers, for tests of what goes on while nothing is known yet.

import Glibc

/// A name server that never answers.
package final class SilentNameServer {
    /// Where it is asked, at 127.0.0.1.
    package let port: Int
    private let socket: CInt

    private struct NoSocket: Error {}

    /// One at a free port.
    package init() throws {
        let socket = Glibc.socket(AF_INET, CInt(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(socket, address, length) == 0 ? getsockname(socket, address, &length) : -1
            }
        }
        guard socket >= 0, result == 0 else { throw NoSocket() }
        self.socket = socket
        port = Int(in_port_t(bigEndian: address.sin_port))
    }

    deinit { close(socket) }

    /// Whether a question has come.
    package var isAsked: Bool {
        var event = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        return poll(&event, 1, 0) == 1
    }
}
