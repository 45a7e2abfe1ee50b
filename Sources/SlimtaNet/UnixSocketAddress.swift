// Addresses as the system's calls take them. ListeningSocket binds to them; who connects without an event loop uses them too.

package import Glibc

/// Calls `body` with the address of the UNIX socket at `path`; nil: the path is longer than such an address has room for.
package func withUnixSocketAddress<Result, Failure: Error>(
    of path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) throws(Failure) -> Result
) throws(Failure) -> Result? {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    return try withUnsafePointer(to: &address) { pointer throws(Failure) in
        try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address throws(Failure) in
            try body(address, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
}
