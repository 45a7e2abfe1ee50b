// What a site turned out to allow, apart from how it fares just now: kept longer than SiteMachine, over restarts, shown to
// operators and set by them.

import SlimtaMail

/// The limits of a site that are worth keeping.
///
/// How many recipients and messages it takes is not for ever, and may have been about one sender or one domain: after a day
/// twice as many are tried, until it says again how many it takes, or until it is no limit.
struct SiteLearning: Hashable, Sendable {
    /// Messages a second; nil: no limit is known.
    var rate: Double?
    /// Recipients in a transaction.
    var recipients: Int?
    /// Messages in a session.
    var messages: Int?
    var greylisting: GreylistMemory.Knowledge?
    /// When the site last said so, or more was last tried.
    var recipientsFound: Timestamp?
    /// Likewise.
    var messagesFound: Timestamp?

    /// As many are ever wanted: more is no limit.
    static let most = 100
    /// When more is tried.
    static let trialTime: Duration = .seconds(86_400)

    /// A transaction ended with "no more recipients" behind so many that were accepted.
    mutating func stopped(afterRecipients count: Int, at now: Timestamp) {
        recipients = max(1, min(count, recipients ?? count))
        recipientsFound = now
    }

    /// A session ended with "no more messages" behind so many: the next ones end themselves one earlier.
    mutating func stopped(afterMessages count: Int, at now: Timestamp) {
        messages = max(1, min(count - 1, messages ?? count - 1))
        messagesFound = now
    }

    /// Limits of which nothing was heard for a day are tried.
    mutating func tryMore(at now: Timestamp) {
        Self.tryMore(&recipients, &recipientsFound, now)
        Self.tryMore(&messages, &messagesFound, now)
    }

    private static func tryMore(_ limit: inout Int?, _ found: inout Timestamp?, _ now: Timestamp) {
        guard let known = limit else { return }
        guard let since = found else {
            found = now
            return
        }
        guard now - since >= trialTime else { return }
        limit = known < most / 2 ? known * 2 : nil
        found = limit == nil ? nil : now
    }
}
