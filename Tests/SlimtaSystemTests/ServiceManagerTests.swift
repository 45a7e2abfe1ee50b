// What systemd would hear, on a real socket; and what it would pass.

import Glibc
import Testing

@testable import SlimtaSystem

@Suite struct ServiceManagerTests {
    @Test func notifications() async throws {
        let directory = try TemporaryDirectory()
        let path = directory["notify"]
        await #expect(processExitsWith: .success) { [path = path as String] in
            let socket = try listen(path)
            #expect(!ServiceManager.isPresent)
            ServiceManager.notifyReady(status: "nobody hears this")
            setenv("NOTIFY_SOCKET", path, 1)
            #expect(ServiceManager.isPresent)

            ServiceManager.notifyReady(status: "2 edges\nSTOPPING=1")
            #expect(receive(socket) == "READY=1\nSTATUS=2 edges STOPPING=1")
            ServiceManager.notifyStatus("é\r\n")
            #expect(receive(socket) == "STATUS=é  ")
            ServiceManager.notifyReloading()
            let reloading = receive(socket).split(separator: "=")
            #expect(reloading.dropLast() == ["RELOADING", "1\nMONOTONIC_USEC"])
            #expect(reloading.last.flatMap { Int($0) } ?? 0 > 0)
            ServiceManager.notifyStopping()
            #expect(receive(socket) == "STOPPING=1")
            ServiceManager.notifyWatchdog()
            #expect(receive(socket) == "WATCHDOG=1")
        }
    }

    /// The names first, then the barrier, whose descriptor is closed when all before it has been done.
    @Test func releaseWaitsForTheServiceManager() async throws {
        let directory = try TemporaryDirectory()
        let path = directory["notify"]
        await #expect(processExitsWith: .success) { [path = path as String] in
            ServiceManager.release(names: ["nobody hears this"])
            let socket = try listen(path)
            setenv("NOTIFY_SOCKET", path, 1)
            ServiceManager.release(names: [])
            // Nobody answers: it is not for ever.
            ServiceManager.release(names: ["kept=a", "kept=b"], patience: .zero)
            #expect(receive(socket) == "FDSTOREREMOVE=1\nFDNAME=kept=a")
            #expect(receive(socket) == "FDSTOREREMOVE=1\nFDNAME=kept=b")
            #expect(receive(socket) == "BARRIER=1")
            #expect(receive(socket) == "")
        }
    }

    @Test func watchdog() async {
        await #expect(processExitsWith: .success) {
            unsetenv("WATCHDOG_USEC")
            #expect(ServiceManager.watchdogInterval == nil)
            setenv("WATCHDOG_USEC", "30000000", 1)
            #expect(ServiceManager.watchdogInterval == .seconds(30))
            setenv("WATCHDOG_PID", "1", 1)  // meant for another process
            #expect(ServiceManager.watchdogInterval == nil)
        }
    }

    @Test func inheritedSockets() async {
        await #expect(processExitsWith: .success) {
            try #expect(ServiceManager.takeInheritedSockets().isEmpty)
            // Descriptors 3 to 5, whatever they are.
            while open("/dev/null", O_RDONLY) <= 5 {}
            setenv("LISTEN_PID", "\(getpid())", 1)
            setenv("LISTEN_FDS", "3", 1)
            setenv("LISTEN_FDNAMES", "smtp:submission:smtp", 1)
            let sockets = try ServiceManager.takeInheritedSockets()
            #expect(
                sockets == [
                    .init(name: "smtp", descriptor: 3), .init(name: "submission", descriptor: 4),
                    .init(name: "smtp", descriptor: 5),
                ])
            for socket in sockets { #expect(fcntl(socket.descriptor, F_GETFD) & FD_CLOEXEC != 0) }
            #expect(getenv("LISTEN_FDS") == nil)
            try #expect(ServiceManager.takeInheritedSockets().isEmpty)
        }
    }
}

/// A datagram socket at `path`.
private func listen(_ path: String) throws -> Int32 {
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let result = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
    try #require(result == 0)
    return descriptor
}

private func receive(_ descriptor: Int32) -> String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
}
