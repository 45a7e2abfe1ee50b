// [[milter]]: who is shown messages, and what leads to them, by the milter protocol. Called by `Configuration.parse`.

import SlimtaMail
import TOMLKit

extension Configuration {
    /// Reads [[milter]].
    static func readMilters(_ tables: [Section]) -> [MilterSettings] {
        var names: [String: String] = [:]
        return tables.compactMap { table in
            defer { table.refuseUnknownKeys() }
            return MilterSettings(table, &names)
        }
    }
}

extension MilterSettings {
    /// nil if something without which there is no milter is missing or wrong; that was reported.
    fileprivate init?(_ table: Section, _ names: inout [String: String]) {
        let to = table.required("to", "where it listens, such as \"127.0.0.1:8891\" or \"unix:/path\"")?
            .address("\"address:port\", \"[v6]:port\", \"localhost:port\" or \"unix:/path\"", ServiceAddress.init)
        let name = table.name(orAddress: to, &names)
        connectTimeout = table["connect_timeout"]?.duration(.seconds(1) ... .seconds(60)) ?? connectTimeout
        commandTimeout = table["command_timeout"]?.duration(.seconds(1) ... .hours(1)) ?? commandTimeout
        contentTimeout = table["content_timeout"]?.duration(.seconds(1) ... .hours(1)) ?? contentTimeout
        onFailure = table["on_failure"]?.choice() ?? onFailure
        reuseBetweenSessions = table["reuse_between_sessions"]?.bool() ?? reuseBetweenSessions
        guard let to, let name else { return nil }
        self.to = to
        self.name = name
    }
}

extension Section {
    /// `name`, or without it where the service is asked: reported, and nil, if another one of its kind has it.
    func name(orAddress to: ServiceAddress?, _ names: inout [String: String]) -> String? {
        if has("name") { return word(self["name"], &names) }
        let name = to?.description
        _ = self["name"]
        if let name, let other = names.updateValue(path, forKey: name) {
            report("name", "missing", "required is a name of its own: \(other) is asked at \(name) too")
        }
        return name
    }
}
