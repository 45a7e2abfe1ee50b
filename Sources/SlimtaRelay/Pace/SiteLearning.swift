// What a site turned out to allow, apart from how it fares just now: kept longer than SiteMachine, over restarts, shown to
// operators and set by them.

import SlimtaMail

/// The limits of a site that are worth keeping.
struct SiteLearning: Hashable, Sendable {
    /// Messages a second; nil: no limit is known.
    var rate: Double?
    /// Recipients in a transaction.
    var recipients: Int?
    /// Messages in a session.
    var messages: Int?
    var greylisting: GreylistMemory.Knowledge?

    /// A transaction ended with "no more recipients" behind so many that were accepted.
    mutating func stopped(afterRecipients count: Int) { recipients = max(1, min(count, recipients ?? count)) }

    /// A session ended with "no more messages" behind so many: the next ones end themselves one earlier.
    mutating func stopped(afterMessages count: Int) { messages = max(1, min(count - 1, messages ?? count - 1)) }
}
