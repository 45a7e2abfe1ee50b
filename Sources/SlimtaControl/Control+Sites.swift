// How much hosts take that mail goes to, as operators see and set it: `slimtad site`.

import SlimtaMail
import SlimtaNet

extension Control {
    func sites(_ query: [HTTPTarget.Parameter]) throws(Refusal) -> HTTPResponse {
        try allow(["name"], query)
        let all = daemon.sites()
        guard let name = query.first?.value else { return Self.answer(all) }
        let found = all.filter { $0.isNamed(name) }
        guard !found.isEmpty else { throw Refusal(404, Self.unknown(name)) }
        return Self.answer(found)
    }

    func changeSite(_ action: String, _ request: ControlRequest) async throws(Refusal) -> HTTPResponse {
        let limits = ["connections", "rate", "messages", "recipients"]
        try allow(action == "set" ? ["name"] + limits : ["name"], request.query)
        func value(_ name: String) -> String? { request.query.first { $0.name == name }?.value }
        guard let name = value("name"), !name.isEmpty else { throw Refusal(400, "which site? name=HOST or name=SITE") }
        switch action {
        case "set":
            var change = SiteChange()
            change.connections = try Self.count("connections", value("connections"))
            // Relays never do more than a hundred of either.
            change.messages = try Self.count("messages", value("messages"), atMost: 100)
            change.recipients = try Self.count("recipients", value("recipients"), atMost: 100)
            if let text = value("rate") {
                let rate = RateText.perSecond(text)
                guard rate != nil || text == Self.none else {
                    throw Refusal(400, "rate: \"\(text)\" is neither \(RateText.form) nor \"\(Self.none)\"")
                }
                change.rate = .some(rate)
            }
            guard change != SiteChange() else {
                throw Refusal(400, "what is to be set? \(limits.joined(separator: ", "))")
            }
            await log(request, "site set \(name)")
            guard daemon.setSite(name, change) > 0 else { throw Refusal(404, Self.unknown(name)) }
        case "forget":
            await log(request, "site forget \(name)")
            guard daemon.forgetSite(name) > 0 else { throw Refusal(404, Self.unknown(name)) }
        default: throw Refusal(404, "\(action) is none of set, forget")
        }
        return Self.answer(daemon.sites().filter { $0.isNamed(name) })
    }

    private static func answer(_ sites: [SiteReport]) -> HTTPResponse {
        HTTPResponse(.object([.init("sites", .array(sites.map(JSON.site)))]))
    }

    private static let none = "none"

    private static func unknown(_ name: String) -> String { "nothing is known of a site \(name)" }

    /// nil: nothing is said of it; .some(nil): there is to be none.
    private static func count(
        _ name: String, _ text: String?, atMost most: Int = 100_000
    ) throws(Refusal) -> Int?? {
        guard let text else { return nil }
        if text == none { return .some(nil) }
        guard let number = Int(text), (1...most).contains(number) else {
            throw Refusal(400, "\(name): \"\(text)\" is neither a number from 1 to \(most) nor \"\(none)\"")
        }
        return .some(number)
    }
}

extension JSON {
    fileprivate static func site(_ site: SiteReport) -> JSON {
        .object([
            .init("name", .string(site.name)), .init("hosts", .array(site.hosts.map { .string($0) })),
            .init("fixed", .bool(site.isFixed)), .init("sessions", .count(site.sessions)),
            .init("window", site.window.map { .count($0) } ?? .null), .init("waiting", .count(site.waiting)),
            .init("set", limits(site.set)), .init("configured", limits(site.configured)),
            .init("learned", limits(site.learned)), .init("greylists", .bool(site.greylists)),
            .init("greylist_wait", site.greylistWait.map { .seconds($0) } ?? .null),
            .init("paused_until", .optional(site.pausedUntil?.isoDate)),
            .init(
                "failed",
                .array(
                    site.failed.map { host in
                        .object([
                            .init("host", .string(host.address)), .init("failures", .count(host.failures)),
                            .init("until", .string(host.until.isoDate)),
                        ])
                    })),
            .init("last_used", .string(site.lastUsed.isoDate)),
        ])
    }

    private static func limits(_ limits: SiteReport.Limits) -> JSON {
        .object([
            .init("connections", limits.connections.map { .count($0) } ?? .null),
            .init("rate", .optional(limits.rate.map(RateText.text))),
            .init("messages", limits.messages.map { .count($0) } ?? .null),
            .init("recipients", limits.recipients.map { .count($0) } ?? .null),
        ])
    }
}
