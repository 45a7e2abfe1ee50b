// Lets tasks run on event loops: what works with connections that live there need not go to another thread and back for
// each step. The daemon hands these to the queue for its attempts; the HTTP server answers requests on them.

package import NIOCore

/// An event loop as the executor of tasks.
package final class EventLoopExecutor: TaskExecutor {
    private let eventLoop: any EventLoop

    /// Tasks run on `eventLoop`, behind what is in line there.
    package init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    /// For the runtime.
    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
