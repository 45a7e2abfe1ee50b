// What may come next on a server's connection of HTTP: HTTPServerExchange, as a table and over all short histories.

import Testing

@testable import SlimtaNet

/// What happens on a connection, a letter each: a table of histories stays readable.
private enum Event: Character, CaseIterable {
    case requestBegins = "q"
    case requestEnds = "e"
    case answerBegins = "a"
    case lastAnswerBegins = "l"
    case answerEnds = "z"
    case drain = "d"
    case malformed = "x"
}

@Suite struct HTTPServerExchangeTests {
    typealias Next = HTTPServerExchange.Next

    /// What the last event of a history leads to; nil: it is one that says nothing.
    private static func apply(_ event: Event, to exchange: inout HTTPServerExchange) -> Next? {
        switch event {
        case .requestBegins: exchange.requestBegins()
        case .requestEnds: return exchange.requestEnds()
        case .answerBegins: exchange.answerBegins(isLast: false)
        case .lastAnswerBegins: exchange.answerBegins(isLast: true)
        case .answerEnds: return exchange.answerEnds()
        case .drain: return exchange.drain()
        case .malformed: return exchange.isMalformed()
        }
        return nil
    }

    @Test(
        "What each history leads to",
        arguments: [
            // One request after another.
            ("qe", Next.goOn, false), ("qeaz", .awaitHead, false), ("qeazqeaz", .awaitHead, false),
            // Answered before it was read.
            ("qaz", .forgetRest, false), ("qaze", .awaitHead, false), ("qae", .goOn, false),
            ("qaez", .awaitHead, false),
            // The last answer.
            ("qelz", .awaitHead, true), ("qlz", .forgetRest, true), ("qel", nil, false),
            // The server stops: between requests, in one, in its answer, behind an early one.
            ("d", .close, false), ("qd", .goOn, false), ("qde", .goOn, false), ("qdeaz", .awaitHead, true),
            ("qead", .goOn, false), ("qeadz", .awaitHead, true), ("qdaz", .forgetRest, true),
            ("qeazd", .close, false), ("qazd", .goOn, false), ("qazde", .close, false), ("qeldz", .awaitHead, true),
            ("qelzd", .goOn, true),
            // No HTTP: at the beginning, in a body, and not where an answer is owed, on its way or given.
            ("x", .refuse, true), ("qx", .refuse, true), ("qeazx", .refuse, true), ("qex", .close, true),
            ("qax", .close, true), ("qeax", .close, true), ("qazx", .close, true), ("qlzx", .close, true),
            ("xx", .close, true), ("dx", .refuse, true), ("qdx", .refuse, true),
        ])
    func history(_ events: String, _ next: Next?, _ isEnded: Bool) {
        var exchange = HTTPServerExchange()
        var last: Next?
        for event in events { last = Self.apply(Event(rawValue: event)!, to: &exchange) }
        #expect(last == next)
        #expect(exchange.isEnded == isEnded)
    }

    /// The driver asks ``HTTPServerExchange/isEnded`` first, and a service answers what was asked, once.
    private struct Peers {
        var (isWhole, isAnswering, isAnswered, isClosed) = (true, false, true, false)
        var isLast = false

        func may(_ event: Event, _ exchange: HTTPServerExchange) -> Bool {
            guard !isClosed else { return false }
            switch event {
            case .requestBegins: return !exchange.isEnded && isWhole && isAnswered
            case .requestEnds: return !exchange.isEnded && !isWhole
            case .answerBegins, .lastAnswerBegins: return !exchange.isEnded && !isAnswered && !isAnswering
            case .answerEnds: return !exchange.isEnded && isAnswering
            case .drain, .malformed: return true
            }
        }

        mutating func saw(_ event: Event) {
            switch event {
            case .requestBegins: (isWhole, isAnswered) = (false, false)
            case .requestEnds: isWhole = true
            case .answerBegins, .lastAnswerBegins: (isAnswering, isLast) = (true, event == .lastAnswerBegins)
            case .answerEnds: (isAnswering, isAnswered) = (false, true)
            case .drain, .malformed: break
            }
        }
    }

    @Test("In no history is a request answered twice, or anything behind the last answer")
    func allHistories() {
        var count = 0
        func walk(_ exchange: HTTPServerExchange, _ peers: Peers, _ isDrained: Bool, _ depth: Int) {
            count += 1
            guard depth > 0 else { return }
            for event in Event.allCases where peers.may(event, exchange) {
                var (exchange, after) = (exchange, peers)
                let wasEnded = exchange.isEnded
                let next = Self.apply(event, to: &exchange)
                after.saw(event)
                switch next {
                case .refuse:
                    #expect(!wasEnded && !peers.isAnswering && peers.isAnswered == peers.isWhole)
                    after.isClosed = true
                case .close:
                    // Never in the middle of an answer, unless what came is no HTTP.
                    #expect(event == .malformed || !after.isAnswering && after.isAnswered && after.isWhole)
                    after.isClosed = true
                case .awaitHead: #expect(after.isWhole && after.isAnswered)
                case .forgetRest: #expect(!after.isWhole && after.isAnswered)
                case .goOn, nil: #expect(event != .malformed)
                }
                if event == .answerEnds { #expect(exchange.isEnded == (peers.isLast || isDrained)) }
                if event == .malformed { #expect(exchange.isEnded) }
                walk(exchange, after, isDrained || event == .drain, depth - 1)
            }
        }
        walk(HTTPServerExchange(), Peers(), false, 9)
        #expect(count > 1000)
    }
}
