// What must hold of questions to a policy server whatever happens, for PolicyServiceMachineTests.

import NIOCore
import Testing

@testable import SlimtaEdge

/// What a driver of the machine knows.
struct PolicyServiceModel {
    var asked: UInt64 = 0
    var pending: Set<UInt64> = []
    var connections: Set<UInt64> = []
    var closing: Set<UInt64> = []
    private var withdrawn: Set<UInt64> = []

    func isOpen(_ id: UInt64) -> Bool { connections.contains(id) && !closing.contains(id) }

    mutating func ask(_ machine: inout PolicyServiceMachine, by session: UInt64, _ now: NIODeadline) {
        asked += 1
        pending.insert(asked)
        take(machine.asked(asked, by: session, now))
    }

    mutating func withdraw(_ machine: inout PolicyServiceMachine, _ now: NIODeadline) {
        guard let id = pending.min() else { return }
        pending.remove(id)
        withdrawn.insert(id)
        take(machine.withdrawn(id, now))
    }

    mutating func closed(_ machine: inout PolicyServiceMachine, _ id: UInt64, _ now: NIODeadline) {
        closing.remove(id)
        connections.remove(id)
        take(machine.closed(id, now))
    }

    mutating func take(_ actions: [PolicyServiceMachine.Action]) {
        for action in actions {
            switch action {
            case .connect(let id): #expect(connections.insert(id).inserted)
            case .send(let id, let question):
                #expect(isOpen(id) && (pending.contains(question) || withdrawn.contains(question)))
            case .close(let id): #expect(connections.contains(id) && closing.insert(id).inserted)
            case .deliver(let question), .giveUp(let question, _):
                #expect(pending.remove(question) != nil || withdrawn.remove(question) != nil)
            case .tellFailure, .tellOpened, .tellRecovered: break
            }
        }
    }
}
