// What DirectoryMachine has its driver do, and what the driver says came of it.

internal import SlimtaMail

extension DirectoryMachine {
    /// What is to be done.
    enum Action: Equatable {
        /// Open the folder, and begin to watch it. ``opened(_:)`` or ``cannotOpen(_:)``.
        case open
        /// Files whose messages are stored: take their names away, durably, then forget their receipts. ``removed(_:isDone:_:)``.
        case remove([TakenFile])
        /// Move it to `failed`, with the reply beside it. ``setAside(_:isDone:_:)``.
        case setAside(TakenFile, Reply)
        /// Submit it, beside all else. ``submitted(_:_:_:)``.
        case submit(TakenFile)
        /// Read the folder and `taken`. ``scanned(_:taken:isAll:wall:_:)``.
        case scan
        /// See what these names are now. ``looked(_:_:)``.
        case look([PickupName])
        /// Rename these into `taken`, durably, if they still are as they were, and if there is room for messages at all.
        /// ``took(_:_:)``, or ``noRoom(_:)``.
        case take([PickupFile])
        /// Nothing until then, unless something happens.
        case wait(until: Instant)
        /// Close the folder: it is gone. ``closed(_:)``.
        case close
        /// All that was taken is done, and nothing more will be.
        case end
    }

    /// What came of a submission.
    enum Outcome: Equatable {
        /// It is in the queue, now or since before a crash.
        case stored
        /// For good, by this reply.
        case refused(Reply)
        /// For now.
        case later(Reply)
        /// Somebody wrote to it while it was read.
        case changed
    }

    /// What came of taking a file.
    enum Taking: Equatable {
        case taken(TakenFile)
        /// It is another one than it was.
        case changed(FileFacts)
        /// It is not there, or cannot be taken.
        case not
    }
}
