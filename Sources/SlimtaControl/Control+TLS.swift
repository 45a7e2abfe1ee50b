// What is known of the TLS of those whom mail goes to, over the control socket: `slimtad tls`.

internal import SlimtaMail
internal import SlimtaNet

extension Control {
    func tlsMemory(_ query: [HTTPTarget.Parameter]) throws(Refusal) -> HTTPResponse {
        try allow(["domain"], query)
        let domain = query.first?.value.foldedAsDomain()
        return HTTPResponse(.array(daemon.tlsMemory(of: domain).map(\.json)))
    }

    func explainTLS(_ query: [HTTPTarget.Parameter]) async throws(Refusal) -> HTTPResponse {
        let domain = try domain(of: query)
        guard let report = await daemon.explainTLS(domain) else {
            throw Refusal(404, "mail for \(domain) goes to no host over the network")
        }
        return HTTPResponse(report.json(of: domain))
    }

    func forgetTLS(_ request: ControlRequest) async throws(Refusal) -> HTTPResponse {
        let domain = try domain(of: request.query)
        await log(request, "tls forget \(domain)")
        let count = await daemon.forgetTLS(of: domain)
        guard count > 0 else { throw Refusal(404, "nothing is remembered of \(domain)") }
        return HTTPResponse(.object([.init("forgotten", .count(count))]))
    }

    private func domain(of query: [HTTPTarget.Parameter]) throws(Refusal) -> String {
        try allow(["domain"], query)
        guard query.count == 1, let domain = query.first?.value.foldedAsDomain(), !domain.isEmpty else {
            throw Refusal(400, "which one? domain=DOMAIN")
        }
        return domain
    }
}
