// Root is given up for good: each in a process of its own, for it cannot be had back.

import Glibc
import Testing

@testable import SlimtaSystem

@Suite(.enabled(if: geteuid() == 0, "needs root"))
struct PrivilegesTests {
    @Test func dropsForGood() async {
        await #expect(processExitsWith: .success) {
            let nobody = try Privileges.lookUp(user: "nobody", group: "nogroup")
            // Something to lose: root's groups, and an inheritable capability set that is root's.
            var groups: [gid_t] = [0, 1, 2]
            #expect(setgroups(groups.count, &groups) == 0)
            try Privileges.drop(to: nobody)

            let uid = "\(nobody.uid)"
            let gid = "\(nobody.gid)"
            #expect(ownStatus("Uid") == [uid, uid, uid, uid].joined(separator: " "))
            #expect(ownStatus("Gid") == [gid, gid, gid, gid].joined(separator: " "))
            #expect(ownStatus("Groups") == gid)
            for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] { #expect(ownStatus(set) == "0000000000000000") }
            #expect(ownStatus("NoNewPrivs") == "1")
            #expect(setuid(0) == -1)
            #expect(seteuid(0) == -1)
            #expect(setreuid(0, 0) == -1)
            #expect(setgid(0) == -1)
            #expect(setgroups(groups.count, &groups) == -1)
            #expect(open("/etc/shadow", O_RDONLY) == -1)
            // All threads: glibc changes them together.
            var thread = pthread_t()
            pthread_create(
                &thread, nil,
                { _ in
                    if getuid() == 0 || setuid(0) == 0 { _exit(99) }
                    return nil
                }, nil)
            pthread_join(thread, nil)
            // Dumpable: the files of the process in /proc are the user's, not root's.
            var status = stat()
            #expect(stat("/proc/thread-self/status", &status) == 0)
            #expect(status.st_uid == nobody.uid)
        }
    }

    @Test func lowPortsOnlyWhereItIsSaid() async {
        await #expect(processExitsWith: .success) {
            func bindsLow(_ port: UInt16) -> Bool {
                let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
                defer { close(descriptor) }
                var address = sockaddr_in()
                address.sin_family = sa_family_t(AF_INET)
                address.sin_port = port.bigEndian
                address.sin_addr.s_addr = inet_addr("127.99.98.97")
                return withUnsafePointer(to: &address) {
                    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                    } == 0
                }
            }
            try Privileges.drop(to: try Privileges.lookUp(user: "nobody", group: "nogroup"))
            #expect(!bindsLow(587))
            #expect(Privileges.bindingLowPorts { bindsLow(587) })
            // CAP_NET_BIND_SERVICE, which is 10; what throws comes through.
            #expect(Privileges.bindingLowPorts { ownStatus("CapEff") } == "0000000000000400")
            #expect(throws: SystemError.self) {
                try Privileges.bindingLowPorts { () throws(SystemError) in throw SystemError(.failed, "x") }
            }
            #expect(!bindsLow(587))
            // No program that is run gets it.
            #expect(system("grep -q 'CapPrm:.0000000000000000' /proc/self/status") == 0)
            #expect(Privileges.bindingLowPorts { system("grep -q 'CapPrm:.0000000000000000' /proc/self/status") } == 0)
        }
    }

    /// Where nothing was kept, nothing can be put into effect.
    @Test func withoutTheRightNothingIsHad() async {
        await #expect(processExitsWith: .success) {
            var none: [gid_t] = []
            #expect(setgroups(0, &none) == 0 && setgid(65534) == 0 && setuid(65534) == 0)
            try Privileges.renounce()
            #expect(Privileges.bindingLowPorts { ownStatus("CapEff") } == "0000000000000000")
        }
    }

    @Test func ownGroupsAreKept() async {
        await #expect(processExitsWith: .success) {
            let identity = Identity(name: "x", uid: 65534, gid: 65534, groups: [65534, 12345, 54321])
            try Privileges.drop(to: identity)
            #expect(ownStatus("Groups") == "12345 54321 65534")
            // Whoever is already that user may drop again, and nobody else.
            try Privileges.drop(to: identity)
            #expect(throws: SystemError.self) {
                try Privileges.drop(to: Identity(name: "y", uid: 1, gid: 1, groups: [1]))
            }
        }
    }

    @Test(arguments: [
        Identity(name: "a", uid: 0, gid: 65534, groups: [65534]), Identity(name: "b", uid: 65534, gid: 0, groups: [0]),
        Identity(name: "c", uid: 65534, gid: 65534, groups: [65534, 0]),
    ])
    func rootIsNoTarget(identity: Identity) {
        let error = #expect(throws: SystemError.self) { try Privileges.drop(to: identity) }
        #expect(error?.exitStatus == .notPermitted)
        #expect(geteuid() == 0)
    }

    @Test func rootCannotRenounce() async {
        await #expect(processExitsWith: .success) {
            #expect(throws: SystemError.self) { try Privileges.renounce() }
        }
    }

    @Test func halfOfADropIsNoticed() async {
        await #expect(processExitsWith: .success) {
            // Effective is not all: the real and the saved uid are still root's, and that must be noticed.
            #expect(seteuid(65534) == 0)
            #expect(throws: SystemError.self) { try Privileges.renounce() }
        }
    }
}

@Suite struct LookUpTests {
    @Test func findsUserAndGroup() throws {
        let identity = try Privileges.lookUp(user: "nobody", group: "nogroup")
        #expect(identity == Identity(name: "nobody", uid: 65534, gid: 65534, groups: [65534]))
        #expect(try Privileges.lookUp(user: "root", group: "nogroup").groups.contains(65534))
    }

    @Test(arguments: [
        ("no-such-user", "nogroup", "there is no user"), ("nobody", "no-such-group", "there is no group"),
    ])
    func saysWhatIsNotThere(user: String, group: String, message: String) {
        let error = #expect(throws: SystemError.self) { try Privileges.lookUp(user: user, group: group) }
        #expect(error?.code == .notFound)
        #expect(error?.exitStatus == .configuration)
        #expect(error?.message.hasPrefix(message) == true)
    }
}
