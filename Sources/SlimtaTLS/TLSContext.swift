// The owner of an SSL_CTX and the settings that servers and clients have in common. Made by TLSServerContext and
// TLSClientContext; TLSEngine makes connections of it.

import COpenSSL
import SlimtaCrypto

/// An `SSL_CTX`: one per configuration, shared by all connections.
///
/// It is only changed by the initialiser of the class that made it, before anything else has it; afterwards `SSL_new`
/// alone uses it.
final class TLSContext: Sendable {
    private let context: OpenSSLObject

    var pointer: OpaquePointer { context.pointer }

    init(method: OpaquePointer, minimum: TLSMinimum) throws(TLSError) {
        ERR_clear_error()
        guard let pointer = SSL_CTX_new(method) else { throw .drainQueue(.configuration, while: "no context") }
        context = OpenSSLObject(pointer) { SSL_CTX_free($0) }
        let version =
            switch minimum {
            case .v1_2: TLS1_2_VERSION
            case .v1_3: TLS1_3_VERSION
            }
        guard C_SSL_CTX_set_min_proto_version(pointer, version) == 1 else {
            throw .drainQueue(.configuration, while: "minimum version")
        }
        // Renegotiation is a way to make the other side work (CVE-2011-1473) that mail has no use for; compression
        // tells lengths (CRIME).
        SSL_CTX_set_options(pointer, C_SSL_OP_NO_COMPRESSION | C_SSL_OP_NO_RENEGOTIATION)
        // Without it an idle connection keeps 34 KB of buffers.
        C_SSL_CTX_set_mode(pointer, Int(SSL_MODE_RELEASE_BUFFERS))
        // Servers resume by tickets, which the client keeps; clients do not resume. Neither needs sessions kept here.
        C_SSL_CTX_set_session_cache_mode(pointer, Int(SSL_SESS_CACHE_OFF))
    }
}
