// Who listens on a TCP port, where /proc says it. `slimtad check` asks, to name who has what the daemon wants.

import Glibc
internal import SlimtaMail

/// A process that has a listening socket.
package struct PortHolder: Hashable, Sendable {
    /// Its number.
    package let pid: Int32
    /// Its name, as in /proc/PID/comm; "?" if it has ended since.
    package let name: String

    /// Those that listen where a listener on `address` would be in the way. Only root sees the processes of others: an
    /// empty answer does not mean that there is none.
    package static func all(on address: String, port: Int) -> [PortHolder] {
        let inodes = Set(
            ["tcp", "tcp6"].flatMap { table in
                lines(of: "/proc/net/\(table)").compactMap { inode(of: $0, address: address, port: port) }
            })
        guard !inodes.isEmpty else { return [] }
        return (FolderListing.names(in: "/proc") ?? []).compactMap { Int32($0) }.sorted().compactMap { pid in
            let folder = "/proc/\(pid)/fd"
            let files = FolderListing.names(in: folder) ?? []
            let hasSocket = files.contains { inodes.contains(link(at: "\(folder)/\($0)")) }
            guard hasSocket else { return nil }
            return PortHolder(pid: pid, name: lines(of: "/proc/\(pid)/comm").first ?? "?")
        }
    }

    /// "socket:[INODE]" of a line of /proc/net/tcp, if it listens (0A) there.
    static func inode(of line: String, address: String, port: Int) -> String? {
        let fields = line.split(separator: " ")
        guard fields.count > 9, fields[3] == "0A" else { return nil }
        let sides = fields[1].split(separator: ":")
        guard sides.count == 2, Int(sides[1], radix: 16) == port else { return nil }
        let wanted = hexadecimal(address)
        let there = String(sides[0])
        let isInTheWay = wanted.contains(there) || isEverywhere(there) || wanted.contains { isEverywhere($0) }
        return isInTheWay ? "socket:[\(fields[9])]" : nil
    }

    private static func isEverywhere(_ octets: String) -> Bool { octets.allSatisfy { $0 == "0" } }

    /// An address as the kernel's tables have it: each four octets as a number of this machine. IPv4 also within IPv6.
    private static func hexadecimal(_ address: String) -> [String] {
        func words(_ octets: [UInt32]) -> String {
            octets.map { String(hexadecimal: $0, digits: 8, uppercase: true) }.joined()
        }
        var four = in_addr()
        if inet_pton(AF_INET, address, &four) == 1 {
            let text = words([four.s_addr])
            return [text, words([0, 0, UInt32(bigEndian: 0xFFFF)]) + text]
        }
        var octets = [UInt32](repeating: 0, count: 4)
        return inet_pton(AF_INET6, address, &octets) == 1 ? [words(octets)] : []
    }

    private static func lines(of path: String) -> [String] {
        guard let file = fopen(path, "re") else { return [] }
        defer { fclose(file) }
        var lines: [String] = []
        var buffer = [CChar](repeating: 0, count: 512)
        while fgets(&buffer, CInt(buffer.count), file) != nil {
            let octets = buffer.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }
            lines.append(String(decoding: octets, as: UTF8.self))
        }
        return lines
    }

    private static func link(at path: String) -> String {
        var buffer = [CChar](repeating: 0, count: 64)
        let count = readlink(path, &buffer, buffer.count)
        return count > 0 ? String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : ""
    }
}
