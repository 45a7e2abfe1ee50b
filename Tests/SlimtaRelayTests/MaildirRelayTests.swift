// Final delivery: what lies in the maildir, octet for octet.

import Foundation
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaQueue
import SlimtaRelay
import Testing

struct MaildirRelayTests {
    static let threads: NIOThreadPool = {
        let threads = NIOThreadPool(numberOfThreads: 2)
        threads.start()
        return threads
    }()

    static func relay(_ path: String, hostname: String = "client.test") -> MaildirRelay {
        MaildirRelay(path: path, hostname: hostname, threads: threads, logger: Fixture.logger)
    }

    @Test func octetForOctet() async throws {
        let folder = try Fixture.folder()
        defer { Fixture.removeFolder(folder) }
        let path = folder + "/maildir"
        var delivery = Delivery("Subject: \u{FC}\r\n\r\n.\r\nno end", to: ["a@x.test", "b@x.test", "c@x.test"])
        delivery.recipients = [0, 2]
        let outcomes = await Self.relay(path).attempt(delivery)
        #expect(outcomes.map(\.result) == [.delivered, .delivered])
        #expect(outcomes[0].relay == "maildir:\(path)")
        let files = Fixture.files(in: path)
        #expect(files.count == 1)
        #expect(files[0].hasPrefix(path + "/new/") && files[0].hasSuffix(".client.test"))
        #expect(
            Fixture.read(files[0])
                == "Return-Path: <sender@client.test>\r\nDelivered-To: a@x.test\r\nDelivered-To: c@x.test\r\n"
                + "Received: here\r\nSubject: \u{FC}\r\n\r\n.\r\nno end")
        for (name, mode) in [("", 0o700), ("/tmp", 0o700), ("/cur", 0o700), ("/new", 0o700)] {
            let attributes = try FileManager.default.attributesOfItem(atPath: path + name)
            #expect(attributes[.posixPermissions] as? Int == mode)
        }
        #expect(try FileManager.default.attributesOfItem(atPath: files[0])[.posixPermissions] as? Int == 0o600)
    }

    @Test func largeMessages() async throws {
        let folder = try Fixture.folder()
        defer { Fixture.removeFolder(folder) }
        let rest = (0..<20).map { ByteBuffer(repeating: UInt8($0), count: 100_000) }
        let delivery = Delivery("head\r\n", to: ["a@x.test"], from: nil, rest: SpooledOctets(rest))
        #expect(await Self.relay(folder).attempt(delivery).map(\.result) == [.delivered])
        let data = try #require(FileManager.default.contents(atPath: Fixture.files(in: folder)[0]))
        let top = Data("Return-Path: <>\r\nDelivered-To: a@x.test\r\nReceived: here\r\nhead\r\n".utf8)
        #expect(data == top + rest.reduce(into: Data()) { $0 += Data($1.readableBytesView) })
        // One whose file is damaged is not delivered, and nothing is left of it.
        let damaged = Delivery(to: ["a@x.test"], rest: SpooledOctets(rest, failsAtEnd: true))
        #expect(await Self.relay(folder).attempt(damaged).map(\.result) == [.temporary])
        #expect(Fixture.files(in: folder).count == 1)
    }

    @Test func manyAtOnce() async throws {
        let folder = try Fixture.folder()
        defer { Fixture.removeFolder(folder) }
        let relay = Self.relay(folder, hostname: "a/b:c")
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<100 {
                group.addTask {
                    _ = await relay.attempt(Delivery("Subject: \(number)\r\n", to: ["a@x.test"]))
                }
            }
        }
        let files = Fixture.files(in: folder + "/new")
        #expect(files.count == 100)
        #expect(Set(files.map { Fixture.read($0) }).count == 100)
        #expect(Fixture.files(in: folder + "/tmp").isEmpty)
    }

    @Test func noMaildir() async throws {
        let folder = try Fixture.folder()
        defer { Fixture.removeFolder(folder) }
        #expect(FileManager.default.createFile(atPath: folder + "/file", contents: nil))
        let outcomes = await Self.relay(folder + "/file").attempt(Delivery(to: ["a@x.test", "b@x.test"]))
        #expect(outcomes.map(\.result) == [.temporary, .temporary])
        #expect(outcomes[0].reply.status == EnhancedStatus(4, 2, 0))
    }

    @Test func fullDisk() async throws {
        // /dev/full says ENOSPC to everyone; as root a small tmpfs would do as well.
        let folder = try Fixture.folder()
        defer { Fixture.removeFolder(folder) }
        guard mount("none", folder, "tmpfs", 0, "size=64k") == 0 else { return }
        defer { umount(folder) }
        let rest = SpooledOctets([ByteBuffer(repeating: 0x61, count: 200_000)])
        let outcomes = await Self.relay(folder).attempt(Delivery(to: ["a@x.test"], rest: rest))
        #expect(outcomes.map(\.result) == [.temporary])
        #expect(outcomes[0].reply.status == EnhancedStatus(4, 3, 1))
        #expect(Fixture.files(in: folder).isEmpty)
    }

    @Test(arguments: ["a\r\nX: y", "a\nb", "a\u{0}"]) func addressesThatAreFields(_ local: String) async throws {
        let folder = try Fixture.folder()
        defer { Fixture.removeFolder(folder) }
        let outcomes = await Self.relay(folder).attempt(Delivery(to: ["\(local)@x.test"]))
        #expect(outcomes.map(\.result) == [.permanent])
        #expect(Fixture.files(in: folder).isEmpty)
    }
}
