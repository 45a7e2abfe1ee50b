// A TCP server with plain system calls, for tests that say octet by octet what a client is answered.

import Foundation
import Glibc
import NIOCore
import Testing

@testable import SlimtaNet

/// Answers every connection on 127.0.0.1 with what it was given, once a request's head has come. Each connection has a thread,
/// so that what blocks in it blocks no test.
final class LyingServer: Sendable {
    let address: SocketAddress
    private let descriptor: CInt

    /// `answer` gets a connection, and the head that came, if it `awaitsHead`; when it returns the connection is closed.
    init(awaitsHead: Bool = true, _ answer: @escaping @Sendable (Connection, String) -> Void) throws {
        let socket = try ListeningSocket.tcp(host: "127.0.0.1", port: 0)[0]
        descriptor = socket.descriptor
        address = try SocketAddress(ipAddress: "127.0.0.1", port: #require(socket.port))
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK)
        let descriptor = descriptor
        _ = listen(descriptor, 16)
        Thread.detachNewThread {
            while true {
                let accepted = accept(descriptor, nil, nil)
                guard accepted >= 0 else { break }
                Thread.detachNewThread {
                    let connection = Connection(descriptor: accepted)
                    let head = connection.read { !awaitsHead || $0.contains("\r\n\r\n") }
                    answer(connection, head)
                    close(accepted)
                }
            }
            close(descriptor)
        }
    }

    /// Ends the thread that accepts, and with it the port.
    func stop() { shutdown(descriptor, CInt(SHUT_RDWR)) }

    struct Connection: Sendable {
        let descriptor: CInt

        /// Whether all was sent.
        @discardableResult
        func send(_ text: String) -> Bool {
            var rest = Array(text.utf8)[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes {
                    Glibc.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
                }
                guard count > 0 else { return false }
                rest = rest.dropFirst(count)
            }
            return true
        }

        /// What comes until `isEnough`, or until the client goes away.
        @discardableResult
        func read(_ isEnough: (String) -> Bool = { _ in false }) -> String {
            var octets: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 65536)
            while !isEnough(String(decoding: octets, as: UTF8.self)) {
                let count = Glibc.read(descriptor, &buffer, buffer.count)
                if count <= 0 { break }
                octets += buffer[..<count]
            }
            return String(decoding: octets, as: UTF8.self)
        }

        /// The same for ever, until the client goes away.
        func repeated(_ text: String) { while send(text) {} }

        /// What is closed now is reset.
        func reset() {
            var linger = linger(l_onoff: 1, l_linger: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
        }
    }
}
