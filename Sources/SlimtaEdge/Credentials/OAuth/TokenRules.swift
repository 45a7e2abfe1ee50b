// What a token has to say so that it lets somebody in, and who that is. Configured in `[auth.oauth]`; asked by TokenVerifier
// about the claims of a signed token, or about those that the issuer answers with.

package import SlimtaMail
internal import SlimtaNet
internal import SlimtaSASL

/// Who a token is for: the login, what it may send as, and until when that holds.
package struct TokenLogin: Hashable, Sendable {
    /// The claim that is the login, in the form that all logins have.
    package let name: String
    /// The addresses that the token says are the user's; none: it names none.
    package let senders: [String]
    /// The end of the token. A session that began before it goes on.
    package let end: Timestamp
}

/// The conditions of `[auth.oauth]` (RFC 9068 section 4, RFC 7519 section 4.1).
package struct TokenRules: Hashable, Sendable {
    /// `iss`, octet for octet: a "/" at its end counts. nil: not looked at, which is right only where the issuer itself is
    /// asked about each token.
    package var issuer: String?
    /// `aud` must have one of these. Without, a token for any other service of the issuer would do here.
    package var audience: [String]
    /// By what tokens may be signed.
    package var algorithms = Set(TokenAlgorithm.allCases)
    /// The claim that is the login. No other is taken instead of it.
    package var claim = "email"
    /// The claim with the addresses that the login may send as; nil: the login itself, if that is an address.
    package var sendersClaim: String?
    /// Scopes that a token must have, all of them.
    package var requiredScopes: [String] = []
    /// The clients whose tokens are taken; empty: those of all.
    package var clients: [String] = []
    /// Whether `typ` must say that it is an access token (RFC 9068 section 2.1). Many issuers do not write that.
    package var isStrictAboutType = false
    /// Whether `email` may be the login without the issuer saying that it has verified it.
    package var takesUnverifiedEmail = false

    /// How far issuers' clocks may be off.
    private static let leeway = 60.0

    /// With the defaults of `[auth.oauth]`.
    package init(issuer: String?, audience: [String]) { (self.issuer, self.audience) = (issuer, audience) }

    /// Throws if a token of that `typ` is none to log in with.
    func check(type: String?) throws(TokenFault) {
        // Media types have no case, and "application/" may be left out (RFC 7515 section 4.1.9).
        switch type?.lowercased() {
        case "at+jwt", "application/at+jwt": return
        case nil, "jwt", "application/jwt": if !isStrictAboutType { return }
        default: break
        }
        throw .type
    }

    /// Who the claims are of, if they let anybody in.
    func login(_ claims: JSON, now: Timestamp) throws(TokenFault) -> TokenLogin {
        if let issuer {
            guard claims["iss"].text?.isExactly([issuer]) == true else { throw .issuer }
        }
        guard claims["aud"].texts?.contains(where: { $0.isExactly(audience) }) == true else { throw .audience }
        let end = try checkTime(claims, now)
        let scopes = Set((claims["scope"].words ?? []) + (claims["scp"].words ?? []))
        guard scopes.isSuperset(of: requiredScopes) else { throw .scope }
        try checkClient(claims)
        // An issuer may let its users choose names that would be no login elsewhere.
        guard let text = claims[claim].text, let name = try? LoginName.normalized(text.utf8) else { throw .login }
        guard isVerified(claim, claims) else { throw .unverified }
        return TokenLogin(name: name, senders: senders(claims, name), end: end)
    }

    /// Whether the issuer vouches for a claim: of `email` it says so (OpenID Connect Core section 5.1), others are its own.
    private func isVerified(_ claim: String, _ claims: JSON) -> Bool {
        claim != "email" || takesUnverifiedEmail || claims["email_verified"].isTrue
    }

    /// What is no address is no sender: an empty one, for one, would be the null sender.
    private func senders(_ claims: JSON, _ login: String) -> [String] {
        guard let sendersClaim else { return [login].filter(Self.isAddress) }
        return isVerified(sendersClaim, claims) ? (claims[sendersClaim].texts ?? []).filter(Self.isAddress) : []
    }

    private static func isAddress(_ text: String) -> Bool { Mailbox(parsing: text) != nil }

    /// RFC 7519 sections 4.1.4 to 4.1.6. Returns the end.
    private func checkTime(_ claims: JSON, _ now: Timestamp) throws(TokenFault) -> Timestamp {
        let now = Double(now.milliseconds) / 1000
        guard let end = claims["exp"].double, now < end + Self.leeway else { throw .expired }
        for name in ["nbf", "iat"] where claims.has(name) {
            guard let begin = claims[name].double, begin <= now + Self.leeway else { throw .early }
        }
        // The end of all time is far enough.
        return Timestamp(milliseconds: Int64(min(end, 1e15) * 1000))
    }

    /// RFC 9068 section 2.2; `azp` is what others write (OpenID Connect Core section 2).
    private func checkClient(_ claims: JSON) throws(TokenFault) {
        if clients.isEmpty { return }
        let client = claims.has("client_id") ? claims["client_id"] : claims["azp"]
        guard client.text?.isExactly(clients) == true else { throw .client }
    }

    /// Whether what a client says it is means the token's login: in upper or lower case, and however it writes accents.
    /// An empty text means whomever the token is for.
    static func isSame(_ said: String, as login: String) -> Bool {
        said.isEmpty || said.lowercased() == login.lowercased()
    }
}

extension String {
    /// Whether it is one of these, octet for octet: "==" takes two spellings of one character for the same.
    fileprivate func isExactly(_ texts: [String]) -> Bool { texts.contains { utf8.elementsEqual($0.utf8) } }
}

extension JSON {
    /// Whether an object has a member of that name, be it null.
    fileprivate func has(_ name: String) -> Bool { members.contains { $0.name == name } }

    /// One text, or an array of nothing else (RFC 7519 section 4.1.3); nil: anything else.
    fileprivate var texts: [String]? {
        if let text { return [text] }
        guard case .array(let elements) = self else { return nil }
        let texts = elements.compactMap(\.text)
        return texts.count == elements.count ? texts : nil
    }

    /// Scopes: in one text with blanks between (RFC 6749 section 3.3), or in an array.
    fileprivate var words: [String]? { texts?.flatMap { $0.split(separator: " ").map(String.init) } }
}
