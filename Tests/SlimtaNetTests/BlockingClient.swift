// A TCP connection with plain system calls, for tests that say octet by octet what is sent.

import Glibc

/// Blocks for two minutes at most: other tests may keep all threads busy for long.
final class BlockingClient: Sendable {
    let descriptor: CInt

    init(_ port: Int) throws {
        descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var time = timeval(tv_sec: 120, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let descriptor = descriptor
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw NotConnected() }
    }

    /// Nobody listens there.
    struct NotConnected: Error {}

    deinit { close(descriptor) }

    /// Whether all was sent.
    @discardableResult
    func send(_ octets: [UInt8]) -> Bool {
        var rest = octets[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    /// Whether the server ends the connection; what comes before is forgotten.
    func isEnded() -> Bool {
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count <= 0 { return count == 0 || errno != EAGAIN }
        }
    }

    /// What comes until the connection ends, or `isEnough`.
    func read(_ isEnough: ([UInt8]) -> Bool) -> String {
        var octets: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while !isEnough(octets) {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count <= 0 { break }
            octets += buffer[..<count]
        }
        return String(decoding: octets, as: UTF8.self)
    }
}
