// Who listens where, from the kernel's tables.

import Glibc
import Testing

@testable import SlimtaSystem

@Suite struct PortHolderTests {
    private static let loopback =
        "   0: 0100007F:0A1B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0"
    private static let everywhere =
        "   1: 00000000000000000000000000000000:0A1B 00000000000000000000000000000000:0000 0A 00000000:00000000 "
        + "00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0"
    private static let connected =
        "   2: 0100007F:0A1B 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0"

    @Test(arguments: [
        ("127.0.0.1", 2587, true), ("0.0.0.0", 2587, true), ("::", 2587, true), ("127.0.0.2", 2587, false),
        ("127.0.0.1", 2588, false), ("::1", 2587, false),
    ])
    func oneAddress(address: String, port: Int, isInTheWay: Bool) {
        #expect((PortHolder.inode(of: Self.loopback, address: address, port: port) == "socket:[4711]") == isInTheWay)
    }

    @Test(arguments: ["127.0.0.1", "::1", "::", "192.0.2.1"])
    func allAddresses(address: String) {
        #expect(PortHolder.inode(of: Self.everywhere, address: address, port: 2587) == "socket:[4712]")
    }

    @Test func connectionsAreNotInTheWay() {
        #expect(PortHolder.inode(of: Self.connected, address: "127.0.0.1", port: 2587) == nil)
        #expect(PortHolder.inode(of: "  sl  local_address rem_address   st", address: "::", port: 2587) == nil)
    }
}
