// OAUTHBEARER (RFC 7628) and XOAUTH2, both sides: a token that somebody else has given the client. SASLServer and SASLClient
// run it.

internal import SlimtaMail

/// The server's side. A token that is not good is answered with what a good one needs, and the client owes a response to that
/// (RFC 7628 section 3.2.3) before it is refused.
struct OAuthServer: ServerExchange {
    enum Form {
        /// `n,a=LOGIN,^Ahost=…^Aport=…^Aauth=Bearer TOKEN^A^A`.
        case oauthBearer
        /// `user=LOGIN^Aauth=Bearer TOKEN^A^A`.
        case xoauth2
    }

    private let form: Form
    private let hint: SASLContext.TokenHint
    private(set) var login: String?
    /// Why it will be refused, once the client has answered to what it was told.
    private var fault: SASLFault?

    init(_ form: Form, hint: SASLContext.TokenHint) {
        self.form = form
        self.hint = hint
    }

    var isTried: Bool { fault != nil }

    mutating func received(_ response: [UInt8]) -> SASLStep {
        if let fault { return .refused(fault) }
        do throws(SASLFault) {
            var pairs = response[...]
            if form == .oauthBearer {
                guard let header = GS2Header(response), header.rest.first == Self.separator else { return .malformed }
                if case .of = header.binding { throw .channelBindingNotSupported }
                login = try header.authorization.map { name throws(SASLFault) in try LoginName.normalized(name) }
                pairs = header.rest.dropFirst()
            }
            guard let found = Self.values(of: pairs), let auth = found.auth else { return .malformed }
            if form == .xoauth2, let user = found.user {
                login = try LoginName.normalized(user)
            }
            // Without a token clients ask what one needs (RFC 7628 section 4.3).
            guard let token = Self.token(auth) else { return refuse(.noCredentials) }
            return .ask(.token(login: login, SecretOctets(token)))
        } catch {
            return .refused(error)
        }
    }

    mutating func answered(_ answer: SASLAnswer) -> SASLStep {
        answer == .wrong ? refuse(.invalidCredentials) : .verdict(answer)
    }

    private mutating func refuse(_ fault: SASLFault) -> SASLStep {
        self.fault = fault
        return .challenge(Array(explanation.utf8))
    }

    private static let separator: UInt8 = 1

    /// The pairs `key=value`, each with ^A behind it, and one ^A more. Keys that are not known are passed over.
    private static func values(of pairs: ArraySlice<UInt8>) -> (user: ArraySlice<UInt8>?, auth: ArraySlice<UInt8>?)? {
        var found: (user: ArraySlice<UInt8>?, auth: ArraySlice<UInt8>?) = (nil, nil)
        var parts = pairs.split(separator: separator, omittingEmptySubsequences: false)
        // Behind the last ^A there is nothing, and nothing before it.
        guard parts.count >= 3, parts.popLast()?.isEmpty == true, parts.popLast()?.isEmpty == true else { return nil }
        for part in parts {
            guard let equals = part.firstIndex(of: UInt8(ascii: "=")), equals > part.startIndex else { return nil }
            let value = part[(equals + 1)...]
            switch String(decoding: part[..<equals], as: UTF8.self) {
            // Twice: which one was meant is anybody's guess.
            case "user":
                guard found.user == nil else { return nil }
                found.user = value
            case "auth":
                guard found.auth == nil else { return nil }
                found.auth = value
            default: break
            }
        }
        return found
    }

    /// What stands behind `Bearer`, which may be in any case (RFC 7628 section 3.1): visible characters. Nil: nothing does.
    private static func token(_ value: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard value.prefix(7).map({ $0.asciiLowercased() }).elementsEqual("bearer ".utf8) else { return nil }
        let token = value.dropFirst(7).drop { $0 == 0x20 }
        return !token.isEmpty && token.allSatisfy { (0x21...0x7E).contains($0) } ? token : nil
    }

    /// The JSON of RFC 7628 section 3.2.2, or that of Google.
    private var explanation: String {
        var members: [(String, String)]
        switch form {
        case .oauthBearer: members = [("status", "invalid_token")]
        case .xoauth2: members = [("status", "400"), ("schemes", "Bearer")]
        }
        if let scope = hint.scope { members.append(("scope", scope)) }
        if form == .oauthBearer, let configuration = hint.configuration {
            members.append(("openid-configuration", configuration))
        }
        return "{" + members.map { "\(Self.quoted($0)):\(Self.quoted($1))" }.joined(separator: ",") + "}"
    }

    /// A string of JSON (RFC 8259 section 7). Controls are in no URL and no scope.
    private static func quoted(_ text: String) -> String {
        "\""
            + text.filter { !$0.isASCII || ($0.asciiValue ?? 0) >= 0x20 }
            .reduce(into: "") { $0 += "\"\\".contains($1) ? "\\\($1)" : String($1) } + "\""
    }
}

/// The client's side. What the server says against the token is answered, so that it can say 535 (RFC 7628 section 3.2.3).
struct OAuthClient: ClientExchange {
    private let form: OAuthServer.Form
    private let username: String
    private let token: String
    private let server: SASLPeer?
    private(set) var tokenRefusal: TokenRefusal?

    init(_ form: OAuthServer.Form, username: String, token: String, server: SASLPeer? = nil) {
        self.form = form
        self.username = username
        self.token = token
        self.server = server
    }

    func begin() -> [UInt8]? {
        switch form {
        case .oauthBearer:
            "n,a=".utf8 + SASLName.encode(username.utf8)
                + ",\u{1}\(place)auth=Bearer \(token)\u{1}\u{1}".utf8
        case .xoauth2: Array("user=\(username)\u{1}auth=Bearer \(token)\u{1}\u{1}".utf8)
        }
    }

    private var place: String { server.map { "host=\($0.host)\u{1}port=\($0.port)\u{1}" } ?? "" }

    mutating func respond(to challenge: [UInt8]) -> [UInt8]? {
        guard tokenRefusal == nil else { return nil }
        let text = String(decoding: challenge.prefix(Self.longestExplanation), as: UTF8.self).visible
        tokenRefusal = TokenRefusal(
            explanation: text, isFinal: Self.status(challenge).map(Self.final.contains) ?? false)
        return form == .oauthBearer ? [1] : []
    }

    /// Octets of JSON that are kept for the log.
    private static let longestExplanation = 500
    /// The user or the scope is not right, whatever the token: Google's 400, and what RFC 7628 section 3.2.2 has for it.
    private static let final: Set<String> = ["400", "403", "invalid_request", "insufficient_scope"]

    /// What stands behind `"status"`: a string or a number. For one word no reader of JSON is needed.
    private static func status(_ json: [UInt8]) -> String? {
        guard let name = json.firstRange(of: "\"status\"".utf8) else { return nil }
        let blanks: Set<UInt8> = [0x20, 0x09, 0x0A, 0x0D]
        var rest = json[name.upperBound...].drop { blanks.contains($0) }
        guard rest.popFirst() == UInt8(ascii: ":") else { return nil }
        rest = rest.drop { blanks.contains($0) || $0 == UInt8(ascii: "\"") }
        return String(
            decoding: rest.prefix { $0.isASCIILetterOrDigit || $0 == UInt8(ascii: "_") }, as: UTF8.self)
    }
}
