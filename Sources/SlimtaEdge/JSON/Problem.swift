// What is said to a request for JSON that is not done: a problem of RFC 9457. The resource for messages makes them.

package import SlimtaMail
package import SlimtaNet

/// Why a request was not done (RFC 9457).
package struct Problem: Error, Sendable {
    /// What kind it is: programs go by it. The raw value is the end of its type, a path that stays the same.
    package enum Kind: String, CaseIterable, Sendable {
        case invalidRequest = "invalid-request"
        case notAuthenticated = "not-authenticated"
        case notAllowed = "not-allowed"
        case notFound = "not-found"
        case methodNotAllowed = "method-not-allowed"
        case inProgress = "in-progress"
        case tooLarge = "too-large"
        case unsupportedType = "unsupported-type"
        case refused = "refused"
        case keyReused = "key-reused"
        case unavailable = "unavailable"

        /// The status of HTTP that it comes with.
        package var status: Int {
            switch self {
            case .invalidRequest: 400
            case .notAuthenticated: 401
            case .notAllowed: 403
            case .notFound: 404
            case .methodNotAllowed: 405
            case .inProgress: 409
            case .tooLarge: 413
            case .unsupportedType: 415
            case .refused, .keyReused: 422
            case .unavailable: 503
            }
        }

        /// In words that are the same each time (RFC 9457 section 3.1.3).
        package var title: String {
            switch self {
            case .invalidRequest: "The request is not as it has to be"
            case .notAuthenticated: "A login is needed"
            case .notAllowed: "This login may not do that"
            case .notFound: "There is nothing here"
            case .methodNotAllowed: "This cannot be done here"
            case .inProgress: "The same submission is in progress"
            case .tooLarge: "The message is too large"
            case .unsupportedType: "Only JSON is taken"
            case .refused: "The message was refused"
            case .keyReused: "The key belongs to another submission"
            case .unavailable: "The message cannot be taken now"
            }
        }
    }

    /// What kind it is.
    package var kind: Kind
    /// What is wrong this time, for people.
    package var detail: String
    /// Where the request is wrong.
    package var errors: [RequestFault] = []
    /// Those that were refused, where all were.
    package var verdicts: [MessageVerdict] = []
    /// Further fields of the answer, such as Allow.
    package var fields: [(name: String, value: String)] = []

    /// A problem of a kind.
    package init(_ kind: Kind, _ detail: String) {
        self.kind = kind
        self.detail = detail
    }

    /// A request with these mistakes.
    package init(_ faults: RequestFaults) {
        let count = faults.faults.count
        self.init(.invalidRequest, count == 1 ? "One thing is wrong." : "\(count) things are wrong.")
        errors = faults.faults
    }

    /// What the queue, a rule or a limit has to say: as over SMTP.
    package init(_ reply: Reply, isForbidden: Bool = false) {
        let kind: Kind =
            switch reply.code {
            case 400..<500: .unavailable
            case 530, 535: isForbidden ? .notAllowed : .notAuthenticated
            case 552: .tooLarge
            default: isForbidden ? .notAllowed : .refused
            }
        self.init(kind, reply.description)
    }

    /// All recipients were refused: for now, if one of them was.
    package init(refusing verdicts: [MessageVerdict]) {
        let isTemporary = verdicts.contains { $0.refusal?.isTemporary == true }
        self.init(isTemporary ? .unavailable : .refused, "Every recipient was refused.")
        self.verdicts = verdicts
    }

    /// As it is sent.
    package var response: HTTPResponse {
        var members: [JSON.Member] = [
            .init("type", .string("/problems/\(kind.rawValue)")), .init("title", .string(kind.title)),
            .init("status", .count(kind.status)), .init("detail", .string(detail)),
        ]
        if !errors.isEmpty {
            members.append(
                .init(
                    "errors",
                    .array(
                        errors.map {
                            .object([.init("pointer", .string($0.pointer)), .init("detail", .string($0.detail))])
                        })))
        }
        if !verdicts.isEmpty { members.append(.init("recipients", .array(verdicts.map(\.json)))) }
        var response = HTTPResponse(.object(members), status: kind.status)
        response.fields = [("Content-Type", "application/problem+json")] + fields
        switch kind {
        case .notAuthenticated: response.fields.append(("WWW-Authenticate", HTTPAuthorization.challenge))
        case .unavailable: response.fields.append(("Retry-After", "\(HTTPReply.retryAfter)"))
        case .inProgress: response.fields.append(("Retry-After", "1"))
        case .invalidRequest, .notAllowed, .notFound, .methodNotAllowed, .tooLarge, .unsupportedType, .refused,
            .keyReused:
            break
        }
        return response
    }
}

/// What is said of a recipient before a message is taken.
package struct MessageVerdict: Sendable {
    /// The address.
    package var recipient: Mailbox
    /// Why not; nil: the message goes there.
    package var refusal: Reply?

    /// As part of an answer.
    var json: JSON {
        var members: [JSON.Member] = [
            .init("address", .string(recipient.text)), .init("accepted", .bool(refusal == nil)),
        ]
        if let refusal { members.append(.init("reply", .string(refusal.description))) }
        return .object(members)
    }
}
