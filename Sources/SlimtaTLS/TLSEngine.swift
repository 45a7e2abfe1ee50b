// One TLS connection without a socket: ciphertext in and out, plaintext in and out. TLSHandler drives it; it knows no
// channel. OpenSSL reads and writes through a BIO whose functions are at the end of this file.

import COpenSSL
import NIOCore
internal import SlimtaMail

/// The owner of an `SSL`, between two buffers of ciphertext.
///
/// Every call into OpenSSL clears the thread's error queue before and takes what is in it right after a failure; there
/// is no suspension between. After a thrown error only ``takeCiphertext()`` is of use: the alert to the peer.
final class TLSEngine {
    /// What came of an attempt to decrypt.
    enum Decrypted {
        /// The buffer is full; there may be more.
        case full
        /// All ciphertext that was received is used up.
        case starved
        /// The peer said that nothing more comes: close_notify.
        case ended
    }

    let ssl: OpaquePointer
    /// Kept because a setting of the peer's name can fail, and must then fail the handshake.
    private let refusal: TLSError?
    private let verification: TLSVerification
    /// Kept because OpenSSL asks it, by a pointer, for the certificate that fits a name.
    private let server: TLSServerContext?
    /// Kept for what is asked of the server's certificate behind the handshake.
    let client: TLSClientContext?
    /// Received and not yet read by OpenSSL.
    fileprivate var received = ByteBuffer()
    /// Written by OpenSSL and not yet taken.
    fileprivate var ciphertext = ByteBuffer()

    /// The server's side of a new connection.
    init(server: TLSServerContext) {
        ssl = Self.makeSSL(server.context)
        refusal = nil
        verification = .none
        self.server = server
        client = nil
        SSL_set_accept_state(ssl)
        attachBIO()
    }

    /// The client's side of a new connection; `serverName` is told to the server unless it is an IP address.
    init(client: TLSClientContext, serverName: String?, verification: TLSVerification) {
        ssl = Self.makeSSL(client.context)
        self.verification = verification
        server = nil
        self.client = client
        refusal = Self.configure(ssl, client: client, serverName: serverName, verification: verification)
        SSL_set_connect_state(ssl)
        attachBIO()
    }

    deinit {
        // Whatever SSL_free may still want to write, this object is no longer there to take it.
        BIO_set_data(SSL_get_rbio(ssl), nil)
        SSL_free(ssl)
    }

    private static func makeSSL(_ context: TLSContext) -> OpaquePointer {
        guard let ssl = SSL_new(context.pointer) else { preconditionFailure("SSL_new: out of memory") }
        return ssl
    }

    private static func configure(
        _ ssl: OpaquePointer, client: TLSClientContext, serverName: String?, verification: TLSVerification
    ) -> TLSError? {
        ERR_clear_error()
        // RFC 6066 section 3: addresses are not allowed there.
        if let serverName, !isAddress(serverName), C_SSL_set_tlsext_host_name(ssl, serverName) != 1 {
            return .drainQueue(.configuration, while: "server name")
        }
        return demand(verification, of: ssl, client)
    }

    static func isAddress(_ host: String) -> Bool {
        defer { ERR_clear_error() }
        guard let address = a2i_IPADDRESS(host) else { return false }
        ASN1_OCTET_STRING_free(address)
        return true
    }

    private func attachBIO() {
        guard let bio = BIO_new(bioMethod) else { preconditionFailure("BIO_new: out of memory") }
        BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
        BIO_set_init(bio, 1)
        SSL_set_bio(ssl, bio, bio)
    }

    // MARK: Ciphertext

    /// Takes what came from the network; to be followed by ``handshake()`` or ``decrypt(into:)``.
    func receive(_ bytes: consuming ByteBuffer) {
        if received.readableBytes == 0 { received = bytes } else { received.writeBuffer(&bytes) }
    }

    /// How many octets were received that OpenSSL has not read yet.
    var receivedBytes: Int { received.readableBytes }

    /// How many octets wait to be taken and sent.
    var ciphertextBytes: Int { ciphertext.readableBytes }

    /// What is to be sent to the peer now; nil if there is nothing.
    func takeCiphertext() -> ByteBuffer? {
        guard ciphertext.readableBytes > 0 else { return nil }
        defer { ciphertext = ByteBuffer() }
        return ciphertext
    }

    // MARK: The session

    /// Goes on with the handshake as far as what was received allows; true when it is done.
    func handshake() throws(TLSError) -> Bool {
        if let refusal { throw refusal }
        ERR_clear_error()
        let result = SSL_do_handshake(ssl)
        if result == 1 {
            if let error = errorBehindHandshake(verification) { throw error }
            return true
        }
        if SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ { return false }
        if let error = certificateError(verification) { throw error }
        throw .drainQueue(.handshake, while: "handshake failed")
    }

    /// Whether the peer's certificate was asked for, came, and is good.
    var isPeerVerified: Bool {
        (verification != .none || server?.asksForCertificate == true) && SSL_get0_peer_certificate(ssl) != nil
            && SSL_get_verify_result(ssl) == Int(X509_V_OK)
    }

    /// What was agreed; to be asked for when the handshake is done.
    var facts: TLSFacts {
        var serverName: String?
        if let name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) {
            // It goes to logs, and the client could have put anything there.
            let text = String(cString: name)
            if text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) { serverName = text }
        }
        var session = TLSDescription(
            version: String(cString: SSL_get_version(ssl)),
            cipher: String(cString: SSL_CIPHER_get_name(SSL_get_current_cipher(ssl))))
        session.proof = proof(verification)
        return TLSFacts(
            session,
            serverName: serverName,
            isPeerVerified: isPeerVerified)
    }

    /// Appends plaintext to the room that `buffer` has left, until there is no room or no ciphertext.
    func decrypt(into buffer: inout ByteBuffer) throws(TLSError) -> Decrypted {
        while buffer.writableBytes > 0 {
            var count = 0
            var result: CInt = 0
            ERR_clear_error()
            buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 0) { room in
                result = SSL_read_ex(ssl, room.baseAddress, room.count, &count)
                return count
            }
            if result == 1 { continue }
            switch SSL_get_error(ssl, result) {
            case SSL_ERROR_WANT_READ: return .starved
            case SSL_ERROR_ZERO_RETURN: return .ended
            default: throw .drainQueue(.record, while: "cannot be decrypted")
            }
        }
        return .full
    }

    /// Encrypts `plaintext` behind what waits to be taken.
    func encrypt(_ plaintext: ByteBufferView) throws(TLSError) {
        guard !plaintext.isEmpty else { return }
        // A record has 16 KiB at most; header, tag and padding of any cipher are less than 128 octets.
        ciphertext.reserveCapacity(minimumWritableBytes: plaintext.count + (plaintext.count / 16_384 + 1) * 128)
        ERR_clear_error()
        let result = plaintext.withUnsafeBytes { bytes in
            var written = 0
            return SSL_write_ex(ssl, bytes.baseAddress, bytes.count, &written)
        }
        // The BIO takes everything and renegotiation is off: there is nothing that it could wait for.
        guard result == 1 else { throw .drainQueue(.record, while: "cannot be encrypted") }
    }

    /// Says that nothing more comes (close_notify), behind what waits to be taken; only after the handshake.
    func shutdown() {
        ERR_clear_error()
        // Whether the peer has said so too is of no interest: we do not wait for it.
        _ = SSL_shutdown(ssl)
        ERR_clear_error()
    }
}

// MARK: The BIO

/// A BIO that reads `received` and writes `ciphertext` of the engine that its data points to, without a copy between.
///
/// Never freed, and only read once made.
private nonisolated(unsafe) let bioMethod: OpaquePointer = {
    guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "TLSEngine") else {
        preconditionFailure("BIO_meth_new: out of memory")
    }
    BIO_meth_set_read_ex(method) { bio, buffer, size, count in
        C_BIO_clear_retry_flags(bio)
        guard let engine = engine(of: bio), let buffer, let count else { return 0 }
        let taken = engine.received.readWithUnsafeReadableBytes { available in
            let taken = min(available.count, size)
            if taken > 0 { UnsafeMutableRawPointer(buffer).copyMemory(from: available.baseAddress!, byteCount: taken) }
            return taken
        }
        count.pointee = taken
        guard taken > 0 else {
            // Let go of the channel's buffer, which it wants to use again.
            engine.received = ByteBuffer()
            C_BIO_set_retry_read(bio)
            return 0
        }
        return 1
    }
    BIO_meth_set_write_ex(method) { bio, bytes, size, count in
        C_BIO_clear_retry_flags(bio)
        guard let engine = engine(of: bio), let bytes, let count else { return 0 }
        engine.ciphertext.writeBytes(UnsafeRawBufferPointer(start: bytes, count: size))
        count.pointee = size
        return 1
    }
    BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
    return method
}()

private func engine(of bio: OpaquePointer?) -> TLSEngine? {
    BIO_get_data(bio).map { Unmanaged<TLSEngine>.fromOpaque($0).takeUnretainedValue() }
}
