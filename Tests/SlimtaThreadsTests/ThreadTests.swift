// Events, threads and the pool of blocking threads: what is signalled is not lost, what was given is run, each wait ends.

import Glibc
import SlimtaThreads
import Synchronization
import Testing

/// No wait here is longer, if all is well.
private let patience = Duration.seconds(60)

/// What the system calls the thread that asks.
private func nameOfThisThread() -> String {
    guard let file = fopen("/proc/thread-self/comm", "r") else { return "" }
    defer { fclose(file) }
    var name: [UInt8] = []
    while case let octet = getc(file), octet != EOF, octet != 10 { name.append(UInt8(octet)) }
    return String(decoding: name, as: UTF8.self)
}

@Suite struct EventTests {
    @Test func aSignalWithoutAWaiterIsKept() {
        let event = Event()
        #expect(!event.wait(.zero))
        event.signal()
        event.signal()
        #expect(event.wait(patience))
        // Two are as one.
        #expect(!event.wait(.milliseconds(1)))
    }

    @Test func aWaitEndsWithItsTime() {
        let begin = monotonicNanoseconds()
        #expect(!Event().wait(.milliseconds(20)))
        #expect(monotonicNanoseconds() - begin >= 20_000_000)
        // What was to end before now is over, and does not wait for ever.
        #expect(!Event().wait(.seconds(-1)))
    }

    /// Times that no clock reaches are waits all the same.
    @Test(arguments: [.seconds(Int64.max), .seconds(1 << 40)] as [Duration]) func aLongWaitEndsWithASignal(
        _ time: Duration
    ) throws {
        let (event, begun, ended) = (Event(), Event(), Event())
        let thread = try Thread("test-wait") {
            begun.signal()
            if event.wait(time) { ended.signal() }
        }
        #expect(begun.wait(patience))
        #expect(!ended.wait(.milliseconds(5)))
        event.signal()
        #expect(ended.wait(patience))
        thread.join()
    }
}

@Suite struct ThreadTests {
    @Test func itHasItsNameAndIsWaitedFor() throws {
        let found = Mutex("")
        try Thread("test-a-long-name-of-a-thread") { found.withLock { $0 = nameOfThisThread() } }.join()
        #expect(found.withLock { $0 } == "test-a-long-nam")
    }

    @Test func nobodyWaitsForADetachedOne() throws {
        let ended = Event()
        try Thread.detached("test-detached") { ended.signal() }
        #expect(ended.wait(patience))
    }

    @Test func theClockGoesOn() {
        let (nanoseconds, milliseconds) = (monotonicNanoseconds(), monotonicMilliseconds())
        #expect(nanoseconds > 0 && milliseconds >= nanoseconds / 1_000_000)
        #expect(monotonicNanoseconds() >= nanoseconds)
    }

    @Test func errorsHaveTheSystemsWords() { #expect(systemErrorText(ENOENT) == "No such file or directory") }
}

@Suite struct BlockingPoolTests {
    @Test func itsThreadsHaveItsName() throws {
        let pool = BlockingPool("test-io")
        try pool.start(2)
        let names = Mutex<Set<String>>([])
        let both = Mutex(0)
        let (first, second) = (Event(), Event())
        // Each waits for the other, so that two threads run them.
        for (mine, other) in [(first, second), (second, first)] {
            pool.run {
                names.withLock { _ = $0.insert(nameOfThisThread()) }
                other.signal()
                if mine.wait(patience) { both.withLock { $0 += 1 } }
            }
        }
        pool.stop()
        #expect(both.withLock { $0 } == 2)
        #expect(names.withLock { $0 } == ["test-io-0", "test-io-1"])
    }

    /// First come, first served, also behind the number of jobs at which the list is cut.
    @Test func jobsAreRunInTheirOrder() throws {
        let pool = BlockingPool("test-io")
        let order = Mutex<[Int]>([])
        for number in 0..<1500 { pool.run { order.withLock { $0.append(number) } } }
        #expect(order.withLock { $0.isEmpty })
        try pool.start(1)
        for number in 1500..<3000 { pool.run { order.withLock { $0.append(number) } } }
        pool.stop()
        #expect(order.withLock { $0 } == Array(0..<3000))
    }

    @Test func afterItsEndTheCallerDoesTheWork() throws {
        let pool = BlockingPool("test-io")
        try pool.start(1)
        pool.stop()
        let done = Mutex(false)
        pool.run { done.withLock { $0 = true } }
        #expect(done.withLock { $0 })
    }
}
