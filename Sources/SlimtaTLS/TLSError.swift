// Why TLS did not work: made wherever SlimtaTLS calls OpenSSL, shown in logs and bounces by edges and relays.

import COpenSSL
import Glibc

/// Why a context could not be made, or why a connection cannot go on in TLS.
///
/// The text is OpenSSL's own, or says what we found wrong. It never has keys or content in it.
package struct TLSError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of failure it is, as far as callers treat them differently.
    package enum Code: String, Sendable {
        /// A certificate cannot be read.
        case certificate
        /// A private key cannot be read.
        case key
        /// The private key is not that of the certificate.
        case keyMismatch = "key mismatch"
        /// The certificates to trust cannot be read.
        case trust
        /// OpenSSL does not accept a setting.
        case configuration
        /// The peer's certificate was not accepted: chain, time or host name.
        case verification
        /// The handshake failed for another reason.
        case handshake
        /// The connection was closed before the handshake was done.
        case closed
        /// What came after the handshake is not TLS, or was changed on the way.
        case record
    }

    /// What kind of failure it is.
    package let code: Code
    /// The details, in OpenSSL's words where it had any.
    package let message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { "TLS \(code.rawValue): \(message)" }

    /// Takes all that is in the thread's error queue, the oldest first, and leaves the queue empty.
    ///
    /// To be called right after the call that failed, on the same thread: the queue is the thread's.
    @inline(never)
    static func drainQueue(_ code: Code, while doing: String) -> TLSError {
        var reasons: [String] = []
        while true {
            var data: UnsafePointer<CChar>?
            var flags: CInt = 0
            let error = ERR_get_error_all(nil, nil, nil, &data, &flags)
            guard error != 0 else { break }
            let errno = C_ERR_errno(error)
            var reason =
                if errno != 0 {
                    String(cString: strerror(errno))
                } else {
                    ERR_reason_error_string(error).map { String(cString: $0) } ?? "error \(error)"
                }
            if let data, flags & ERR_TXT_STRING != 0 {
                let detail = String(cString: data)
                if !detail.isEmpty { reason += " (\(detail))" }
            }
            // A failure deep inside is often reported again by each caller.
            if reasons.last != reason { reasons.append(reason) }
        }
        return TLSError(code, reasons.isEmpty ? doing : "\(doing): \(reasons.joined(separator: "; "))")
    }
}
