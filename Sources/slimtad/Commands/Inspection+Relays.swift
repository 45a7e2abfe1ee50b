// What `slimtad check` finds of the keys that relays show and sign with. As Inspection.

import SlimtaConfiguration
import SlimtaCrypto
import SlimtaDNS
import SlimtaMail
import SlimtaNet
import SlimtaRelay
import SlimtaTLS

extension Inspection {
    /// Whether the names that hosts see us by agree with the addresses, as the daemon asks at its start.
    mutating func lookAtIdentities() {
        let identities = file.values.identities(file.hostname).filter(\.isSeen)
        guard !identities.isEmpty else {
            return note("names and addresses: mail leaves from no address that others see as it is")
        }
        let resolver: SlimtaDNS.Resolver
        do { resolver = try file.values.makeResolver(sockets: 16) } catch { return self.error("dns", "\(error)") }
        let looks: [[String]?]
        do throws(Failure) {
            looks = try wait { () async throws(Failure) -> [[String]?] in
                // A name server that is silent is given up: libunbound asks it for minutes.
                let looks = await within(.seconds(20)) {
                    await resolver.waitUntilStarted()
                    return await IdentityWatch.findings(of: identities, resolver)
                }
                await resolver.close()
                return looks ?? identities.map { _ in nil }
            }
        } catch {
            return self.error("dns", error.message)
        }
        for (identity, findings) in zip(identities, looks) {
            let unknown = "DNS does not say now whether \(identity.address) and its names agree"
            for finding in findings ?? [unknown] { warn("relay.source_addresses", finding) }
        }
        if looks.allSatisfy({ $0 == [] }) { note("names and addresses: they agree") }
    }

    /// Whether the relays' certificates and keys belong together, and can sign.
    mutating func lookAtRelayKeys() {
        var contents: [String: [UInt8]] = [:]
        for named in file.values.relayKeyFiles { contents[named.key] = read(named) }
        for (table, relay) in [("relay", file.values.relay)]
            + file.values.routes.enumerated().map({ ("route[\($0)]", $1.relay) })
        {
            if let pair = relay.clientCertificate, let certificate = contents["\(table).client_certificate"],
                let key = contents["\(table).client_key"]
            {
                do throws(TLSError) {
                    _ = try TLSIdentity(certificatePEM: certificate, keyPEM: key)
                    let end = Timestamp(milliseconds: try CertificateFacts(certificatePEM: certificate).expiry * 1000)
                    note("client certificate \(pair.certificate) of \(table): until \(end.isoDate)")
                } catch {
                    self.error("\(table).client_certificate", "\(pair.certificate) and \(pair.key): \(error)")
                }
            }
            guard let pem = contents["\(table).client_key_file"] else { continue }
            do throws(CryptoError) { _ = try PrivateKey(pem: pem) } catch {
                self.error("\(table).client_key_file", "\(error)")
            }
        }
    }
}
