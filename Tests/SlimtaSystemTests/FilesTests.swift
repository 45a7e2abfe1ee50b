// Secrets are read with care; limits are raised; the host has a name.

import Glibc
import Testing

@testable import SlimtaSystem

@Suite struct SecureFileTests {
    @Test func readsAndTrims() throws {
        let directory = try TemporaryDirectory()
        try write("pass word\r\n", to: directory["secret"])
        try #expect(SecureFile.secret(directory["secret"]) == Array("pass word".utf8))
        try write("\n\n", to: directory["secret"])
        try #expect(SecureFile.secret(directory["secret"]) == Array("\n".utf8))
        try write("\n", to: directory["secret"])
        #expect(throws: SystemError.self) { try SecureFile.secret(directory["secret"]) }
    }

    /// What a power cut has left of this process id, which a container gives again; what is no such file stays.
    @Test func leftOvers() throws {
        let directory = try TemporaryDirectory()
        let leftOver = "\(directory["file"]).new-\(getpid())"
        for content in ["old", "new"] {
            try write("half of", to: leftOver)
            try SecureFile.replace(directory["file"], with: Array(content.utf8))
            try #expect(SecureFile.secret(directory["file"]) == Array(content.utf8))
            #expect(access(leftOver, F_OK) != 0)
        }
        mkdir(leftOver, 0o700)
        #expect(throws: SystemError.self) { try SecureFile.replace(directory["file"], with: [1]) }
        try #expect(SecureFile.secret(directory["file"]) == Array("new".utf8))
        rmdir(leftOver)
        symlink("file", leftOver)
        #expect(throws: SystemError.self) { try SecureFile.replace(directory["file"], with: [1]) }
        try #expect(SecureFile.secret(directory["file"]) == Array("new".utf8))
    }

    @Test func aFileThatIsLongerThanItSays() throws {
        // Files in /proc say that they are empty.
        let content = try SecureFile.read("/proc/self/status", maximum: 1 << 20, mustNotBeReadableByOthers: false)
        #expect(String(decoding: content, as: UTF8.self).contains("\nVmRSS:"))
        #expect(throws: SystemError.self) {
            try SecureFile.read("/proc/self/status", maximum: 100, mustNotBeReadableByOthers: false)
        }
    }

    @Test(arguments: [0, 1, 99, 100, 101, 5000])
    func maximum(size: Int) throws {
        let directory = try TemporaryDirectory()
        try write(String(repeating: "x", count: size), to: directory["file"], mode: 0o644)
        func read() throws -> Int {
            try SecureFile.read(directory["file"], maximum: 100, mustNotBeReadableByOthers: false).count
        }
        if size <= 100 {
            #expect(try read() == size)
        } else {
            let error = #expect(throws: SystemError.self) { try read() }
            #expect(error?.code == .invalid)
        }
    }

    @Test(
        arguments: [
            (0o600, true), (0o400, true), (0o640, true), (0o440, true), (0o644, false), (0o604, false), (0o620, false),
            (0o601, false), (0o660, false), (0o602, false),
        ] as [(mode_t, Bool)])
    func modes(mode: mode_t, isGood: Bool) throws {
        let directory = try TemporaryDirectory()
        try write("x", to: directory["file"], mode: mode)
        if isGood {
            try #expect(SecureFile.secret(directory["file"]) == [UInt8(ascii: "x")])
        } else {
            let error = #expect(throws: SystemError.self) { try SecureFile.secret(directory["file"]) }
            #expect(error?.code == .notPermitted)
            #expect(error?.message.contains("has mode 0\(String(mode, radix: 8)):") == true)
            // Where secrecy does not matter it may be read.
            #expect(try SecureFile.read(directory["file"], maximum: 9, mustNotBeReadableByOthers: false).count == 1)
        }
    }

    @Test(.enabled(if: geteuid() == 0, "needs root"))
    func ofAnotherUser() throws {
        let directory = try TemporaryDirectory()
        try write("x", to: directory["file"])
        #expect(chown(directory["file"], 65534, 65534) == 0)
        let error = #expect(throws: SystemError.self) { try SecureFile.secret(directory["file"]) }
        #expect(error?.code == .notPermitted)
        // The user whom the daemon becomes may have secrets, as it will read them at a reload.
        #expect(try SecureFile.secret(directory["file"], service: 65534) == [UInt8(ascii: "x")])
    }

    @Test func whatIsNoFile() throws {
        let directory = try TemporaryDirectory()
        #expect(mkfifo(directory["fifo"], 0o600) == 0)
        for path in [directory["fifo"], directory.path, "/dev/zero"] {
            let error = #expect(throws: SystemError.self) {
                try SecureFile.read(path, maximum: 100, mustNotBeReadableByOthers: false)
            }
            #expect(error?.code == .invalid)
        }
        let error = #expect(throws: SystemError.self) { try SecureFile.secret(directory["none"]) }
        #expect(error?.code == .notFound)
    }

    @Test func credentials() async throws {
        let directory = try TemporaryDirectory()
        try write("s3cret\n", to: directory["relay-password"], mode: 0o400)
        let path = directory.path
        await #expect(processExitsWith: .success) { [path = path as String] in
            unsetenv("CREDENTIALS_DIRECTORY")
            let error = #expect(throws: SystemError.self) { try SecureFile.secret("credential:relay-password") }
            #expect(error?.code == .notFound)
            setenv("CREDENTIALS_DIRECTORY", path, 1)
            try #expect(SecureFile.secret("credential:relay-password") == Array("s3cret".utf8))
            for name in ["", ".", "..", "../x", "a/b", "/etc/passwd"] {
                let error = #expect(throws: SystemError.self) { try SecureFile.resolve("credential:\(name)") }
                #expect(error?.code == .invalid)
            }
            try #expect(SecureFile.resolve("/a/b") == "/a/b")
        }
    }
}

@Suite struct MachineTests {
    @Test func fileLimit() async {
        await #expect(processExitsWith: .success) {
            var limit = rlimit(rlim_cur: 512, rlim_max: 1024)
            #expect(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
            try #expect(FileLimits.raise() == 1024)
            #expect(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
            #expect(limit.rlim_cur == 1024)
            try #expect(FileLimits.raise() == 1024)
        }
    }

    @Test func hostname() {
        let name = Hostname.fullyQualified()
        #expect(!name.isEmpty)
        #expect(name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F })
        var own = [CChar](repeating: 0, count: 256)
        gethostname(&own, 255)
        let host = String(decoding: own.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // Either it has a domain, or there is none to be had and it is the plain name.
        #expect(name.contains(".") || name == host)
    }

    @Test func errorsTellTheExitStatus() {
        let table: [(SystemError.Code, SlimtaSystem.ExitStatus)] = [
            (.notFound, .configuration), (.notPermitted, .notPermitted), (.cannotCreate, .cannotCreate),
            (.locked, .temporary), (.invalid, .configuration), (.failed, .system),
        ]
        for (code, status) in table { #expect(SystemError(code, "x").exitStatus == status) }
        #expect(SystemError("cannot read x", number: EACCES).code == .notPermitted)
        #expect(SystemError("cannot read x", number: ENOENT).description == "cannot read x: No such file or directory")
        #expect([64, 69, 71, 73, 75, 77, 78].allSatisfy { SlimtaSystem.ExitStatus(rawValue: $0) != nil })
    }
}
