// Which addresses connections come from that are bound to none.

import Glibc
import NIOCore
package import SlimtaMail

/// What the system would choose.
package enum SourceAddresses {
    /// Of each family the address that leads to the rest of the Internet; none where there is no way. Nothing is sent.
    package static func ofSystem() -> [IPAddress] {
        // Addresses for documentation (RFC 5737, RFC 3849): only the way there is looked up.
        ["192.0.2.1", "2001:db8::1"].compactMap { target in
            (try? SocketAddress(ipAddress: target, port: 25)).flatMap { ours(towards: $0) }
        }
    }

    /// Our end of the way to `address`.
    private static func ours(towards address: SocketAddress) -> IPAddress? {
        let family: CInt
        // Where the octets of an IP address are within a socket's.
        let place: Range<Int>
        switch address {
        case .v4:
            family = AF_INET
            place = 4..<8
        case .v6:
            family = AF_INET6
            place = 8..<24
        case .unixDomainSocket: return nil
        }
        let descriptor = socket(family, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        guard address.withSockAddr({ connect(descriptor, $0, socklen_t($1)) }) == 0 else { return nil }
        // As large as addresses of sockets get.
        return withUnsafeTemporaryAllocation(byteCount: 128, alignment: 8) { (room) -> IPAddress? in
            guard let start = room.baseAddress else { return nil }
            var size = socklen_t(room.count)
            guard getsockname(descriptor, start.bindMemory(to: sockaddr.self, capacity: 1), &size) == 0,
                Int(size) >= place.upperBound
            else { return nil }
            return IPAddress(bytes: room[place])
        }
    }
}
