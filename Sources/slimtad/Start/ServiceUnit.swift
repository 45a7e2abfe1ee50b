// The unit slimtad.service as it stands in its files: what its sandbox lets the daemon write to, and where credentials are
// from. `slimtad check` asks; no service manager need run.

import Glibc
import SlimtaSystem

/// The settings of the unit and its drop-ins that `check` has to know.
struct ServiceUnit {
    /// By name, all assignments in their order; an empty one takes back those before it.
    private var settings: [String: [String]] = [:]

    /// Where systemd looks, the first unit file wins; drop-ins count from everywhere. $SYSTEMD_UNIT_PATH replaces them, as
    /// systemd.unit(5) says.
    private static var folders: [String] {
        if let path = getenv("SYSTEMD_UNIT_PATH") {
            return String(cString: path).split(separator: ":").map(String.init)
        }
        return [
            "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
            "/lib/systemd/system",
        ]
    }

    /// nil: it is not installed here.
    init?() {
        let name = "slimtad.service"
        guard let unit = Self.folders.lazy.compactMap({ Self.read("\($0)/\(name)") }).first else { return nil }
        add(unit)
        var dropIns: [String: String] = [:]
        for folder in Self.folders.reversed() {
            for file in FolderListing.names(in: "\(folder)/\(name).d") ?? [] where file.hasSuffix(".conf") {
                dropIns[file] = "\(folder)/\(name).d/\(file)"
            }
        }
        for file in dropIns.keys.sorted() { if let text = dropIns[file].flatMap(Self.read) { add(text) } }
    }

    private mutating func add(_ text: String) {
        for line in text.split(whereSeparator: \.isNewline) where !line.hasPrefix("#") {
            let sides = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard sides.count == 2 else { continue }
            let words = sides[1].split(separator: " ").map(String.init)
            let name = String(sides[0].filter { $0 != " " })
            if words.isEmpty { settings[name] = [] } else { settings[name, default: []] += words }
        }
    }

    /// The file that LoadCredential= passes under a name; nil: none.
    func credential(_ name: String) -> String? {
        (settings["LoadCredential"] ?? []).last { $0.hasPrefix("\(name):") }.map {
            String($0.dropFirst(name.utf8.count + 1))
        }
    }

    /// Whether a start with the configuration at `path` is refused for want of this credential: the unit passes no such
    /// one.
    func lacksCredential(_ name: String, forConfiguration path: String) -> Bool {
        let isStartedWithIt = settings["ExecStart"]?.contains(path) == true
        guard isStartedWithIt, settings["ImportCredential"] ?? [] == [] else { return false }
        return !["LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"].contains {
            (settings[$0] ?? []).contains { $0 == name || $0.hasPrefix("\(name):") }
        }
    }

    /// Whether the sandbox lets the daemon write below `path`.
    func mayWrite(_ path: String) -> Bool {
        guard settings["ProtectSystem"]?.last == "strict" else { return true }
        let own =
            (settings["StateDirectory"] ?? []).map { "/var/lib/\($0)" }
            + (settings["RuntimeDirectory"] ?? []).map { "/run/\($0)" }
        let granted = (settings["ReadWritePaths"] ?? []).map { String($0.drop { $0 == "-" || $0 == "+" }) }
        return (own + granted).contains { path == $0 || path.hasPrefix($0.hasSuffix("/") ? $0 : "\($0)/") }
    }

    private static func read(_ path: String) -> String? {
        (try? SecureFile.read(path, maximum: 1 << 20, mustNotBeReadableByOthers: false)).map {
            String(decoding: $0, as: UTF8.self)
        }
    }
}
