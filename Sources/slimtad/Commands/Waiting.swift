// From a command, which is synchronous, to what is asynchronous: starts it and waits for it.

import Glibc
import Synchronization

/// Does something asynchronous and waits for it: for commands, which have nothing else to do.
func wait<Value: Sendable>(
    _ body: @escaping @Sendable () async throws(Failure) -> Value
) throws(Failure) -> Value {
    let end = End<Value>()
    // Medium: see RunCommand.
    Task(priority: .medium) {
        do throws(Failure) { end.set(.success(try await body())) } catch { end.set(.failure(error)) }
    }
    return try end.wait().get()
}

/// How it ended: a thread waits on the semaphore until that is known.
///
/// `@unchecked Sendable`: the semaphore is made for several threads and has an address of its own; the result is behind a
/// lock.
private final class End<Value: Sendable>: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    private let result = Mutex<Result<Value, Failure>?>(nil)

    init() { sem_init(semaphore, 0, 0) }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func set(_ result: Result<Value, Failure>) {
        self.result.withLock { $0 = result }
        sem_post(semaphore)
    }

    func wait() -> Result<Value, Failure> {
        while true {
            while sem_wait(semaphore) != 0 {}
            if let result = result.withLock({ $0 }) { return result }
        }
    }
}
