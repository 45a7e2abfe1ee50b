// gzip, as gzip(1) reads it.

import Foundation
import SlimtaNet
import Testing

@Suite struct GzipTests {
    /// What gzip(1) makes of it.
    private func decompressed(_ octets: [UInt8]) throws -> [UInt8] {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).gz")
        try Data(octets).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/gzip")
        process.arguments = ["-dc", file.path]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let read = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        return Array(read)
    }

    @Test(arguments: [0, 1, 100, 70_000, 3_000_000])
    func read(_ size: Int) throws {
        var number: UInt32 = 1
        for isRandom in [false, true] {
            let octets = (0..<size).map { index -> UInt8 in
                number = number &* 1_664_525 &+ 1_013_904_223
                return isRandom ? UInt8(number >> 24) : UInt8(index % 7)
            }
            let compressed = try #require(Gzip.compress(octets))
            #expect(try decompressed(compressed) == octets)
            #expect(Gzip.compress(octets) == compressed)
            if !isRandom, size > 1000 { #expect(compressed.count < size / 50) }
        }
    }
}
