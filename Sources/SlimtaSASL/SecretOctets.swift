// Passwords while a session has them: what a core dump or a swapped page would show is overwritten as soon as nobody
// needs it. AUTH's exchanges make them, the edge's credential back end reads them.

import Glibc

/// Octets that are overwritten when the last one who holds them lets go. Never printed.
///
/// What the system's buffers had of them (the read of the socket, TLS records) is not ours to overwrite.
///
/// `@unchecked Sendable`: the octets are written by init and deinit only, before and after anybody shares them.
package final class SecretOctets: RandomAccessCollection, Equatable, @unchecked Sendable, CustomStringConvertible,
    CustomDebugStringConvertible, CustomReflectable
{
    private let octets: UnsafeMutableRawBufferPointer

    /// Copies them; the original is for its owner to wipe.
    package init(_ octets: some Collection<UInt8>) {
        self.octets = .allocate(byteCount: octets.count, alignment: 1)
        self.octets.copyBytes(from: octets)
    }

    deinit {
        if let base = octets.baseAddress { explicit_bzero(base, octets.count) }
        octets.deallocate()
    }

    /// 0.
    package var startIndex: Int { 0 }
    /// Their number.
    package var endIndex: Int { octets.count }
    /// The octet at an offset.
    package subscript(index: Int) -> UInt8 { octets[index] }

    /// Calls `body` with the octets where they are.
    package func withOctets<T>(_ body: (UnsafeRawBufferPointer) -> T) -> T { body(UnsafeRawBufferPointer(octets)) }

    /// For tests and for copies of one answer; a password is compared by its hash.
    package static func == (a: SecretOctets, b: SecretOctets) -> Bool { a.elementsEqual(b) }

    /// Their number alone.
    package var description: String { "\(count) secret octets" }
    /// As `description`.
    package var debugDescription: String { description }
    /// Empty.
    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension [UInt8] {
    /// Overwrites the octets, and is empty.
    package mutating func wipe() {
        withUnsafeMutableBytes { if let base = $0.baseAddress { explicit_bzero(base, $0.count) } }
        removeAll()
    }
}
