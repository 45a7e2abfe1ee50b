// What `slimtad check` says of the users file in the light of [auth]: who cannot log in by what is offered, and what will
// never be offered.

import SlimtaConfiguration
import SlimtaEdge
import SlimtaSASL

extension Inspection {
    /// Warnings about the users in the light of `[auth]`.
    static func warnings(about users: UsersFile, _ file: ConfigurationFile) -> [String] {
        let (auth, path) = (file.values.auth, file.values.auth.users)
        var warnings: [String] = []
        if !auth.foldCase {
            for names in users.alike {
                warnings.append(
                    "\(path): \(names.joined(separator: ", ")) differ by case only: they are users of their own")
            }
        }
        let certified = users.users.filter { !$0.value.certificates.isEmpty }.keys
        if auth.knowsCertificates, certified.isEmpty {
            warnings.append(
                "\(path): nobody has a certificate in it, and EXTERNAL is offered to nobody: slimtad passwd NAME "
                    + "--certificate FILE")
        } else if !auth.knowsCertificates, !certified.isEmpty {
            warnings.append(
                "\(path): the certificates of \(list(certified)) are not looked at: that takes EXTERNAL in auth.mechanisms and "
                    + "auth.certificate_login = \"fingerprint\"")
        }
        let kept = users.users.filter { !$0.value.isDisabled && !$0.value.keys.isEmpty }
        guard !kept.isEmpty, !auth.scramHashes.isEmpty else { return warnings }
        let without = users.users.filter { !$0.value.isDisabled && $0.value.keys.isEmpty }.keys
        if !without.isEmpty {
            warnings.append(
                "\(path): \(list(without)) \(without.count == 1 ? "has" : "have") no SCRAM keys, and cannot log in with a "
                    + "mail program that takes SCRAM: slimtad passwd NAME, or auth.learn_scram")
        }
        for hash in auth.scramHashes {
            let lacking = kept.filter { $0.value.keys[hash] == nil }.keys
            guard !lacking.isEmpty else { continue }
            warnings.append(
                "\(path): \(list(lacking)) \(lacking.count == 1 ? "has" : "have") no keys for \(hash.rawValue), which is "
                    + "therefore offered to nobody: slimtad passwd NAME, or auth.learn_scram")
        }
        let others = kept.values.flatMap(\.keys.values).count { $0.iterationCount != auth.scramIterations }
        if others > 0 {
            warnings.append(
                "\(path): \(others) SCRAM keys have other iterations than auth.scram_iterations: who asks can tell these "
                    + "users from names that do not exist, until their passwords are set anew")
        }
        return warnings
    }

    /// Some of the names, and how many more there are.
    private static func list(_ names: some Collection<String>) -> String {
        let shown = names.sorted().prefix(5).joined(separator: ", ")
        return names.count > 5 ? "\(shown) and \(names.count - 5) more" : shown
    }
}
