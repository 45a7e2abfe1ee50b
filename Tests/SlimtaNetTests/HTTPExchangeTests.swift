// The rules of one request and its answer: every event in every state.

import NIOCore
import NIOHTTP1
import Testing

@testable import SlimtaNet

private typealias Event = HTTPExchange.Event
private typealias Action = HTTPExchange.Action

private func head(
    _ status: Int = 200, _ fields: [(String, String)] = [("Content-Length", "3")], version: HTTPVersion = .http1_1
) -> Event {
    .head(HTTPResponseHead(version: version, status: .init(statusCode: status), headers: HTTPHeaders(fields)))
}

private func limits(grace: TimeAmount = .zero) -> HTTPClientLimits {
    var limits = HTTPClientLimits()
    limits.body = 10
    limits.cancelledTimeout = grace
    return limits
}

private func exchange(
    method: String = "POST", isReused: Bool = false, isIdempotent: Bool = false, grace: TimeAmount = .zero
) -> HTTPExchange {
    HTTPExchange(limits(grace: grace), method: method, isReused: isReused, isIdempotent: isIdempotent)
}

/// What comes of the last of some events.
private func last(_ events: [Event], of exchange: HTTPExchange) -> Action {
    var exchange = exchange
    var action = Action.none
    for event in events { action = exchange.received(event) }
    return action
}

@Suite struct HTTPExchangeTests {
    /// The ways into each state.
    private let states: [(name: String, events: [Event])] = [
        ("sending", []), ("answering", [.sent]), ("begun", [.sent, .octets]), ("reading", [.sent, head()]),
        ("early", [head()]), ("over", [.sent, head(), .end]), ("failed", [.lost(.endedEarly)]),
    ]

    @Test func everyEventInEveryState() {
        let events: [(event: Event, actions: [Action])] = [
            (.sent, [.none, .none, .none, .none, .none, .none, .none]),
            (.octets, [.none, .none, .none, .none, .none, .none, .none]),
            (head(), [.stopSending, .none, .none, .none, .stopSending, .none, .none]),
            (.body(10), [.none, .none, .none, .none, .none, .none, .none]),
            (
                .body(11),
                [
                    .failed(.tooLarge), .failed(.tooLarge), .failed(.tooLarge), .failed(.tooLarge), .failed(.tooLarge),
                    .none, .none,
                ]
            ),
            (
                .end,
                [
                    .answered(mayKeep: false), .answered(mayKeep: false), .answered(mayKeep: false),
                    .answered(mayKeep: true), .answered(mayKeep: false), .none, .none,
                ]
            ),
            (
                .lost(.endedEarly),
                [
                    .failed(.endedEarly), .failed(.endedEarly), .failed(.endedEarly), .failed(.endedEarly),
                    .failed(.endedEarly), .none, .none,
                ]
            ),
            (
                .timedOut,
                [
                    .failed(.timedOut(.sending)), .failed(.timedOut(.answering)), .failed(.timedOut(.answering)),
                    .failed(.timedOut(.answering)), .failed(.timedOut(.sending)), .none, .none,
                ]
            ),
            (
                .cancelled,
                [
                    .failed(.cancelled), .failed(.cancelled), .failed(.cancelled), .failed(.cancelled),
                    .failed(.cancelled), .none, .none,
                ]
            ),
        ]
        for (event, actions) in events {
            for (state, action) in zip(states, actions) {
                #expect(last(state.events + [event], of: exchange()) == action, "\(event) while \(state.name)")
            }
        }
    }

    /// A connection that was kept is dead: who may ask twice does, unless the answer has begun.
    @Test func deadConnections() {
        for (name, events) in states.prefix(5) {
            for isReused in [false, true] {
                for isIdempotent in [false, true] {
                    let action = last(
                        events + [.lost(.endedEarly)], of: exchange(isReused: isReused, isIdempotent: isIdempotent))
                    let isStale = isReused && isIdempotent && ["sending", "answering"].contains(name)
                    #expect(action == (isStale ? .stale : .failed(.endedEarly)), "\(name) \(isReused) \(isIdempotent)")
                }
            }
        }
        // Whoever was cancelled asks no more.
        let cancelled = last(
            [.sent, .cancelled, .lost(.endedEarly)],
            of: exchange(isReused: true, isIdempotent: true, grace: .seconds(1)))
        #expect(cancelled == .failed(.endedEarly))
    }

    @Test func whatMayBeKept() {
        let cases: [(String, Event, Bool)] = [
            ("POST", head(), true), ("POST", head(200, [("Transfer-Encoding", "chunked")]), true),
            ("POST", head(204, []), true), ("POST", head(304, []), true), ("HEAD", head(200, []), true),
            ("POST", head(200, []), false),
            ("POST", head(200, [("Content-Length", "0"), ("Connection", "close")]), false),
            ("POST", head(200, [("Content-Length", "0")], version: .http1_0), false),
            ("POST", head(200, [("Content-Length", "0"), ("Connection", "keep-alive")], version: .http1_0), false),
            ("POST", head(500), true),
        ]
        for (method, head, isKept) in cases {
            #expect(last([.sent, head, .end], of: exchange(method: method)) == .answered(mayKeep: isKept), "\(head)")
        }
    }

    @Test(arguments: [
        (101, [("Upgrade", "x")]), (200, [("Transfer-Encoding", "gzip")]),
        (200, [("Transfer-Encoding", "gzip, chunked")]),
        (200, [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")]),
        (200, [("Transfer-Encoding", "chunked"), ("Content-Length", "3")]),
    ])
    func whereNobodyKnowsTheEnd(status: Int, fields: [(String, String)]) {
        guard case .failed(.malformed) = last([.sent, head(status, fields)], of: exchange()) else {
            Issue.record("\(status) \(fields)")
            return
        }
    }

    /// Behind the end of a request the answer is worth a moment, whoever gave up.
    @Test func cancelledBehindTheEnd() {
        let patient = exchange(grace: .seconds(1))
        #expect(last([.cancelled], of: patient) == .failed(.cancelled))
        #expect(last([.sent, .cancelled], of: patient) == .hurry)
        #expect(last([.sent, .cancelled, .timedOut], of: patient) == .failed(.cancelled))
        #expect(last([.sent, .cancelled, head(), .end], of: patient) == .answered(mayKeep: true))
    }

    /// An answer before the end of the request ends the sending, whatever comes of that.
    @Test func earlyAnswers() {
        var exchange = exchange()
        #expect(exchange.received(head(413)) == .stopSending)
        #expect(exchange.isEarly && !exchange.isSent)
        #expect(exchange.received(.body(3)) == .none)
        #expect(exchange.received(.sent) == .none)
        #expect(exchange.received(.end) == .answered(mayKeep: false))
        #expect(exchange.isOver)
    }
}
