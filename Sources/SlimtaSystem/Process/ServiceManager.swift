// systemd: readiness, status, watchdog, sockets that it opened for us. Called by the composition root. Where no
// systemd started the process, each call does nothing.

import CSystemd
import Glibc

/// The service manager that started the process, if one did.
package enum ServiceManager {
    /// A socket that systemd listens on for us (sd_listen_fds_with_names(3)).
    package struct InheritedSocket: Hashable, Sendable {
        /// FileDescriptorName= of the socket unit; the unit's name where that says nothing.
        package let name: String
        /// Ours from now on, close-on-exec.
        package let descriptor: Int32

        /// A socket of ``ServiceManager/takeInheritedSockets()``, or one that a test made.
        package init(name: String, descriptor: Int32) {
            self.name = name
            self.descriptor = descriptor
        }
    }

    /// Whether a service manager listens to what is told here.
    package static var isPresent: Bool { getenv("NOTIFY_SOCKET") != nil }

    /// READY=1: mail is accepted from now on. `status` is what `systemctl status` shows.
    package static func notifyReady(status: String) { notify("READY=1\nSTATUS=\(line(status))") }

    /// STOPPING=1: the drain has begun.
    package static func notifyStopping() { notify("STOPPING=1") }

    /// RELOADING=1: to be followed by ``notifyReady(status:)``, whether the reload went well or not.
    package static func notifyReloading() {
        // Type=notify-reload (systemd 253) wants to know when it began, on its own clock.
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        notify("RELOADING=1\nMONOTONIC_USEC=\(Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000)")
    }

    /// STATUS=: what `systemctl status` shows; one line.
    package static func notifyStatus(_ text: String) { notify("STATUS=\(line(text))") }

    /// WATCHDOG=1: still alive. To be told in half of ``watchdogInterval``.
    package static func notifyWatchdog() { notify("WATCHDOG=1") }

    /// WatchdogSec= of the unit: how long systemd waits for a sign of life; nil if it does not.
    package static var watchdogInterval: Duration? {
        var microseconds: UInt64 = 0
        guard sd_watchdog_enabled(0, &microseconds) > 0, microseconds > 0 else { return nil }
        return .microseconds(Int64(clamping: microseconds))
    }

    /// Takes the sockets that systemd passed, and their names. To be called once, before any thread exists: it clears
    /// the environment variables, so that no child takes them for its own.
    package static func takeInheritedSockets() throws(SystemError) -> [InheritedSocket] {
        var names: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
        let count = sd_listen_fds_with_names(1, &names)
        guard count >= 0 else { throw SystemError("cannot take the sockets of systemd", number: -count) }
        guard count > 0, let names else { return [] }
        defer {
            for index in 0..<Int(count) { free(names[index]) }
            free(names)
        }
        return (0..<count).map { index in
            InheritedSocket(
                name: names[Int(index)].map { String(cString: $0) } ?? "", descriptor: SD_LISTEN_FDS_START + index)
        }
    }

    /// FDSTORE=1: systemd keeps these sockets open, and passes them under `name` to the next process of this service,
    /// however this one ends; until then connections wait in them. `name` is what ``isName(_:)`` says.
    ///
    /// FileDescriptorStoreMax= of the unit says how many it keeps. A socket that it has already is not kept twice.
    package static func keep(_ sockets: [Int32], name: String) {
        guard isPresent else { return }
        sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDNAME=\(name)\nFDPOLL=0", sockets, UInt32(sockets.count))
    }

    /// FDSTOREREMOVE=1: systemd closes what it keeps under these names. It has when this returns, so that their addresses
    /// can be bound again; or it has not answered for `patience` (BARRIER=1).
    package static func release(names: [String], patience: Duration = .seconds(5)) {
        guard isPresent, !names.isEmpty else { return }
        for name in names { notify("FDSTOREREMOVE=1\nFDNAME=\(name)") }
        sd_notify_barrier(0, UInt64(patience.components.seconds) * 1_000_000)
    }

    /// Whether systemd takes it as a name of sockets (sd_notify(3), FDNAME=).
    package static func isName(_ name: String) -> Bool {
        name.utf8.count <= 255 && name.utf8.allSatisfy { (0x20...0x7E).contains($0) && $0 != UInt8(ascii: ":") }
    }

    private static func notify(_ state: String) { sd_notify(0, state) }

    /// A line break would begin another assignment.
    private static func line(_ text: String) -> String {
        String(decoding: text.utf8.map { $0 < 0x20 ? UInt8(ascii: " ") : $0 }, as: UTF8.self)
    }
}
