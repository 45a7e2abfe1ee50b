// Keys from the first one to the deleted old one, with files as they are and a clock that the test has: restarts in each state,
// DNS wrong in each state, and never a signature that could not be verified.

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

@Suite struct DKIMKeeperTests {
    private let keys: KeeperWorld

    init() throws { keys = try KeeperWorld() }

    @Test func keysAreMadeOnceAndForNobodyElse() throws {
        #expect(throws: Failure.self) { try keys.configure() }
        let first = try keys.make()
        let path = "\(keys.folder.path)/state/dkim/keys/example.com/\(first.selector).pem"
        for (path, mode) in [(path, mode_t(0o600)), ("\(keys.folder.path)/state/dkim/keys/example.com", 0o700)] {
            var status = stat()
            #expect(stat(path, &status) == 0 && status.st_mode & 0o7777 == mode, "\(path)")
        }
        #expect(first.selector == "r\(keys.now.isoDate.prefix(4))a" && first.bits == 2048 && first.isOurs)
        #expect(first.record.hasPrefix("v=DKIM1; k=rsa; p=") && first.life == nil)
        #expect(throws: SigningKeyRefusal.self) { try keys.make() }
        try keys.configure()
        // The next one has to wait for this one.
        #expect(throws: SigningKeyRefusal.self) { try keys.make(next: true) }
        #expect(keys.states == [first.selector: "made"] && keys.signers == nil)
        #expect(keys.log.lines("mail of a domain is refused").count == 1)
        for selector in ["a.b", "../x", "", "A", String(repeating: "x", count: 64)] {
            #expect(throws: SigningKeyRefusal.self, "\(selector)") {
                try keys.keeper.make(
                    SigningKeyWish(domain: "example.org", algorithm: "rsa-sha256", selector: selector, isNext: false))
            }
        }
        for domain in ["../etc", "a/b", "", "Example.com", "."] {
            #expect(throws: SigningKeyRefusal.self, "\(domain)") {
                try keys.keeper.make(
                    SigningKeyWish(domain: domain, algorithm: "rsa-sha256", selector: nil, isNext: false))
            }
        }
        #expect(keys.folder.names("state/dkim/keys") == ["example.com"])
    }

    @Test(arguments: [
        ([], "r2026a"), (["s1", "r2025z", "e2026a"], "r2026a"), (["r2026a"], "r2026b"),
        (["r2026c", "r2026a"], "r2026d"),
        (["r2026z"], "r2026za"), (["r2026za", "r2026z", "r2026y"], "r2026zb"), (["r2026zz"], "r2026zza"),
        (["r2026-x", "r2026"], "r2026a"),
    ])
    func namesFollowEachOther(_ taken: [String], _ next: String) {
        let time = Timestamp(isoDate: "2026-11-30T00:00:00Z")!
        #expect(SigningKeyFolder.selector(for: .rsaSHA256, after: taken, at: time) == next)
        #expect(taken.allSatisfy { !$0.hasPrefix("r2026") || $0 < next || $0.contains("-") })
    }

    /// From the first key to the deleted old one; the daemon is started again in each state.
    @Test(arguments: [false, true]) func aRotation(restarting: Bool) throws {
        func come(to states: [String: String], after time: Duration, _ step: Duration = KeeperWorld.minute) throws {
            keys.live(time, step)
            #expect(keys.states == states, "\(keys.log.lines("DKIM key"))")
            if restarting {
                let signers = keys.signers
                try keys.restart()
                #expect(keys.states == states && keys.signers == signers)
            }
        }
        let first = try keys.make()
        let a = first.selector
        try keys.configure()
        try come(to: [a: "made"], after: .seconds(7200))
        #expect(keys.signers == nil)
        keys.publish(first)
        try come(to: [a: "seen"], after: KeeperWorld.hour)
        #expect(keys.signers == nil)
        try come(to: [a: "active"], after: KeeperWorld.hour + KeeperWorld.minute * 5)
        #expect(keys.signers == [a])
        let second = try keys.make(next: true)
        let b = second.selector
        #expect(b > a)
        try come(to: [a: "active", b: "made"], after: KeeperWorld.hour * 5)
        keys.publish(second)
        try come(to: [a: "active", b: "seen"], after: KeeperWorld.hour)
        #expect(keys.signers == [a])
        try come(to: [a: "retiring", b: "active"], after: KeeperWorld.hour + KeeperWorld.minute * 5)
        #expect(keys.signers == [b])
        // A week for signatures, five days for those who verify late.
        try come(to: [a: "retiring", b: "active"], after: KeeperWorld.hour * 24 * 11, KeeperWorld.minute * 30)
        #expect(keys.log.lines("DKIM record may be removed").isEmpty)
        try come(to: [a: "old", b: "active"], after: KeeperWorld.hour * 26, KeeperWorld.minute * 30)
        #expect(keys.log.lines("DKIM record may be removed").count == 1)
        keys.zone[first.recordName] = nil
        try come(to: [b: "active"], after: KeeperWorld.hour * 2)
        #expect(keys.folder.names("state/dkim/keys/example.com") == ["\(b).pem"] && keys.signers == [b])
        #expect(keys.log.lines("DKIM key is deleted").count == 1)
    }

    /// The old key signs as long as the new one cannot be verified with; when neither can, nobody does.
    @Test(arguments: [
        DKIMKeyAnswer.absent, .records([Array("v=DKIM1; p=".utf8)]), .records([Array("v=DKIM1; k=rsa; p=AAAA".utf8)]),
        .records([Array("v=spf1 -all".utf8), Array("v=DKIM1; p=AAAA".utf8)]),
    ])
    func recordsThatAreWrong(_ wrong: DKIMKeyAnswer) throws {
        let first = try keys.make()
        try keys.configure()
        keys.zone[first.recordName] = wrong
        keys.live(KeeperWorld.hour * 3)
        #expect(keys.signers == nil && keys.states == [first.selector: "made"])
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        #expect(keys.signers == [first.selector])
        let second = try keys.make(next: true)
        keys.publish(second)
        // Wrong once while it settles: that begins anew.
        keys.live(KeeperWorld.minute * 50)
        keys.zone[second.recordName] = wrong
        keys.live(KeeperWorld.hour)
        keys.publish(second)
        keys.live(KeeperWorld.minute * 50) { #expect(keys.signers == [first.selector]) }
        keys.live(KeeperWorld.hour * 2)
        #expect(keys.signers == [second.selector])
        // The new one fails, and the old one is there: it takes over, and the new one again.
        keys.zone[second.recordName] = wrong
        keys.live(KeeperWorld.hour * 2)
        #expect(keys.signers == [first.selector] && keys.states[second.selector] == "failing")
        #expect(keys.log.lines("DKIM key is in another state").last?.contains("state=failing") == true)
        keys.zone[first.recordName] = wrong
        keys.live(KeeperWorld.hour * 2)
        #expect(keys.signers == nil)
        try keys.restart()
        #expect(keys.signers == nil)
        keys.publish(second)
        keys.live(KeeperWorld.hour * 2)
        #expect(keys.signers == [second.selector])
    }

    @Test func silenceChangesNothing() throws {
        let first = try keys.make()
        try keys.configure()
        let silence = DKIMKeyAnswer.failed("SERVFAIL")
        keys.zone[first.recordName] = silence
        keys.live(KeeperWorld.hour * 30)
        #expect(keys.signers == nil && keys.states == [first.selector: "made"])
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        keys.zone[first.recordName] = silence
        keys.live(KeeperWorld.hour * 23)
        #expect(keys.keeper.report().warnings.isEmpty)
        keys.live(KeeperWorld.hour * 48)
        #expect(keys.signers == [first.selector] && keys.states == [first.selector: "active"])
        #expect(keys.log.lines("DNS says nothing of a DKIM key").count == 2)
        #expect(keys.keeper.report().warnings.count == 1)
    }

    /// A zone whose SOA lets others remember for five hours that there was nothing.
    @Test func resolversThatAskedTooEarly() throws {
        let first = try keys.make()
        try keys.configure()
        keys.negativeTTL = KeeperWorld.hour * 5
        keys.live(KeeperWorld.minute * 30)
        keys.publish(first)
        keys.live(KeeperWorld.hour * 5) { #expect(keys.signers == nil) }
        keys.live(KeeperWorld.hour * 2)
        #expect(keys.signers == [first.selector])
    }

    /// The zone does not say: a day, which is the longest that anybody may remember.
    @Test func aZoneThatDoesNotSay() throws {
        let first = try keys.make()
        try keys.configure()
        keys.negativeTTL = nil
        keys.publish(first)
        keys.live(KeeperWorld.hour * 23) { #expect(keys.signers == nil) }
        keys.live(KeeperWorld.hour * 2)
        #expect(keys.signers == [first.selector])
    }

    /// A reload has read the folder; before it is done, a key is made, or deleted.
    @Test func aReloadAndWhatHappensMeanwhile() throws {
        let first = try keys.make()
        try keys.configure()
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        let file = try keys.file
        let read = try file.readSigningKeys()
        let second = try keys.make(next: true)
        keys.keeper.configure(file.values, read, at: keys.now)
        #expect(keys.states == [first.selector: "active", second.selector: "made"])
        keys.publish(second)
        keys.live(KeeperWorld.hour * 3)
        keys.live(KeeperWorld.hour * 24 * 13, KeeperWorld.minute * 30)
        #expect(keys.states == [first.selector: "old", second.selector: "active"])
        let late = try file.readSigningKeys()
        #expect(late.count == 2)
        keys.zone[first.recordName] = nil
        keys.live(KeeperWorld.hour * 2)
        keys.keeper.configure(file.values, late, at: keys.now)
        #expect(keys.states == [second.selector: "active"])
        // What the operator has deleted is gone.
        unlink("\(keys.folder.path)/state/dkim/keys/example.com/\(second.selector).pem")
        keys.keeper.configure(file.values, late, at: keys.now)
        #expect(keys.states.isEmpty && keys.signers == nil)
    }

    /// Nobody knows any more that a key is old, and DNS has it no longer: it keeps no other from coming.
    @Test func aRotationIsNotBlockedForEver() throws {
        let first = try keys.make()
        try keys.configure()
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        // Files are known by the second.
        usleep(1_100_000)
        let second = try keys.make(next: true)
        keys.publish(second)
        keys.live(KeeperWorld.hour * 3)
        keys.zone[first.recordName] = nil
        keys.keeper.write()
        unlink("\(keys.folder.path)/state/dkim/state")
        let log = keys.log
        let keeper = DKIMKeeper(in: "\(keys.folder.path)/state", Logger(label: "keys") { _ in log })
        keys.use(keeper)
        try keys.configure()
        keys.live(KeeperWorld.hour * 3)
        #expect(keys.states == [first.selector: "made", second.selector: "active"])
        let third = try keys.make(next: true)
        // That one waits; it can be given up.
        let refused = #expect(throws: SigningKeyRefusal.self) { try keys.make(next: true) }
        #expect("\(refused!)".contains("delete \(keys.folder.path)/state/dkim/keys/example.com/\(third.selector).pem"))
        unlink("\(keys.folder.path)/state/dkim/keys/example.com/\(third.selector).pem")
        try keys.configure()
        #expect(try keys.make(next: true).selector > third.selector)
    }

    /// Commands without the daemon say it, and leave the file for the daemon.
    @Test func aDamagedFileIsLeftToTheDaemon() throws {
        _ = try keys.make()
        try keys.configure()
        keys.keeper.write()
        try keys.folder.write("rubbish\n", to: "state/dkim/state")
        var told: [String] = []
        let other = DKIMKeeper(in: "\(keys.folder.path)/state", Logger(label: "keys") { [log = keys.log] _ in log }) {
            told.append("\($0): \($1)")
        }
        #expect(told == ["\(keys.folder.path)/state/dkim/state: the file is damaged"])
        let file = try keys.file
        other.configure(file.values, try file.readSigningKeys(), at: keys.now)
        #expect(throws: SigningKeyRefusal.self) {
            try other.make(
                SigningKeyWish(domain: "example.com", algorithm: "rsa-sha256", selector: nil, isNext: true))
        }
        #expect(keys.folder.names("state/dkim").sorted() == ["keys", "state"])
        let left = try SecureFile.read(
            "\(keys.folder.path)/state/dkim/state", maximum: 99, mustNotBeReadableByOthers: false)
        #expect(left == Array("rubbish\n".utf8))
        #expect(keys.log.lines("begin anew").isEmpty)
    }

    /// What has been signed can be verified, as far as is known.
    @Test func whatStands() throws {
        let first = try keys.make()
        func stands(_ key: SigningReport.Key) throws -> Bool {
            keys.keeper.stands(
                try #require(SelectorName(domain: "example.com", selector: key.selector, algorithm: .rsaSHA256)))
        }
        try keys.configure()
        #expect(try !stands(first))
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        #expect(try stands(first))
        let second = try keys.make(next: true)
        keys.publish(second)
        keys.live(KeeperWorld.hour * 3)
        #expect(try stands(first) && stands(second))
        // Too early.
        keys.zone[first.recordName] = nil
        keys.live(KeeperWorld.hour * 2)
        #expect(try !stands(first) && stands(second))
        keys.publish(first)
        keys.live(KeeperWorld.hour * 2)
        #expect(try stands(first))
        keys.live(KeeperWorld.hour * 24 * 13, KeeperWorld.minute * 30)
        #expect(try !stands(first) && stands(second))
        keys.zone[second.recordName] = nil
        keys.live(KeeperWorld.hour * 2)
        #expect(try !stands(second))
    }

    @Test func aLineThatIsGoneByMistake() throws {
        let first = try keys.make()
        try keys.configure()
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        keys.configuration = ""
        try keys.configure()
        #expect(keys.states.isEmpty && keys.signers == nil && keys.keeper.domains.entry(for: "example.com") == nil)
        try keys.restart()
        keys.configuration = KeeperWorld.table
        try keys.configure()
        #expect(keys.states == [first.selector: "active"] && keys.signers == [first.selector])
        #expect(keys.keeper.domains.entry(for: "a.example.com") == "example.com")
    }

    @Test func statesThatCannotBeReadBeginAnew() throws {
        let first = try keys.make()
        try keys.configure()
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        keys.keeper.write()
        try keys.folder.write("rubbish\n", to: "state/dkim/state")
        let other = DKIMKeeper(in: "\(keys.folder.path)/state", Logger(label: "keys") { [log = keys.log] _ in log })
        let file = try keys.file
        other.configure(file.values, try file.readSigningKeys(), at: keys.now)
        #expect(keys.log.lines("states of DKIM keys begin anew").count == 1)
        #expect(keys.folder.names("state/dkim").contains { $0.hasPrefix("state.unusable") })
        guard case .closed = other.signers(for: "example.com") else {
            Issue.record("a key signs that nobody knows anything of")
            return
        }
    }

    @Test func theLastUseIsKept() throws {
        let first = try keys.make()
        try keys.configure()
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        let name = try #require(SelectorName(domain: "example.com", selector: first.selector, algorithm: .rsaSHA256))
        keys.keeper.signed([name], at: keys.now, leaving: keys.now)
        keys.keeper.signed([name], at: keys.now + .seconds(59), leaving: keys.now + .seconds(59))
        try keys.restart()
        #expect(keys.keeper.report().keys[0].life?.signed == keys.now)
    }

    /// The record of a key stays for what it has signed to leave later, although another one signs long since.
    @Test(arguments: [false, true]) func whatLeavesLater(restarting: Bool) throws {
        let first = try keys.make()
        try keys.configure()
        keys.publish(first)
        keys.live(KeeperWorld.hour * 3)
        let name = try #require(SelectorName(domain: "example.com", selector: first.selector, algorithm: .rsaSHA256))
        keys.keeper.signed([name], at: keys.now, leaving: keys.now)
        keys.keeper.signed([name], at: keys.now + .seconds(1), leaving: keys.now + KeeperWorld.hour * 24 * 30)
        if restarting { try keys.restart() }
        let second = try keys.make(next: true)
        keys.publish(second)
        keys.live(KeeperWorld.hour * 24 * 41, KeeperWorld.minute * 30)
        #expect(keys.states == [first.selector: "retiring", second.selector: "active"])
        keys.live(KeeperWorld.hour * 24 * 2, KeeperWorld.minute * 30)
        #expect(keys.states == [first.selector: "old", second.selector: "active"])
    }
}
