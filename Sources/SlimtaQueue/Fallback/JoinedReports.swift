// What two storages of one queue tell people together: called by FallbackStorage.

import SlimtaMail

extension QueuedPage {
    /// One page of two, each of which has at most `count` envelopes: what is behind the end of one is looked at again.
    init(_ a: QueuedPage, _ b: QueuedPage, atMost count: Int) {
        // Up to where both have looked; nil: to the end.
        var end = [a.next, b.next].compactMap(\.self).min()
        envelopes = (a.envelopes + b.envelopes).sorted { $0.envelope.id < $1.envelope.id }
        if envelopes.count > count {
            let last = envelopes[count - 1].envelope.id
            end = end.map { min($0, last) } ?? last
        }
        unreadable = (a.unreadable + b.unreadable).sorted { $0.id < $1.id }
        if let end {
            envelopes.removeAll { $0.envelope.id > end }
            unreadable.removeAll { $0.id > end }
        }
        next = end
    }
}

extension StorageStatus {
    /// Mail is taken as long as one of them takes it. The disk is that of the local one, the node that of home.
    init(home: StorageStatus, local: StorageStatus) {
        self = local
        // The local one is full while home takes mail: then that is not what counts.
        isFull = home.failure == nil ? home.isFull : local.isFull
        failure = home.failure.flatMap { reason in local.failure == nil ? nil : reason }
        if failure == nil {
            away = [
                home.failure.map { "the queue's home is away, new mail goes into the local queue: \($0)" },
                local.failure.map { "the local queue: \($0)" },
            ].compactMap(\.self)
        }
        losses = home.losses + local.losses
        progress &+= home.progress
        isBusy = isBusy || home.isBusy
        node = home.node
    }
}
