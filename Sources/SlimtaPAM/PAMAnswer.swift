// What PAM says of a password, and what follows from it. PAMConnection writes it, and closes the connection behind it;
// PAMBackEnd reads it.

internal import CPAM
internal import SlimtaHelper

/// What has come of a question.
package enum PAMAnswer: Hashable, Sendable {
    /// PAM has answered.
    case said(PAMResult)
    /// It could not be asked, or did not answer: in words for the operator.
    case unavailable(String)
    /// It has had a process to the end of its time: in words for the operator.
    case late(String)

    /// The most octets of an answer.
    package static let limit = 4096

    /// Which kind, then numbers and texts.
    package var octets: [UInt8] {
        var writer = OctetWriter()
        switch self {
        case .said(let result):
            writer.octets += [1, result.asksForMore ? 1 : 0]
            writer.number(Int64(result.phase.rawValue))
            writer.number(Int64(result.code))
            writer.text(result.user)
            writer.text(result.text)
        case .unavailable(let reason):
            writer.octets.append(2)
            writer.text(reason)
        case .late(let reason):
            writer.octets.append(3)
            writer.text(reason)
        }
        return writer.octets
    }

    /// nil: it is not whole, or none.
    package init?(_ octets: [UInt8]) {
        var reader = OctetReader(octets[...])
        switch reader.octet() {
        case 1:
            guard let more = reader.octet(),
                let phase = reader.number().flatMap({ PAMResult.Phase(rawValue: Int($0)) }),
                let code = reader.number(), let user = reader.text(), let text = reader.text(), reader.isAtEnd
            else { return nil }
            self = .said(
                PAMResult(
                    phase: phase, code: Int32(truncatingIfNeeded: code), user: user, text: text, asksForMore: more == 1)
            )
        case let kind? where kind == 2 || kind == 3:
            guard let reason = reader.text(), reader.isAtEnd else { return nil }
            self = kind == 2 ? .unavailable(reason) : .late(reason)
        default: return nil
        }
    }
}

/// How far PAM came, and what it said there.
package struct PAMResult: Hashable, Sendable {
    /// What PAM was asked last.
    package enum Phase: Int, Sendable {
        /// To begin: pam_start(3).
        case start
        /// Whether the password is right: pam_authenticate(3).
        case authenticate
        /// Whether the user may log in now: pam_acct_mgmt(3).
        case account
    }

    /// What was asked last.
    package var phase: Phase
    /// PAM's code for it.
    package var code: Int32
    /// Who it is; empty: it is not told.
    package var user: String
    /// What the code means, or what a module has said: for the operator.
    package var text: String
    /// Whether a module wanted to know more than one password.
    package var asksForMore: Bool

    /// Each is what its property says.
    package init(phase: Phase, code: Int32, user: String = "", text: String = "", asksForMore: Bool = false) {
        (self.phase, self.code, self.user, self.text) = (phase, code, user, text)
        self.asksForMore = asksForMore
    }

    /// What it says of the client.
    package enum Meaning: Hashable, Sendable {
        /// The password is right, and the user may log in.
        case right
        /// It is not, or there is no such user.
        case wrong
        /// It is right, and the user may not log in, for this reason, which the client may know.
        case refused(String)
        /// Nobody can say: in words for the operator.
        case failed(String)
    }

    /// What it says of the client.
    ///
    /// - Parameter systemErrorsRefuse: whether PAM_SYSTEM_ERR is a "no": pam_exec says that for a program that does.
    package func meaning(systemErrorsRefuse: Bool) -> Meaning {
        if phase == .account, code == PAM_SUCCESS { return .right }
        if asksForMore { return .failed("PAM wants to know more than a password, and nobody can be asked") }
        switch code {
        case PAM_AUTH_ERR, PAM_USER_UNKNOWN, PAM_PERM_DENIED, PAM_MAXTRIES, PAM_NEW_AUTHTOK_REQD, PAM_ACCT_EXPIRED,
            PAM_AUTHTOK_EXPIRED:
            return phase == .account ? .refused(reason) : .wrong
        case PAM_SYSTEM_ERR where systemErrorsRefuse: return phase == .account ? .refused(reason) : .wrong
        default: return .failed("PAM: \(text) (\(code))")
        }
    }

    private var reason: String {
        switch code {
        case PAM_ACCT_EXPIRED: "This login has expired"
        case PAM_NEW_AUTHTOK_REQD, PAM_AUTHTOK_EXPIRED: "This password has expired: change it elsewhere"
        default: "This login is not allowed now"
        }
    }
}

extension PAMResult {
    /// As the process has written it that asked PAM.
    init(_ answer: cpam_answer) {
        var answer = answer
        self.init(
            phase: Phase(rawValue: Int(answer.phase)) ?? .start, code: answer.code,
            user: Self.text(&answer.user), text: Self.text(&answer.text), asksForMore: answer.asks_for_more)
    }

    /// An array of C's, up to its NUL.
    private static func text<Characters>(_ characters: inout Characters) -> String {
        withUnsafeBytes(of: &characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}
