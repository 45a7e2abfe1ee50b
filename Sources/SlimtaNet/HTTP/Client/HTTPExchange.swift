// One request and its answer on a connection, as a value without I/O: what an answer is worth, where it ends, whether the
// connection may be used again, and whether the request may. Driven by HTTPClientHandler.

internal import NIOCore
import NIOHTTP1

/// The rules of one exchange.
///
/// ```
///              sent                 head                end
/// sending ───────────▶ answering ─────────▶ (reading) ───────▶ over
///    │       head: stopSending      ▲
///    └──────────────────────────────┘
/// ```
///
/// Whatever else happens ends it as well. An answer that begins before the whole request was sent is an answer, since
/// servers refuse what is too large like that; but nothing more is sent, and the connection is of no use after it.
///
/// A connection that was kept may have been given up by the server when the request was on its way (RFC 9112 section
/// 9.3.1). If it ends before the first octet of an answer, an idempotent request is made once more on another.
struct HTTPExchange: Equatable {
    enum Event {
        /// The last octet of the request has left.
        case sent
        /// Octets of an answer, before they are understood: more than nothing.
        case octets
        /// The head of the final answer.
        case head(HTTPResponseHead)
        /// So many octets of the answer's body.
        case body(Int)
        /// The whole answer is there.
        case end
        /// The connection has ended, or is of no use any more.
        case lost(HTTPClientError)
        /// The deadline of the phase has passed.
        case timedOut
        /// Nobody wants the answer any more.
        case cancelled
    }

    enum Action: Equatable {
        /// Nothing.
        case none
        /// Nothing more of the request is to be sent.
        case stopSending
        /// What comes within ``HTTPClientLimits/cancelledTimeout`` is still taken.
        case hurry
        /// The answer is whole.
        case answered(mayKeep: Bool)
        /// The connection was dead, and the request is to be made on another.
        case stale
        /// There is no answer.
        case failed(HTTPClientError)
    }

    /// Octets of the answer's body.
    private let limit: Int
    private let isHead: Bool
    private let isReused: Bool
    private let isIdempotent: Bool
    private let mayHurry: Bool

    private(set) var isSent = false
    /// Whether the answer began before the request had ended.
    private(set) var isEarly = false
    private var hasOctets = false
    private var isKept = false
    private var length = 0
    private var isCancelled = false
    private(set) var isOver = false

    /// - Parameters:
    ///   - isReused: whether the connection has done another request before.
    ///   - isIdempotent: whether the request may be made twice.
    init(_ limits: HTTPClientLimits, method: String, isReused: Bool, isIdempotent: Bool) {
        limit = limits.body
        isHead = method == "HEAD"
        mayHurry = limits.cancelledTimeout > .zero
        self.isReused = isReused
        self.isIdempotent = isIdempotent
    }

    mutating func received(_ event: Event) -> Action {
        if isOver { return .none }
        switch event {
        case .sent:
            isSent = true
            return .none
        case .octets:
            hasOctets = true
            return .none
        case .head(let head): return began(head)
        case .body(let count):
            length += count
            return length <= limit ? .none : ended(.failed(.tooLarge))
        case .end: return ended(.answered(mayKeep: isKept && isSent && !isEarly))
        case .lost(let error):
            let isStale = isReused && isIdempotent && !hasOctets && !isCancelled
            return ended(isStale ? .stale : .failed(error))
        case .timedOut:
            return ended(.failed(isCancelled ? .cancelled : .timedOut(isSent ? .answering : .sending)))
        case .cancelled:
            guard isSent, mayHurry else { return ended(.failed(.cancelled)) }
            isCancelled = true
            return .hurry
        }
    }

    private mutating func ended(_ action: Action) -> Action {
        isOver = true
        return action
    }

    private mutating func began(_ head: HTTPResponseHead) -> Action {
        hasOctets = true
        if let fault = Self.fault(of: head) { return ended(.failed(.malformed(fault))) }
        // RFC 9112 section 6.3: with neither of these fields the answer ends with the connection.
        let hasEnd =
            isHead || [204, 304].contains(head.status.code) || head.headers.contains(name: "content-length")
            || head.headers.contains(name: "transfer-encoding")
        isKept = hasEnd && head.isKeepAlive && head.version == .http1_1
        guard !isSent else { return .none }
        isEarly = true
        return .stopSending
    }

    /// Why nobody knows where the answer ends (RFC 9112 section 6.3), beyond what NIO's decoder refuses.
    private static func fault(of head: HTTPResponseHead) -> String? {
        if head.status.code == 101 { return "101 to a request that asked for no other protocol" }
        let codings = head.headers["transfer-encoding"]
        guard !codings.isEmpty else { return nil }
        let isPlain = codings.count == 1 && codings[0].lowercased() == "chunked"
        guard isPlain, head.version == .http1_1, !head.headers.contains(name: "content-length") else {
            return "Transfer-Encoding is chunked, alone, and without Content-Length"
        }
        return nil
    }
}
