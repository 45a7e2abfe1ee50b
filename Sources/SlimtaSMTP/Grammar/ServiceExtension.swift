// The service extensions that slimtad has, in one table: SMTPServerMachine offers them and refuses the parameters of those that it
// does not, SMTPCommand's grammar and SMTPClientMachine know them by their words.

/// A service extension (RFC 5321 section 2.2), in the order in which EHLO lists them.
package enum ServiceExtension: String, CaseIterable, Sendable {
    /// RFC 6152.
    case eightBitMIME = "8BITMIME"
    /// RFC 2920.
    case pipelining = "PIPELINING"
    /// RFC 2034.
    case enhancedStatusCodes = "ENHANCEDSTATUSCODES"
    /// RFC 6531.
    case smtpUTF8 = "SMTPUTF8"
    /// RFC 3207.
    case startTLS = "STARTTLS"
    /// RFC 4954.
    case authentication = "AUTH"
    /// RFC 9422.
    case limits = "LIMITS"
    /// RFC 1870. Always offered, and so the last one: clients of GNU SASL look for STARTTLS with a line behind it.
    case size = "SIZE"

    /// The parameters of MAIL that come with it, in upper case.
    package var mailParameters: [String] {
        switch self {
        case .eightBitMIME: ["BODY"]
        case .smtpUTF8: ["SMTPUTF8"]
        case .authentication: ["AUTH"]
        case .size: ["SIZE"]
        case .pipelining, .enhancedStatusCodes, .startTLS, .limits: []
        }
    }

    /// The extension that has a parameter of MAIL, which is in upper case; nil: none of ours.
    static func ofMail(_ parameter: String) -> ServiceExtension? { byMailParameter[parameter] }

    private static let byMailParameter = Dictionary(
        uniqueKeysWithValues: allCases.flatMap { one in one.mailParameters.map { ($0, one) } })
}
