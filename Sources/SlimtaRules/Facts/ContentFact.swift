// What a message is made of, as rules ask for it: read when the first of them does. Filled in by edges.

package import NIOCore
package import SlimtaMIME
import Synchronization

/// The content of a message. Copies share what was read.
package struct ContentFact: Sendable {
    private enum State: Sendable {
        /// A message that is in memory.
        case unread(ByteBuffer)
        case read(ContentFacts)
    }

    private final class Memory: Sendable {
        let state: Mutex<State>

        init(_ state: State) { self.state = Mutex(state) }
    }

    private let memory: Memory

    /// That of a whole message that is in memory, as the client sent it.
    package init(of message: ByteBuffer) { memory = Memory(.unread(message)) }

    /// What was gathered while a message came in.
    package init(_ facts: ContentFacts) { memory = Memory(.read(facts)) }

    /// What it is made of.
    package var facts: ContentFacts {
        memory.state.withLock { state in
            switch state {
            case .read(let facts): return facts
            case .unread(let message):
                var reader = ContentFactsReader()
                reader.read(message)
                let facts = reader.finish()
                state = .read(facts)
                return facts
            }
        }
    }
}
