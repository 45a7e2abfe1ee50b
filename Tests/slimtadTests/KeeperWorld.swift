// What a keeper of signing keys lives in, for DKIMKeeperTests and OperatorKeyTests.

import Glibc
import Logging
import SlimtaConfiguration
import SlimtaControl
import SlimtaDKIM
import SlimtaMail
import SlimtaPolicy
import SlimtaSystem
import Testing

@testable import slimtad

/// A keeper on a folder of its own, the zone, and the time.
final class KeeperWorld {
    static let edge =
        "[[edge]]\nname = \"in\"\ntype = \"smtp\"\nlisten = [\"127.0.0.1:1\"]\ntls = \"none\"\nauth = \"none\"\n"
    static let table = "[[dkim]]\ndomains = [\"example.com\"]\n"
    static let minute = Duration.seconds(60)
    static let hour = Duration.seconds(3600)

    let folder: Folder
    let log = KeptLog()
    private(set) var keeper: DKIMKeeper
    var configuration = table
    var now = Timestamp.now()
    /// What DNS has: by name. Absent where nothing is.
    var zone: [String: DKIMKeyAnswer] = [:]
    var negativeTTL: Duration? = .zero

    init() throws {
        folder = try Folder()
        mkdir("\(folder.path)/state", 0o700)
        let log = log
        keeper = DKIMKeeper(in: "\(folder.path)/state", Logger(label: "keys") { _ in log })
    }

    var file: ConfigurationFile {
        get throws {
            let text = Self.edge + configuration + "[daemon]\nstate_directory = \"\(folder.path)/state\"\n"
            try folder.write(text, to: "slimta.conf")
            return try ConfigurationFile.parse("\(folder.path)/slimta.conf")
        }
    }

    /// As at a reload.
    func configure() throws {
        let file = try file
        keeper.configure(file.values, try file.readSigningKeys(), at: now)
    }

    /// As at a restart.
    func restart() throws {
        keeper.write()
        let log = log
        keeper = DKIMKeeper(in: "\(folder.path)/state", Logger(label: "keys") { _ in log })
        try configure()
    }

    func use(_ other: DKIMKeeper) { keeper = other }

    func make(next: Bool = false, selector: String? = nil) throws -> SigningReport.Key {
        try keeper.make(
            SigningKeyWish(domain: "example.com", algorithm: "rsa-sha256", selector: selector, isNext: next), at: now)
    }

    func publish(_ key: SigningReport.Key) { zone[key.recordName] = .records([Array(key.record.utf8)]) }

    /// Lives on, and answers what is asked, minute by minute.
    func live(_ time: Duration, _ step: Duration = minute, check: () -> Void = {}) {
        let end = now + time
        while now < end {
            now = now + step
            for name in keeper.due(at: now) {
                let answer = zone[name.recordName] ?? .absent
                keeper.take(.init(name: name, answer: answer, ttl: .seconds(60), negativeTTL: negativeTTL), at: now)
            }
            keeper.pass(now)
            check()
        }
    }

    /// Selector: state.
    var states: [String: String] {
        Dictionary(uniqueKeysWithValues: keeper.report().keys.map { ($0.selector, $0.life?.state ?? "") })
    }

    /// Who signs; nil: nobody, mail is refused.
    var signers: [String]? {
        switch keeper.signers(for: "example.com") {
        case .sign(let signers): signers.map(\.selector)
        case .closed: nil
        }
    }
}
