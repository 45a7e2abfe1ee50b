// The keys that mail is signed with, over the control socket: `slimtad dkim`.

import SlimtaMail
import SlimtaNet

extension Control {
    func signingKeys(_ query: [HTTPTarget.Parameter]) throws(Refusal) -> HTTPResponse {
        HTTPResponse(.signing(daemon.signing().of(try domain(query))))
    }

    /// Has DNS asked now.
    func checkSigningKeys(_ query: [HTTPTarget.Parameter]) async throws(Refusal) -> HTTPResponse {
        let domain = try domain(query)
        return HTTPResponse(.signing(await daemon.askForKeys(of: domain).of(domain)))
    }

    private func domain(_ query: [HTTPTarget.Parameter]) throws(Refusal) -> String? {
        try allow(["domain"], query)
        return query.first?.value.foldedAsDomain()
    }

    func makeSigningKey(_ request: ControlRequest) async throws(Refusal) -> HTTPResponse {
        try allow(["domain", "algorithm", "selector", "next"], request.query)
        func value(_ name: String) -> String? { request.query.first { $0.name == name }?.value }
        guard let domain = value("domain")?.foldedAsDomain(), let algorithm = value("algorithm") else {
            throw Refusal(400, "which key? domain=DOMAIN, algorithm=ALGORITHM")
        }
        let wish = SigningKeyWish(
            domain: domain, algorithm: algorithm, selector: value("selector"), isNext: value("next") == "yes")
        await log(request, "dkim \(wish.isNext ? "rotate" : "generate") \(domain) \(algorithm)")
        do throws(SigningKeyRefusal) {
            return HTTPResponse(.signingKey(try await daemon.makeSigningKey(wish)))
        } catch {
            switch error {
            case .notNow: throw Refusal(409, error.text)
            case .mistake: throw Refusal(400, error.text)
            case .failed: throw Refusal(503, error.text)
            }
        }
    }
}
