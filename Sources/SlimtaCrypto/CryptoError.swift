// Why OpenSSL did not do something, in its own words: made in SlimtaCrypto, and by SlimtaTLS for its TLSError.

import COpenSSL
import Glibc

/// A key that cannot be read or used. The text never has a key or content in it.
package struct CryptoError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was wrong, with OpenSSL's words for it if it had any.
    package let message: String

    /// What is wrong, said by who knows more of the key than OpenSSL.
    package init(_ message: String) { self.message = message }

    /// The same.
    package var description: String { message }

    /// Says that `doing` failed and why: all that is in the thread's error queue, the oldest first. Leaves it empty.
    ///
    /// To be called right after the call that failed, on the same thread: the queue is the thread's.
    @inline(never)
    package static func drainQueue(while doing: String) -> CryptoError {
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
        return CryptoError(reasons.isEmpty ? doing : "\(doing): \(reasons.joined(separator: "; "))")
    }
}
