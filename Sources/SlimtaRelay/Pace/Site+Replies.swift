// What hosts of a site say to messages, and what that means for the pace. HostTrial asks; the pool's drivers ask for the
// messages in a session.

import Logging
import SlimtaMail
import SlimtaSMTP
import Synchronization

/// What came of a transaction.
struct Transaction {
    let sender: Mailbox?
    let recipients: [Mailbox]
    /// One for each of the recipients.
    var outcomes: [Outcome]
    let causes: [OutcomeCause]
    /// How many messages the session had done before.
    let messagesBefore: Int
}

extension Site {
    /// How long who needs another session waits for it.
    private static let sessionTime: Duration = .seconds(2)

    /// Learns from what came of a transaction. An outcome that is the site's matter says so afterwards: it is postponed, or to
    /// be tried again at a time that is known.
    func learn(from transaction: inout Transaction) {
        func pair(_ index: Int) -> GreylistMemory.Pair {
            .init(sender: transaction.sender?.text ?? "", recipient: transaction.recipients[index].text)
        }
        let all = transaction
        let (outcomes, news) = change { state, now in
            var outcomes = all.outcomes
            let before = state.machine.learning
            let done = outcomes.indices.filter { outcomes[$0].result == .delivered }
            if !done.isEmpty { state.machine.accepted(done.map(pair), at: now) }
            let accepted = all.causes.count { $0.stage > .recipient }
            // Of what is said of the whole message one recipient is enough.
            var whole: Machine.Disposition?
            for index in outcomes.indices where Self.isRefusal(outcomes[index], all.causes[index]) {
                let isWhole = all.causes[index].stage != .recipient
                let disposition: Machine.Disposition
                if isWhole, let known = whole {
                    disposition = known
                } else {
                    disposition = state.machine.refused(
                        outcomes[index].reply, pair(index), accepted: isWhole ? 0 : accepted,
                        messages: all.messagesBefore, at: now, spread: Double.random(in: 0...1))
                    if isWhole { whole = disposition }
                }
                switch disposition {
                case .own, .fewerRecipients: break
                case .postponed(let until): outcomes[index].postponed = max(until - now, .seconds(1))
                case .retry(let until): outcomes[index].retryAfter = max(until - now, .zero)
                case .newSession: outcomes[index].postponed = Self.sessionTime * Double.random(in: 1...2)
                }
            }
            return (outcomes, Self.news(before, state, now))
        }
        transaction.outcomes = outcomes
        tell(news)
    }

    /// Refused for now, by what the host said.
    private static func isRefusal(_ outcome: Outcome, _ cause: OutcomeCause) -> Bool {
        outcome.result == .temporary && outcome.isRemote && cause.kind == .reply
    }

    // MARK: Messages in a session

    /// Whether a session is to do no more: it has done so many messages, the last one with these outcomes.
    func isUsedUp(_ outcomes: [Outcome], after messages: Int) -> Bool {
        if messages > 1, let outcome = outcomes.first(where: { $0.result == .temporary && $0.isRemote }),
            ReplyClass(outcome.reply, .init()) == .messages
        {
            let news = change { state, now in
                let before = state.machine.learning
                state.machine.stopped(afterMessages: messages - 1, at: now)
                return Self.news(before, state, now)
            }
            tell(news)
            return true
        }
        return state.withLock { $0.machine.mostMessages }.map { messages >= $0 } ?? false
    }

    // MARK: News

    private typealias News = (event: SiteEvent, metadata: Logger.Metadata)

    private static func news(_ old: SiteLearning, _ state: State, _ now: Timestamp) -> [News] {
        let new = state.machine.learning
        var news: [News] = []
        // It grows by itself, and that is none.
        if let rate = new.rate, rate < old.rate ?? .infinity {
            let pause = max(state.machine.rate.pausedUntil - now, .zero)
            news.append((.rate, ["rate": "\(RateText.text(rate))", "next": "\(pause.milliseconds / 1000)s"]))
        }
        if let count = new.recipients, count != old.recipients {
            news.append((.recipients, ["recipients": "\(count)"]))
        }
        if let count = new.messages, count != old.messages { news.append((.messages, ["messages": "\(count)"])) }
        if new.greylisting != nil, old.greylisting == nil { news.append((.greylisting, [:])) }
        return news
    }

    private func tell(_ news: [News]) {
        for one in news {
            logger.notice(one.event.message, metadata: one.metadata.merging(["site": "\(key)"]) { $1 })
        }
    }
}

/// What was learned of a site.
private enum SiteEvent {
    case rate
    case recipients
    case messages
    case greylisting

    var message: Logger.Message {
        switch self {
        case .rate: "site limits the rate"
        case .recipients: "site limits recipients"
        case .messages: "site limits messages"
        case .greylisting: "site lets strangers wait"
        }
    }
}
