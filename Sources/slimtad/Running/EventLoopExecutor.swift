// Lets tasks run on event loops: attempts work with connections that live there, so they need not go to another thread
// and back for each step. The daemon hands these to the queue.

import NIOCore

/// An event loop as the executor of tasks.
final class EventLoopExecutor: TaskExecutor {
    private let eventLoop: any EventLoop

    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
