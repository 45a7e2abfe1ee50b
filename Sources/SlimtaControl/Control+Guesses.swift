// Who has guessed passwords, as operators see it and let in again: `slimtad guess`.

internal import SlimtaMail
internal import SlimtaNet

extension Control {
    func guesses() -> JSON {
        .array(
            daemon.guesses().map { report in
                .object([
                    .init("kind", .string(report.kind)), .init("name", .string(report.name)),
                    .init("failures", .count(report.failures)),
                    .init("logins", report.logins.map { .count($0) } ?? .null),
                    .init("delay", .count(report.delay)), .init("until", .optional(report.until?.isoDate)),
                    .init("times", .count(report.times)),
                ])
            })
    }

    func release(_ request: ControlRequest) async throws(Refusal) -> HTTPResponse {
        try allow(["name"], request.query)
        guard request.query.count == 1, let name = request.query.first?.value, !name.isEmpty else {
            throw Refusal(400, "whom? name=ADDRESS, name=NETWORK or name=LOGIN")
        }
        await log(request, "guess release \(name)")
        guard daemon.releaseGuesses(name) else { throw Refusal(404, "nothing is held against \(name)") }
        return HTTPResponse(.object([.init("released", .string(name))]))
    }
}
