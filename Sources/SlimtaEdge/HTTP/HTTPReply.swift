// How a reply of SMTP is said over HTTP: status, X-Smtp-Reply, and what the status asks for. The manual's protocol; the relay
// over HTTP reads it back.

internal import NIOCore
package import SlimtaMail
internal import SlimtaNet

/// Answers that are replies.
package enum HTTPReply {
    /// The field that has the reply.
    package static let fieldName = "X-Smtp-Reply"
    /// How long, in seconds, whoever got 503 is to wait (RFC 9110 section 10.2.3).
    static let retryAfter = 60

    /// The status that a reply is said with.
    ///
    /// - Parameters:
    ///   - isForbidden: who sends is the reason.
    ///   - hasChallenge: whether a client can say who it is.
    package static func status(_ reply: Reply, isForbidden: Bool = false, hasChallenge: Bool) -> Int {
        switch reply.code {
        case 200...299: 200
        case 400...499: 503
        case 530, 535: hasChallenge ? 401 : 403
        case 552: 413
        default: isForbidden ? 403 : 422
        }
    }

    /// What ``fieldName`` has: `250; message="2.6.0 Message accepted for delivery"`.
    package static func field(_ reply: Reply) -> String {
        let text = (reply.status.map { "\($0) " } ?? "") + reply.text
        var quoted = ""
        for scalar in text.unicodeScalars {
            if scalar == "\"" || scalar == "\\" { quoted += "\\" }
            quoted.unicodeScalars.append(scalar.endsLineOrSteers ? "?" : scalar)
        }
        return "\(reply.code); message=\"\(quoted)\""
    }

    /// The whole answer, with what its status asks for. One that is a reply has nothing else: the ancestor's relay does not
    /// read more, and could not use the connection again.
    static func response(
        _ status: Int, _ reply: Reply?, _ text: String, _ more: [(name: String, value: String)] = [],
        challenge: String = HTTPAuthorization.challenge
    ) -> HTTPResponse {
        var fields: [(name: String, value: String)] =
            if let reply { [(fieldName, field(reply))] } else { [("Content-Type", "text/plain; charset=utf-8")] }
        switch status {
        case 401: fields.append(("WWW-Authenticate", challenge))
        case 503: fields.append(("Retry-After", "\(retryAfter)"))
        default: break
        }
        return HTTPResponse(status, fields + more, .whole(.init(string: reply == nil ? text + "\n" : "")))
    }
}

extension Reply {
    /// What a client is told that is one too many.
    static let tooManyConnections = Reply(421, .init(4, 7, 0), "Too many connections")
}
