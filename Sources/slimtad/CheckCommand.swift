// `slimtad check`: is the configuration right, and what would be run with it?

import ArgumentParser
import SlimtaConfiguration
import SlimtaEdge
import SlimtaMail
import SlimtaSystem
import SlimtaTLS

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check the configuration, certificate, key and users file, and say what would be run.")

    @OptionGroup var config: ConfigurationOption

    func run() {
        let (file, secrets) = orExit { () throws(Failure) in
            let file = try ConfigurationFile.parse(config.path)
            return (file, try Secrets.load(file))
        }
        for complaint in secrets.complaints { say("warning: \(complaint)") }
        print(Self.summary(file, secrets))
    }

    /// What would be run, a line each.
    private static func summary(_ file: ConfigurationFile, _ secrets: Secrets) -> String {
        let values = file.values
        var lines = ["\(file.path) is right. With it, slimtad would be \(file.hostname):"]
        for edge in values.edges {
            let tls =
                switch edge.tls {
                case .starttls: "STARTTLS"
                case .immediate: "TLS from the start"
                case .cleartext: "no TLS"
                }
            let auth =
                switch edge.auth {
                case .required: "AUTH required"
                case .optional: "AUTH offered"
                case .off: "no AUTH"
                }
            let trusted = edge.trust.isEmpty ? "" : ", without AUTH for \(edge.trust)"
            lines.append(
                "  edge \(edge.name): \(edge.listen.map(\.description).joined(separator: " ")), \(tls), \(auth)\(trusted)"
            )
        }
        if let users = secrets.users { lines.append("  users: \(users.users.count) in \(values.auth.users)") }
        lines.append("  policies: \(values.queue.policies.map(\.rawValue).joined(separator: ", "))")
        lines.append("  queue: in \(file.stateDirectory)" + (values.queue.deliver ? "" : ", nothing is delivered"))
        for route in values.routes {
            lines.append("  route \(route.domains.map(\.description).joined(separator: " ")): \(text(of: route.relay))")
        }
        lines.append("  relay: \(text(of: values.relay))")
        return lines.joined(separator: "\n")
    }

    private static func text(of relay: Configuration.Relay) -> String {
        switch relay.type {
        case .mx: "to the MXes, port \(relay.port), TLS \(relay.tls.rawValue)"
        case .smtp(let host, let login):
            "to \(host), TLS \(relay.tls.rawValue)" + (login.map { ", as \($0.username)" } ?? "")
        case .maildir(let path): "into the maildir \(path)"
        case .blackhole: "to nowhere"
        }
    }
}
