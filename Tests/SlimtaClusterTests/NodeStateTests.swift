// What the threads of a node share, where two of them speak at once: without a server.

import Foundation
import SlimtaMail
import SlimtaQueue
import Synchronization
import Testing

@testable import SlimtaCluster

@Suite("What the threads of a node share")
struct NodeStateTests {
    private static func state() -> NodeState {
        let state = NodeState()
        state.withLock { values in (values.incarnation, values.bucketCount, values.owned) = (1, 4, [0, 2]) }
        return state
    }

    /// The node's thread is about to tell of what it has read when the line's finds that all is lost: the queue must hear of the
    /// loss last, or it keeps what it never lets go of.
    @Test func whatIsLostIsToldBehindWhatHasCome() async {
        let state = Self.state()
        let told = Mutex<[String]>([])
        let isLost = Mutex<Bool?>(nil)
        let isOurs = state.inOrder {
            let isOurs = state.withLock { $0.owned.contains(0) }
            Thread.detachNewThread {
                let lost = state.loseAll(of: 1) { _ in told.withLock { $0.append("lost") } }
                isLost.withLock { $0 = lost }
            }
            usleep(100_000)
            told.withLock { $0.append("come") }
            return isOurs
        }
        while isLost.withLock({ $0 }) == nil { await Task.yield() }
        #expect(isOurs && isLost.withLock { $0 } == true)
        #expect(told.withLock { $0 } == ["come", "lost"])
        #expect(state.inOrder { state.now.owned.isEmpty }, "and nothing is told of after that")
    }

    @Test func anotherLifeLosesNothing() {
        let state = Self.state()
        #expect(!state.loseAll(of: 2) { _ in Issue.record("told") })
        #expect(state.now.owned == [0, 2] && state.now.incarnation == 1)
    }
}
