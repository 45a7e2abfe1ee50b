// What `slimtad check` finds of the keys that relays show and sign with. As Inspection.

import SlimtaConfiguration
import SlimtaCrypto
import SlimtaMail
import SlimtaTLS

extension Inspection {
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
