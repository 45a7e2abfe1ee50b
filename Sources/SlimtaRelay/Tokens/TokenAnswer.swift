// What a token endpoint says (RFC 6749 sections 5.1 and 5.2), as a function of values. Read by TokenSource.

import NIOCore
import SlimtaMail
import SlimtaNet

/// A token, or why there is none.
enum TokenAnswer: Hashable {
    struct Token: Hashable {
        let text: String
        /// nil: the endpoint does not say how long it is good.
        let lifetime: Duration?
        /// In place of the one that was used.
        var refreshToken: String?
    }

    case token(Token)
    /// Nothing is wrong with what we have asked: why, and when the endpoint wants to be asked again, if it says.
    case later(String, after: Duration?)
    /// The operator has something to put right: why.
    case refused(String)

    /// Tokens are longer the more they say; what is longer than that fits into no line of SMTP.
    private static let longestToken = 8192
    /// RFC 6749 section 5.2 has more, and there are others' own.
    private static let passing: Set<String> = ["temporarily_unavailable", "server_error", "slow_down"]
    private static let longestWords = 200

    init(_ result: Result<HTTPAnswer, HTTPSClient.Failure>, now: Timestamp) {
        switch result {
        case .failure(let failure): self = .later(failure.description, after: nil)
        case .success(let answer):
            self.init(
                status: answer.status, body: answer.body, retryAfter: answer.retryAfter(now: now),
                theirs: answer.values("date").first.flatMap { Timestamp(httpDate: $0) }, now: now)
        }
    }

    /// - Parameter theirs: the endpoint's clock, if it tells.
    init(status: Int, body: ByteBuffer, retryAfter: Duration?, theirs: Timestamp?, now: Timestamp) {
        let json = try? JSON(parsing: body.readableBytesView)
        if status == 200 {
            self = json.flatMap(Self.token).map { .token($0) } ?? .later("its answer has no token", after: nil)
            return
        }
        let code = json?["error"].text.map { $0.visible.cut(toOctets: Self.longestWords) }
        let words =
            json?["error_description"].text.map { ": \($0.visible.cut(toOctets: Self.longestWords))" } ?? ""
        let why = "it answers \(status)\(code.map { " \($0)" } ?? "")\(words)"
        if status == 429 || status >= 500 || code.map(Self.passing.contains) ?? false {
            self = .later(why, after: retryAfter)
        } else {
            self = .refused(why + Self.clock(code, theirs: theirs, now: now))
        }
    }

    private static func token(_ json: JSON) -> Token? {
        guard let text = json["access_token"].text, (1...longestToken).contains(text.utf8.count),
            text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
            json["token_type"].text.map({ $0.asciiLowercased() == "bearer" }) ?? true
        else { return nil }
        // There are endpoints that write the number as a string.
        let seconds = json["expires_in"].double ?? json["expires_in"].text.flatMap { Double($0) }
        let refresh = json["refresh_token"].text.flatMap { text in
            !text.isEmpty && text.utf8.count <= longestToken && text.hasNoASCIIControl ? text : nil
        }
        return Token(
            text: text, lifetime: seconds.map { .seconds(min(max(0, $0), 366 * 86_400)) }, refreshToken: refresh)
    }

    /// What a statement is worth depends on the clock that it is read by.
    private static func clock(_ code: String?, theirs: Timestamp?, now: Timestamp) -> String {
        guard code == "invalid_grant", let theirs else { return "" }
        let seconds = (now - theirs).components.seconds
        guard abs(seconds) > 60 else { return "" }
        return "; our clock is \(abs(seconds)) s \(seconds > 0 ? "ahead of" : "behind") its clock"
    }
}
