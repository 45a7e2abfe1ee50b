// The fuzzers in `make test`: every kept input, and some that are made of them the same way in every run. Whether there
// are others is for `make fuzz` to find out.

import Foundation
import TestKit
import Testing

@Suite struct FuzzTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()

    /// The inputs in `corpus` or `found`, by name.
    private static func inputs(_ kind: String, _ target: FuzzTarget) throws -> [(name: String, octets: [UInt8])] {
        let place = folder.appending(path: "\(kind)/\(target.name)")
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: place.path) else { return [] }
        return try names.sorted().map { ($0, Array(try Data(contentsOf: place.appending(path: $0)))) }
    }

    @Test(arguments: FuzzTarget.all.map(\.name)) func keptInputs(_ name: String) throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        let seeds = try Self.inputs("corpus", target)
        #expect(!seeds.isEmpty, "a fuzzer without seeds finds little")
        for input in try seeds + Self.inputs("found", target) {
            #expect(throws: Never.self, "\(input.name)") { try target.run(input.octets) }
        }
    }

    @Test(arguments: FuzzTarget.all.map(\.name)) func randomInputs(_ name: String) throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        let seeds = try Self.inputs("corpus", target).map(\.octets)
        var generator = SeededGenerator(seed: 1)
        for number in 0..<100 {
            let octets = Self.mutated(seeds.randomElement(using: &generator) ?? [], seeds, target, &generator)
            do {
                try target.run(octets)
            } catch {
                Issue.record("mutation \(number): \(error); \(ChunkVerifier.printable(octets))")
                return
            }
        }
    }

    /// Some octets changed, taken out, put in or taken from another input.
    private static func mutated(
        _ seed: [UInt8], _ seeds: [[UInt8]], _ target: FuzzTarget, _ generator: inout SeededGenerator
    ) -> [UInt8] {
        var octets = seed
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
            let place = Int.random(in: 0...octets.count, using: &generator)
            switch Int.random(in: 0..<5, using: &generator) {
            case 0 where place < octets.count: octets[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 1 where place < octets.count: octets[place] = UInt8.random(in: .min ... .max, using: &generator)
            case 2:
                let end = min(octets.count, place + Int.random(in: 0..<8, using: &generator))
                octets.removeSubrange(place..<end)
            case 3: octets.insert(contentsOf: generator.octets(Int.random(in: 1...4, using: &generator)), at: place)
            default:
                let other = seeds.randomElement(using: &generator) ?? []
                octets.replaceSubrange(
                    place..., with: other.dropFirst(Int.random(in: 0...other.count, using: &generator)))
            }
        }
        return Array(octets.prefix(target.maximumLength))
    }

    /// A folder that no fuzzer has is one that nobody replays.
    @Test func everyFolderHasItsFuzzer() throws {
        let names = Set(FuzzTarget.all.map(\.name))
        #expect(names.count == FuzzTarget.all.count)
        for kind in ["corpus", "found"] {
            let folders = try? FileManager.default.contentsOfDirectory(
                atPath: Self.folder.appending(path: kind).path)
            for folder in folders ?? [] { #expect(names.contains(folder), "\(kind)/\(folder)") }
        }
    }
}
