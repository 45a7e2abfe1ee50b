// The hashes of a body that signatures are about, in the forms that keys ask for. Of a large message they are computed while it
// comes: MailSigner asks for them when all of it is there.

internal import NIOCore
internal import SlimtaDKIM
internal import SlimtaMail
internal import Synchronization

/// Hashes a body in several forms at once.
struct BodyHashers: ~Copyable {
    private var relaxed: BodyHasher?
    private var simple: BodyHasher?

    init(_ forms: Set<Canonicalization>) {
        relaxed = forms.contains(.relaxed) ? BodyHasher(.relaxed) : nil
        simple = forms.contains(.simple) ? BodyHasher(.simple) : nil
    }

    /// The readable octets come next.
    mutating func update(_ octets: ByteBuffer) {
        relaxed?.update(octets)
        simple?.update(octets)
    }

    /// The hashes of all that came.
    consuming func finish() -> [BodyHash] {
        var hashes: [BodyHash] = []
        if let hasher = relaxed.take() { hashes.append(hasher.finish()) }
        if let hasher = simple.take() { hashes.append(hasher.finish()) }
        return hashes
    }
}

/// Hashes the body of a large message while it comes.
final class BodyWatch: ContentObserver {
    private struct State: ~Copyable {
        var hashers: BodyHashers?
        /// Where the body begins, what of it is in memory.
        var beginning = ByteBuffer()
    }

    private let state: Mutex<State>

    init(_ forms: Set<Canonicalization>) { state = Mutex(State(hashers: BodyHashers(forms))) }

    func begin(_ head: ByteBuffer) {
        // What is no part of the message will have gone: see HeaderCheck.
        let start = head.withUnsafeReadableBytes { HeaderBlock.mailboxLines(in: $0).end }
        let message = head.getSlice(at: head.readerIndex + start, length: head.readableBytes - start) ?? head
        let beginning = message.behind(HeaderBlock(scanning: message))
        state.withLock { state in
            state.beginning = beginning
            state.hashers?.update(beginning)
        }
    }

    func take(_ octets: ByteBuffer) { state.withLock { $0.hashers?.update(octets) } }

    /// The hashes of the body that begins with these octets, and goes on as it came. Empty if it began with others, and the
    /// second time.
    func hashes(of beginning: ByteBuffer) -> [BodyHash] {
        state.withLock { state in
            guard state.beginning == beginning, let hashers = state.hashers.take() else { return [] }
            return hashers.finish()
        }
    }
}

extension ByteBuffer {
    /// What is behind the header that was found in it.
    func behind(_ header: HeaderBlock) -> ByteBuffer {
        getSlice(at: readerIndex + header.end, length: readableBytes - header.end) ?? ByteBuffer()
    }
}
