// What a mechanism is for SASLServer and SASLClient, which run it.

/// One mechanism's side of the server: what SASLServer runs.
protocol ServerExchange: Sendable {
    /// What the server says first where the client has sent no initial response; empty for client-first mechanisms.
    var greeting: [UInt8] { get }
    /// Who the client says it is, as far as it has said.
    var login: String? { get }
    /// Whether the client has learned so much that to break off now is a try that failed.
    var isTried: Bool { get }
    /// The next response.
    mutating func received(_ response: [UInt8]) -> SASLStep
    /// The answer to the question that it asked.
    mutating func answered(_ answer: SASLAnswer) -> SASLStep
}

extension ServerExchange {
    var greeting: [UInt8] { [] }
    var isTried: Bool { false }
}

/// One mechanism's side of the client: what SASLClient runs.
protocol ClientExchange: Sendable {
    /// Whether the server's success may be believed.
    var isProven: Bool { get }
    /// What the server has said against a token; nil: nothing.
    var tokenRefusal: TokenRefusal? { get }
    /// The initial response; nil: the server speaks first.
    mutating func begin() -> [UInt8]?
    /// The response to a challenge; nil: break off.
    mutating func respond(to challenge: [UInt8]) -> [UInt8]?
}

extension ClientExchange {
    var isProven: Bool { true }
    var tokenRefusal: TokenRefusal? { nil }
}
