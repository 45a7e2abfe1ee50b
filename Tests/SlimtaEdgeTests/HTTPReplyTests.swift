// How replies are said over HTTP, and what the Authorization field can say.

import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Testing

@testable import SlimtaEdge

@Suite struct HTTPReplyTests {
    @Test(arguments: [
        (250, false, 200), (421, false, 503), (450, false, 503), (452, false, 503), (454, false, 503),
        (530, false, 401),
        (535, false, 401), (552, false, 413), (550, false, 422), (554, false, 422), (501, false, 422), (550, true, 403),
        (421, true, 503), (530, true, 401),
    ])
    func statuses(code: Int, isForbidden: Bool, status: Int) {
        let reply = Reply(UInt16(code), nil, "x")
        #expect(HTTPReply.status(reply, isForbidden: isForbidden, hasChallenge: true) == status)
        // Who cannot say who it is, is not asked to.
        #expect(
            HTTPReply.status(reply, isForbidden: isForbidden, hasChallenge: false) == (status == 401 ? 403 : status))
    }

    @Test(arguments: [
        (
            Reply(250, .init(2, 6, 0), "Message accepted for delivery"),
            #"250; message="2.6.0 Message accepted for delivery""#
        ),
        (Reply(550, nil, #"not "here" \ now"#), #"550; message="not \"here\" \\ now""#),
        (Reply(554, .init(5, 7, 1), lines: ["one", "two"]), #"554; message="5.7.1 one two""#),
        (Reply(550, .init(5, 1, 1), "<ü@x.org>\r\nX-Other: y"), #"550; message="5.1.1 <ü@x.org>??X-Other: y""#),
    ])
    func theField(reply: Reply, field: String) { #expect(HTTPReply.field(reply) == field) }

    @Test(arguments: [
        ("Basic dTpw", "u", "p"), ("basic  dTpw", "u", "p"), ("BASIC dTpwOnA=", "u", "p:p"),
        ("Basic w7w6w7w=", "ü", "ü"),
    ])
    func basic(field: String, login: String, password: String) throws {
        let response = try #require(HTTPAuthorization.plain(field))
        #expect(response.elementsEqual("\0\(login)\0\(password)".utf8))
    }

    /// No colon, no base64, another scheme.
    @Test(arguments: [
        "", "Basic", "Basic ", "Basic dQ==", "Basic dTpw=", "Basic dTp w", "Bearer dTpw", "Basic\tdTpw",
    ])
    func notBasic(field: String) { #expect(HTTPAuthorization.plain(field) == nil) }

    /// No login, no password, controls, a NUL, no UTF-8: nobody's, as in SASL.
    @Test(arguments: [
        "Basic OnA=", "Basic dTo=", "Basic dQo6cA==", "Basic dTpwAA==", "Basic /zpw", "Basic dTr/",
    ])
    func nobodys(field: String) throws {
        let response = try #require(HTTPAuthorization.plain(field))
        let context = SASLContext(listed: [], inventing: SecretOctets([1]), hostname: "x")
        var exchange = SASLServer.begin(.plain, context: context)
        let step = exchange.received(Array(response))
        if case .ask = step { Issue.record("nobody is to be asked") }
    }
}
