// The owner of an object of OpenSSL that more than one thread has: keys here, contexts in SlimtaTLS.

/// Frees the object when nobody has it any more.
///
/// Only for types of which OpenSSL says that many threads may use one at a time as long as none changes it, since it
/// counts and locks what it shares inside: `EVP_PKEY` and `SSL_CTX` (openssl-threads(7)). Whoever made it changes it
/// before anybody else has it, and never afterwards.
///
/// `@unchecked Sendable`: the pointer is constant, and what it points to is as said.
package final class OpenSSLObject: @unchecked Sendable {
    /// For OpenSSL's functions, as long as this object is there.
    package let pointer: OpaquePointer
    private let free: @Sendable (OpaquePointer) -> Void

    /// Takes the object over; `free` gives it back to OpenSSL.
    package init(_ pointer: OpaquePointer, free: @escaping @Sendable (OpaquePointer) -> Void) {
        self.pointer = pointer
        self.free = free
    }

    deinit { free(pointer) }
}
