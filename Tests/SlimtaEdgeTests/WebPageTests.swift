// Which requests may be those of a page that is not ours.

import Testing

@testable import SlimtaEdge

@Suite struct WebPageTests {
    @Test(arguments: [
        "127.0.0.1", "127.0.0.1:8025", "192.0.2.1:80", "[::1]", "[2001:db8::1]:8025", "localhost", "LocalHost:1",
        "localhost.", "mx.example.org", "MX.example.ORG:8025", "mx.example.org.", "münchen.de", "xn--mnchen-3ya.de:1",
    ])
    func namesOfOurs(host: String) {
        #expect(WebPage.isOurs(host: host, names: ["mx.example.org", "xn--mnchen-3ya.de"]))
    }

    @Test(arguments: [
        "", ":80", "evil.test", "evil.test:8025", "127.0.0.1.evil.test", "localhost.evil.test", "xlocalhost",
        "mx.example.org.evil.test", "example.org", "a.mx.example.org", "localhost@evil.test", "localhost:x.evil.test",
        "[::1].evil.test", "[::1", "[]", "[localhost]", "::1", "127.0.0.1:80:evil.test", "localhost..", "[::1]x:80",
    ])
    func namesOfOthers(host: String) {
        #expect(!WebPage.isOurs(host: host, names: ["mx.example.org"]))
    }

    @Test(arguments: [
        ("POST", [], [], false), ("GET", ["cross-site"], ["http://evil.test"], false),
        ("POST", ["same-origin"], ["https://proxy.test"], false), ("POST", ["none"], [], false),
        ("POST", ["cross-site"], [], true), ("POST", ["same-site"], ["http://localhost:8025"], true),
        ("DELETE", ["cross-site"], [], true), ("POST", ["same-origin", "cross-site"], [], true),
        ("POST", [], ["http://localhost:8025"], false), ("POST", [], ["https://LOCALHOST:8025"], false),
        ("POST", [], ["http://localhost:3000"], true), ("POST", [], ["http://evil.test"], true),
        ("POST", [], ["null"], true), ("POST", [], [""], true),
        ("POST", [], ["http://localhost:8025", "http://evil.test"], true),
    ])
    func origins(method: String, sites: [String], origins: [String], isForeign: Bool) {
        #expect(
            WebPage.isForeign(method: method, sites: sites, origins: origins, host: "localhost:8025") == isForeign)
        if isForeign, sites.isEmpty {
            #expect(WebPage.isForeign(method: method, sites: sites, origins: origins, host: nil))
        }
    }
}
