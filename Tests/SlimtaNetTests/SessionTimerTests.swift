// A session's timer, on an event loop whose clock the test sets.

import NIOCore
import NIOEmbedded
import Testing

@testable import SlimtaNet

/// A session that does nothing but wait.
private final class Waiting {
    let loop = EmbeddedEventLoop()
    var timer = SessionTimer()
    /// How often the timer fired, and how often the time was over.
    var fired = 0, passed = 0

    func set(_ time: TimeAmount) { timer.set(loop.now + time, on: loop) { self.timerFired() } }

    func timerFired() {
        fired += 1
        if timer.hasPassed(on: loop, fired: { self.timerFired() }) { passed += 1 }
    }
}

@Suite struct SessionTimerTests {
    @Test func aDeadlineThatIsLetPass() {
        let session = Waiting()
        session.set(.seconds(10))
        session.loop.advanceTime(by: .seconds(9))
        #expect(session.passed == 0)
        session.loop.advanceTime(by: .seconds(1))
        #expect(session.passed == 1 && session.fired == 1 && session.timer.deadline == .distantFuture)
        session.loop.advanceTime(by: .hours(1))
        #expect(session.fired == 1)
    }

    /// A thousand commands, each with its deadline: the timer fires a few times, and never too soon or too late.
    @Test func aDeadlineThatMovesOn() {
        let session = Waiting()
        for _ in 0..<1000 {
            session.set(.minutes(5))
            session.loop.advanceTime(by: .seconds(1))
        }
        #expect(session.passed == 0 && session.fired == 3)
        session.loop.advanceTime(by: .seconds(298))
        #expect(session.passed == 0)
        session.loop.advanceTime(by: .seconds(1))
        #expect(session.passed == 1)
    }

    @Test func aDeadlineThatComesNearer() {
        let session = Waiting()
        session.set(.minutes(5))
        session.set(.seconds(10))
        session.loop.advanceTime(by: .seconds(10))
        #expect(session.passed == 1 && session.fired == 1)
        session.loop.advanceTime(by: .hours(1))
        #expect(session.fired == 1, "the timer of the first one was given back")
    }

    @Test func noDeadline() {
        let session = Waiting()
        session.set(.seconds(10))
        session.timer.set(.distantFuture, on: session.loop) { session.timerFired() }
        session.loop.advanceTime(by: .hours(1))
        #expect(session.passed == 0)
        // And one is set again.
        session.set(.seconds(10))
        session.loop.advanceTime(by: .seconds(10))
        #expect(session.passed == 1)
    }

    /// A deadline that the timer did not see move, and is looked up when it fires.
    @Test func aDeadlineThatIsLookedUp() {
        let session = Waiting()
        session.set(.seconds(10))
        session.loop.advanceTime(by: .seconds(9))
        session.timer.deadline = session.loop.now + .seconds(60)
        session.loop.advanceTime(by: .seconds(59))
        #expect(session.passed == 0 && session.fired == 1)
        session.loop.advanceTime(by: .seconds(1))
        #expect(session.passed == 1)
    }

    @Test func cancelled() {
        let session = Waiting()
        session.set(.seconds(10))
        session.timer.cancel()
        session.loop.advanceTime(by: .hours(1))
        #expect(session.fired == 0)
    }
}
