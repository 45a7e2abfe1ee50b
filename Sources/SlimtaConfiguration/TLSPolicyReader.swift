// [[tls_policy]], and what of `tls` can never be. Called by `Configuration.parse`.

import SlimtaMail

extension Configuration {
    static func readTLSPolicies(_ tables: [Section]) -> [TLSPolicySettings] {
        var taken: [DomainPattern: String] = [:]
        return tables.map { table in
            defer { table.refuseUnknownKeys() }
            let domains = RelayReader.readDomains(table, &taken)
            let tls: RelayTLSMode? = table.required("tls", "what is demanded, such as \"verify\"")?.choice()
            let names =
                table["names"]?.distinctList(of: "names of hosts", mayBeEmpty: false) { element in
                    element.text("a host such as \"mx.example.net\"") { name in
                        HostName.fold(name).flatMap { HostName.looksLikeAddress($0) ? nil : $0 }
                    }
                } ?? []
            if table.has("names"), table.isSound("names", "tls"), let tls, tls != .verify {
                table.report(
                    "names", "found with tls = \"\(tls.rawValue)\"", "allowed is it with tls = \"verify\"")
            }
            return TLSPolicySettings(domains: domains, tls: tls ?? .opportunistic, names: names)
        }
    }

    /// What can never be: records that nobody has proved are none.
    func checkDANE(_ root: Section) {
        guard dns.dnssec == .off, root.isSound("dns") else { return }
        let says = "found \"dane\" with dnssec = \"off\" in [dns]"
        let allowed = "allowed is dnssec = \"auto\" or \"required\" with it"
        if relay.tls == .dane { root.mistakes.report("relay.tls", says, allowed) }
        for (index, route) in routes.enumerated() where route.relay.tls == .dane && relay.tls != .dane {
            root.mistakes.report("route[\(index)].tls", says, allowed)
        }
        for (index, policy) in tlsPolicies.enumerated() where policy.tls == .dane {
            root.mistakes.report("tls_policy[\(index)].tls", says, allowed)
        }
    }
}
