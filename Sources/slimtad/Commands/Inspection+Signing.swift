// What `slimtad check` says of the keys that mail is signed with: are all there that slimtad starts with, and would verifiers
// take them? What DNS has of them, `slimtad dkim check` says.

import SlimtaConfiguration
import SlimtaDKIM
import SlimtaSystem

extension Inspection {
    mutating func lookAtSigningKeys() {
        guard !file.values.signing.keys.isEmpty else { return }
        // What is wrong with a file is told when it is read.
        let contents = Dictionary(
            file.values.signingKeyFiles.map { ($0.reference, $0) }, uniquingKeysWith: { first, _ in first }
        ).compactMapValues { read($0) }
        let search = SigningKeySearch(file) { named in contents[named.reference].map { .success($0) } }
        for fault in search.faults { error(fault.key, fault.text) }
        for key in search.keys.sorted(by: { $0.name < $1.name }) {
            let bits = key.name.algorithm == .rsaSHA256 ? ", \(key.key.publicKey.bits) bits" : ""
            note("dkim: \(key.name)\(bits)")
            if let warning = key.key.publicKey.warning { warn("dkim", "the key of \(key.name) \(warning)") }
        }
    }
}
