// What a relay remembers of hosts from one attempt to the next, in memory and for hours at most. Asked and told by
// HostTrial.

import NIOCore
import SlimtaMail
import Synchronization

/// Which hosts could not be used a moment ago, so that the next message does not wait for them first, and how many
/// recipients they take.
final class HostMemory: Sendable {
    /// A host that refuses us costs little time to ask again.
    private static let afterDeath = TimeAmount.seconds(60)
    /// One that hangs costs minutes: longer than the first retries are apart, or each of them would hang as well.
    private static let afterHanging = TimeAmount.minutes(15)
    /// A message that a host may have goes there again only if nobody else takes it.
    private static let ofDoubt = TimeAmount.hours(6)
    private static let ofLimits = TimeAmount.hours(24)

    private struct Copy: Hashable {
        let message: QueueID
        let host: SocketAddress
    }

    /// What could not be used: an address, whatever was wanted of it, or one kind of session with it.
    private struct Place: Hashable {
        let host: SocketAddress
        let plan: SessionPlan?
    }

    private struct State {
        var unusable = ExpiringCache<Place, Bool>(capacity: 4096)
        var doubts = ExpiringCache<Copy, Bool>(capacity: 4096)
        var limits = ExpiringCache<SocketAddress, Int>(capacity: 4096)
    }

    private let state = Mutex(State())

    /// Splits `hosts` into those that are to be asked first for a message, and the others.
    func sorted(
        _ hosts: [ConnectionKey], for message: QueueID
    ) -> (usable: [ConnectionKey], others: [ConnectionKey]) {
        let now = NIODeadline.now()
        return state.withLock { state in
            var (usable, others): ([ConnectionKey], [ConnectionKey]) = ([], [])
            for key in hosts {
                let host = key.host.address
                if state.unusable.value(for: Place(host: host, plan: nil), at: now) == nil,
                    state.unusable.value(for: Place(host: host, plan: key.plan), at: now) == nil,
                    state.doubts.value(for: Copy(message: message, host: host), at: now) == nil
                {
                    usable.append(key)
                } else {
                    others.append(key)
                }
            }
            return (usable, others)
        }
    }

    /// How many recipients `host` is known to take in one transaction.
    func recipients(of host: MailHost) -> Int? {
        state.withLock { $0.limits.value(for: host.address, at: .now()) }
    }

    /// Remembers what came of asking a host.
    ///
    /// - Parameter isOfPlan: whether other plans may fare better there. What an address is like is no matter of plans,
    ///   nor is what became of a message.
    func learn(
        _ lesson: HostTrialMachine.Lesson, of key: ConnectionKey, _ message: QueueID, isOfPlan: Bool = false
    ) {
        let host = key.host.address
        let place = Place(host: host, plan: isOfPlan ? key.plan : nil)
        let now = NIODeadline.now()
        state.withLock { state in
            switch lesson {
            // What hung before is not dead for a shorter time because it now refuses.
            case .dead:
                if state.unusable.value(for: place, at: now) == nil {
                    state.unusable.insert(true, for: place, until: now + Self.afterDeath, at: now)
                }
            case .hung: state.unusable.insert(true, for: place, until: now + Self.afterHanging, at: now)
            case .mayHaveIt:
                let copy = Copy(message: message, host: host)
                state.doubts.insert(true, for: copy, until: now + Self.ofDoubt, at: now)
            case .takes(let count): state.limits.insert(count, for: host, until: now + Self.ofLimits, at: now)
            }
        }
    }
}
