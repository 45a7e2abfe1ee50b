// Large messages of MemoryStorage: their rest is in memory as well, but comes and goes as a file does.

import NIOCore
import SlimtaMail
import SlimtaQueue
import Synchronization

/// Collects the rest of a message.
final class MemorySpoolWriter: SpoolWriter {
    private enum State {
        case writing(ByteBuffer)
        case ended
    }

    private let id: QueueID
    private let state: Mutex<State>

    init(_ id: QueueID, isClosed: Bool) {
        self.id = id
        state = Mutex(isClosed ? .ended : .writing(ByteBuffer()))
    }

    func append(_ bytes: ByteBuffer, completion: @escaping @Sendable (StorageError?) -> Void) {
        let isTaken = state.withLock { state in
            guard case .writing(var all) = state else { return false }
            all.writeImmutableBuffer(bytes)
            state = .writing(all)
            return true
        }
        completion(isTaken ? nil : .closed)
    }

    func finish(completion: @escaping @Sendable (Result<any SpooledBody, StorageError>) -> Void) {
        let all = state.withLock { state -> ByteBuffer? in
            guard case .writing(let all) = state else { return nil }
            state = .ended
            return all
        }
        guard let all else { return completion(.failure(.closed)) }
        completion(.success(MemorySpooledBody(id, all)))
    }

    func abandon() { state.withLock { $0 = .ended } }
}

/// The rest of a message, whole.
private final class MemorySpooledBody: SpooledBody {
    let reference: SpoolReference
    private let octets: ByteBuffer

    init(_ id: QueueID, _ octets: ByteBuffer) {
        // Nothing checks the sum: memory is not read back from anywhere.
        reference = SpoolReference(id: id, length: Int64(octets.readableBytes), crc32c: 0)
        self.octets = octets
    }

    func makeReader() -> any SpoolReader { Reader(octets) }

    private final class Reader: SpoolReader {
        private let rest: Mutex<ByteBuffer>

        init(_ octets: ByteBuffer) { rest = Mutex(octets) }

        func next(_ limit: Int) async throws -> ByteBuffer? {
            rest.withLock { rest in
                rest.readableBytes == 0 ? nil : rest.readSlice(length: min(limit, rest.readableBytes))
            }
        }
    }
}
