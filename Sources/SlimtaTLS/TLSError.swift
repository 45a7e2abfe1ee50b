// Why TLS did not work: made wherever SlimtaTLS calls OpenSSL, shown in logs and bounces by edges and relays.

import SlimtaCrypto

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
    /// What is wrong with the peer's certificate; nil: it is not that.
    package let fault: CertificateFault?
    /// Whether TLSA records have matched, and the certificate is not what it has to be beside them.
    package let isBesideRecords: Bool

    init(_ code: Code, _ message: String, fault: CertificateFault? = nil, isBesideRecords: Bool = false) {
        self.code = code
        self.message = message
        self.fault = fault
        self.isBesideRecords = isBesideRecords
    }

    /// For logs: the kind, then the details.
    package var description: String { "TLS \(code.rawValue): \(message)" }

    /// Says that `doing` failed and why, by the thread's error queue: see ``CryptoError/drainQueue(while:)``.
    static func drainQueue(_ code: Code, while doing: String) -> TLSError {
        TLSError(code, CryptoError.drainQueue(while: doing).message)
    }
}

/// What is wrong with a certificate that was not accepted.
package enum CertificateFault: Hashable, Sendable {
    /// It is for somebody else.
    case name
    /// It has ended, or is not valid yet.
    case date
    /// It does not lead to a root, or something on the way there is not as it has to be.
    case chain
    /// It is in none of the host's TLSA records.
    case noMatch
}
