// TLS reports over the control socket: `slimtad tlsrpt`.

internal import SlimtaMail
internal import SlimtaNet

extension Control {
    func tlsReports(_ query: [HTTPTarget.Parameter]) throws(Refusal) -> HTTPResponse {
        try allow(["domain"], query)
        return HTTPResponse(daemon.tlsReports().json(of: query.first?.value.foldedAsDomain()))
    }

    func sendTLSReports(_ request: ControlRequest) async throws(Refusal) -> HTTPResponse {
        try allow(["today"], request.query)
        let withToday = request.query.first?.value == "yes"
        if !withToday, !request.query.isEmpty { throw Refusal(400, "today is yes, or not there") }
        await log(request, "tlsrpt send\(withToday ? " --today" : "")")
        guard let tried = await daemon.sendTLSReports(withToday: withToday) else {
            throw Refusal(404, "no reports are sent: slimta.conf has no [tls_report]")
        }
        return HTTPResponse(.object([.init("tried", .array(tried.map(\.json)))]))
    }
}
