// Files in the state directory: what is written can be read.

import Foundation
import SlimtaSystem
import Testing

@testable import slimtad

@Suite struct StateFileTests {
    /// What would not be read at the next start is not written, and told once; what was there stays.
    @Test func tooLong() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("state-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let file = StateFile("x", in: folder, maximum: 10)
        var failures: [Bool] = []
        func write(_ count: Int) {
            file.write {
                Array(repeating: UInt8(ascii: "x"), count: count)
            } failed: { _, isNews in
                failures.append(isNews)
            }
        }
        func read() -> Int {
            var count = 0
            file.read {
                count = $0.count
                return true
            } lost: { why, _ in
                Issue.record("\(why)")
            }
            return count
        }
        write(10)
        #expect(failures.isEmpty && read() == 10)
        for _ in 0..<2 { write(11) }
        #expect(failures == [true, false] && read() == 10)
        write(9)
        write(11)
        #expect(failures == [true, false, true] && read() == 9)
    }
}
