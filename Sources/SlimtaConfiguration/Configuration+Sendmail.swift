// [[edge]] of type "sendmail": where the sendmail command finds the daemon. Called by Configuration+Edges.

extension Configuration.Edge.Sendmail {
    /// Reads its keys, and holds its addresses, which are `listen`, to be what it can serve.
    init(_ table: Section, _ listen: [ListenAddress]) {
        trustedUsers = table["trusted_users"]?.userNames() ?? trustedUsers
        let isOfMachine = listen.allSatisfy { address in
            switch address {
            case .unix, .systemd: true
            case .tcp: false
            }
        }
        if !isOfMachine, table.isSound("listen") {
            table.report(
                "listen", "found a TCP address, behind which nobody knows which user asks",
                "allowed is \"unix:/path\", such as \"unix:/run/slimtad/sendmail\", or \"systemd:NAME\"")
        }
    }
}

extension Setting {
    /// Users of this machine, by their names.
    func userNames() -> [String]? {
        list(of: "names of users", mayBeEmpty: true) { $0.text("a name of a user") { $0.isEmpty ? nil : $0 } }
    }
}
