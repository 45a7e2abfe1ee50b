// Where the requests and answers of a server's connection are: a value, without I/O. HTTPServerHandler has one, tells it
// what comes in and what goes out, and does what it says.

/// What may come next on a connection of HTTP/1.1, where one request is answered after another (RFC 9112 section 9.3).
///
/// NIO keeps requests that are sent ahead back until the one before is answered: there is one request at a time.
struct HTTPServerExchange {
    /// Of the request that is answered next.
    private enum Request { case none, coming, whole }

    /// To it. A last one announces that the connection ends with it.
    private enum Answer { case none, begun, last, given }

    /// Of the connection. Ended: nothing more is answered, as the last answer was given or what came was no HTTP.
    private enum Life { case open, draining, ended }

    /// What the driver is to do next.
    enum Next: Equatable {
        /// What is under way goes on.
        case goOn
        /// Wait for the head of a request; the one before is read and answered.
        case awaitHead
        /// Send 400 or 431, and end the connection.
        case refuse
        /// End the connection.
        case close
        /// The rest of the request is read to be forgotten, if it is read at all.
        case forgetRest
    }

    private var request = Request.none
    private var answer = Answer.none
    private var life = Life.open

    /// A request that was sent behind the last answer must not be done, as nobody would be told of it; and nobody may answer.
    var isEnded: Bool { life == .ended }

    /// The server stops: the answer that is given next is the last one.
    var isDraining: Bool { life == .draining }

    /// The server stops: the request that has begun is the last one.
    mutating func drain() -> Next {
        guard life == .open else { return .goOn }
        life = .draining
        return request == .none ? .close : .goOn
    }

    /// What came is no HTTP. It is answered even in the middle of a body, but only once and never into another answer.
    mutating func isMalformed() -> Next {
        defer { life = .ended }
        return !isEnded && request != .whole && answer == .none ? .refuse : .close
    }

    /// The head of a request has come in.
    mutating func requestBegins() { (request, answer) = (.coming, .none) }

    /// The request has come in.
    mutating func requestEnds() -> Next {
        request = .whole
        guard answer == .given else { return .goOn }
        return isDraining ? .close : awaitsHead()
    }

    /// The head of an answer goes out: a final one, none that informs.
    mutating func answerBegins(isLast: Bool) { answer = isLast ? .last : .begun }

    /// The answer has gone out. To be called before it is passed on: a request that waited for it comes in at once.
    mutating func answerEnds() -> Next {
        if answer == .last || isDraining { life = .ended }
        answer = .given
        return request == .whole ? awaitsHead() : .forgetRest
    }

    private mutating func awaitsHead() -> Next {
        (request, answer) = (.none, .none)
        return .awaitHead
    }
}
