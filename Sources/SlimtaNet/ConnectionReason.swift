// Why there is no connection, or no longer one, in words for logs and for who reads a bounce. All that connects says it in
// these.

internal import Glibc
internal import NIOCore

extension Error {
    /// What went wrong with a connection: what the system says of it, without descriptors, numbers and names of types.
    package var connectionReason: String {
        switch self as any Error {
        case let error as IOError: String(cString: strerror(error.errnoCode))
        case ChannelError.connectTimeout: "timed out"
        default: "\(self)"
        }
    }
}
