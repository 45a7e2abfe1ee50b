// Who gets how many of the files that may be open.

import Glibc
import Testing

@testable import SlimtaSystem

@Suite struct FileBudgetTests {
    private let defaults = FileBudget.Share(connections: 10_000, relayConnections: 500)

    @Test func enoughForAll() {
        #expect(FileBudget(limit: 65_536).share(defaults, inUse: 60, relays: 4) == defaults)
    }

    /// Whatever the limit, what is granted fits, with a second file for each and all that is reserved.
    @Test func whatIsGrantedFits() throws {
        for limit in [64, 100, 256, 1024, 4096, 20_000] {
            let budget = FileBudget(limit: limit)
            for (relays, filters) in [(0, 0), (1, 0), (3, 0), (1, 2)] where limit > 64 || relays + filters < 2 {
                let share = try #require(budget.share(defaults, inUse: 36, relays: relays, filters: filters))
                let used =
                    36 + share.connections * (2 + filters) + share.relayConnections * (relays + 1)
                    + budget.resolverSockets
                    + budget.controlConnections + budget.reserve
                #expect(used <= limit)
                #expect(share.connections >= 1 && share.relayConnections >= 1)
            }
        }
    }

    @Test func neverMoreThanWanted() throws {
        let few = FileBudget.Share(connections: 5, relayConnections: 400)
        let share = try #require(FileBudget(limit: 256).share(few, inUse: 40, relays: 1))
        #expect(share.connections == 5)
        #expect(share.relayConnections < 400)
    }

    @Test func tooFewForAnything() {
        #expect(FileBudget(limit: 48).share(defaults, inUse: 36, relays: 1) == nil)
    }

    @Test func countsWhatIsOpen() {
        // Other tests open and close files meanwhile, a whole daemon among them: one quiet moment will do.
        let isCounted = (0..<200).contains { _ in
            let before = FileLimits.openCount
            let descriptors = (0..<20).map { _ in dup(STDIN_FILENO) }
            defer { for descriptor in descriptors { close(descriptor) } }
            return FileLimits.openCount >= before + 10
        }
        #expect(isCounted)
        #expect(FileLimits.hasRoom(for: 20))
    }

    @Test func noticesThatThereIsNoRoom() async {
        await #expect(processExitsWith: .success) {
            // Numbers count, not files: what was inherited may have high ones.
            var limit = rlimit(rlim_cur: 13, rlim_max: 4096)
            #expect(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
            #expect(!FileLimits.hasRoom(for: 20))
        }
    }
}
