// `slimtad check`: is the configuration right, would the service start with it, and what would be run?

import ArgumentParser
import Glibc
import SlimtaCluster
import SlimtaConfiguration
import SlimtaMail
import SlimtaRules
import SlimtaSystem

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check configuration, files, rights and ports, and say what would be run.",
        discussion: """
            Started as root it looks at files as the service's user, who reads them at a reload. Exit status 78: slimtad \
            would not start, or would start and do without what is missing, such as an edge's folder or a command; all \
            reasons are printed, each with its line. Warnings do not change the status.
            """)

    @OptionGroup var config: ConfigurationOption

    @Flag(help: "Ask DNS too, whether our names and the addresses that mail leaves from agree.")
    var dns = false

    func run() {
        PostgresLibrary.forgetEnvironment()
        let file = orExit { () throws(Failure) in try ConfigurationFile.parse(config.path) }
        var inspection = Inspection(file)
        inspection.run()
        if dns { inspection.lookAtIdentities() }
        for warning in inspection.warnings { say("warning: \(warning)") }
        for error in inspection.errors { say(error) }
        guard inspection.errors.isEmpty else {
            say("\(file.path): \(counted(inspection.errors.count, "error"))")
            Glibc.exit(ExitStatus.configuration.rawValue)
        }
        print(Self.summary(file, inspection))
    }

    /// What would be run, a line each.
    private static func summary(_ file: ConfigurationFile, _ inspection: Inspection) -> String {
        let values = file.values
        var lines = ["\(file.path) is right. With it, slimtad would be \(file.hostname):"]
        for edge in values.edges {
            if case .sendmail(let sendmail) = edge.type {
                let places = edge.listen.map(\.description).joined(separator: " ")
                let trusted = sendmail.trustedUsers.map { ", \($0) as anybody" }.joined()
                lines.append("  edge \(edge.name): sendmail on \(places), users as themselves\(trusted)")
                continue
            }
            if case .directory(let directory) = edge.type {
                lines.append("  edge \(edge.name): files in \(directory.path), \(directory.terms)")
                continue
            }
            let tls =
                switch edge.access.tls {
                case .starttls: "STARTTLS"
                case .immediate: "TLS from the start"
                case .cleartext: "no TLS"
                }
            let auth =
                switch edge.access.auth {
                case .required: "AUTH required"
                case .optional: "AUTH offered"
                case .off: "no AUTH"
                }
            let trusted =
                edge.access.trustedNetworks.isEmpty
                ? "" : ", without AUTH from \(edge.access.trustedNetworks.map(\.description).joined(separator: " "))"
            lines.append(
                "  edge \(edge.name): \(edge.listen.map(\.description).joined(separator: " ")), \(tls), \(auth)\(trusted)"
            )
        }
        for edge in values.closedEdges {
            lines.append("  edge \(edge.name): not opened, for roles of [node] has no \"edge\"")
        }
        lines += inspection.facts.map { "  \($0)" }
        lines += gate(values)
        lines.append("  policies: \(values.queue.policies.map(\.rawValue).joined(separator: ", "))")
        lines.append("  queue: in \(place(of: file))" + (values.queue.deliver ? "" : ", nothing is delivered"))
        guard values.node.roles.contains(.relay) else {
            lines.append("  relay: none, for roles of [node] has no \"relay\": [relay] and [[route]] are others'")
            return lines.joined(separator: "\n")
        }
        for route in values.routes {
            let domains = route.domains.map(\.description).joined(separator: " ")
            lines.append(
                "  route \(domains)\(route.origin.words): \(text(of: route.relay))\(rewrites(of: route.relay))")
        }
        lines.append("  relay: \(text(of: values.relay))\(rewrites(of: values.relay))")
        return lines.joined(separator: "\n")
    }

    /// Where the queue is.
    private static func place(of file: ConfigurationFile) -> String {
        guard case .postgresql(let settings) = file.values.queue.placement else { return file.stateDirectory }
        let other = settings.whenAway == .local ? "; while that is away in \(file.stateDirectory)" : ""
        return "PostgreSQL, \(settings.connection)" + other
    }

    /// What is asked about clients.
    private static func gate(_ values: Configuration) -> [String] {
        let senders = values.senders
        let checked = (senders.checksMailFrom ? ["MAIL FROM"] : []) + (senders.checksFrom ? ["From", "Sender"] : [])
        var lines = [
            "  senders: of a login checked is \(checked.isEmpty ? "nothing" : checked.joined(separator: ", "))"
        ]
        for stage in Stage.allCases {
            let names = values.rules.filter { $0.stage == stage }.map(\.name)
            if !names.isEmpty { lines.append("  rules at \(stage.rawValue): \(names.joined(separator: ", "))") }
        }
        let results = SPFResult.allCases.filter { values.spf.replies[$0] != nil }.map(\.rawValue)
        if !results.isEmpty { lines.append("  SPF: refused is \(results.joined(separator: ", "))") }
        for list in values.dnsbls { lines.append("  block list \(list.name)") }
        for service in values.policyServices {
            let stages = Stage.allCases.filter { service.stages.contains($0) }.map(\.rawValue)
            lines.append("  policy service \(service.name): \(service.to), at \(stages.joined(separator: ", "))")
        }
        for milter in values.milters {
            lines.append("  milter \(milter.name): \(milter.to), \(milter.onFailure.rawValue) where it fails")
        }
        return lines
    }

    private static func rewrites(of relay: Configuration.Relay) -> String {
        let rewrites = relay.rewrites
        var words: [String] = []
        if !rewrites.senders.isEmpty { words.append("rewrites senders") }
        if !rewrites.recipients.isEmpty { words.append("rewrites recipients") }
        if !rewrites.fields.isEmpty { words.append("adds \(rewrites.fields.map(\.name).joined(separator: " "))") }
        return words.map { ", \($0)" }.joined()
    }

    private static func text(of relay: Configuration.Relay) -> String {
        switch relay.type {
        case .mx: "to the MXes, port \(relay.port), TLS \(relay.tls.rawValue)"
        case .smtp(let host, let login):
            "to \(relay.hosts(host)), TLS \(relay.tls.rawValue)" + (login.map { ", as \($0.username)" } ?? "")
        case .lmtp(let host, let login):
            "by LMTP to \(relay.hosts(host)), TLS \(relay.tls.rawValue)" + (login.map { ", as \($0.username)" } ?? "")
        case .lmtpSocket(let path): "by LMTP to unix:\(path)"
        case .http(let server):
            // Without path and query: a secret may be in them.
            "to \(server.url.isSecure ? "https" : "http")://\(server.url.host)"
                + (server.socket.map { " by unix:\($0)" } ?? "")
                + (relay.type.login.map { ", as \($0.username)" } ?? "")
        case .maildir(let path): "into the maildir \(path)"
        case .pipe(let pipe): "into \(pipe.command.words[0])" + (pipe.user.map { ", as \($0)" } ?? "")
        case .blackhole: "to nowhere"
        }
    }
}

extension Configuration.Relay {
    fileprivate func hosts(_ first: HostPort) -> String {
        guard !otherHosts.isEmpty else { return "\(first)" }
        let all = ([first] + otherHosts).map(\.description).joined(separator: isByPriority ? ", else " : ", ")
        return isByPriority ? all : "\(all) in turn"
    }
}

extension RouteOrigin {
    fileprivate var words: String {
        (senders.map { " from \($0.patterns.map(\.description).joined(separator: " "))" } ?? "")
            + (logins.map { " of \($0.map(\.description).joined(separator: " "))" } ?? "")
    }
}

extension Configuration.Edge.Directory {
    /// Who may send, and when a file is whole.
    fileprivate var terms: String {
        let trusted = trustedUsers.isEmpty ? "" : ", \(trustedUsers.joined(separator: " ")) as anybody"
        return (ownerLogin ? "sent by their owners\(trusted)" : "from anybody who may put them there")
            + (settle > .zero ? ", whole \(settle) after they were written" : "")
    }
}
