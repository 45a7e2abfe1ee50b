// storage-worker: the queue's storages alone, for the power cut rig and for benchmarks. Not installed.
//
//   storage-worker work DIR SECONDS SEED MARKFILE    random load; each promise that was made goes to MARKFILE
//   storage-worker check DIR                         recovers, and prints what is there
//   storage-worker bench DIR SECONDS                 how fast, beside a raw append on the same disk
//   storage-worker cluster CONNECTION init           the queue in PostgreSQL: makes its tables
//   storage-worker cluster CONNECTION load N SECONDS keep|remove completion|thread
//                                                    how fast with N in flight
//   storage-worker cluster CONNECTION fill N OCTETS SECONDS    N messages that are deferred for some time
//   storage-worker cluster CONNECTION defer SECONDS            defers all that is queued once more
//   storage-worker cluster CONNECTION keep           empties content tables at once, until it is killed
//
// The first two are the protocol of the power cut rig (Tests/Crash/powercut.py).

import Glibc
import SlimtaStorage

@main
struct Worker {
    static func main() async {
        let words = CommandLine.arguments.dropFirst()
        do {
            switch (words.first, Array(words.dropFirst())) {
            case ("work", let rest) where rest.count == 4:
                guard let seconds = Double(rest[1]), let seed = UInt64(rest[2]) else { usage() }
                try await Load(directory: rest[0], seed: seed, marks: rest[3]).run(seconds: seconds)
            case ("check", let rest) where rest.count == 1:
                exit(try await Check(directory: rest[0]).run() ? 0 : 4)
            case ("bench", let rest) where rest.count == 2:
                guard let seconds = Double(rest[1]) else { usage() }
                try await Bench(directory: rest[0], seconds: seconds).run()
            case ("cluster", let rest) where rest.count > 1:
                try await cluster(ClusterBench(connection: rest[0]), rest[1], Array(rest[2...]))
            default: usage()
            }
        } catch {
            complain("\(error)")
            exit(1)
        }
    }

    private static func cluster(_ bench: ClusterBench, _ what: String, _ words: [String]) async throws {
        let numbers = words.map { Double($0) ?? -1 }
        switch what {
        case "init" where words.isEmpty: try bench.initialise()
        case "load" where words.count == 4:
            try await bench.load(
                inFlight: Int(numbers[0]), seconds: numbers[1], removes: words[2] == "remove",
                isHandedOver: words[3] == "thread")
        case "fill" where words.count == 3:
            try await bench.fill(count: Int(numbers[0]), octets: Int(numbers[1]), due: .seconds(numbers[2]))
        case "keep" where words.isEmpty: try await bench.keepHouse()
        case "defer" where words.count == 1: try await bench.deferAll(due: .seconds(numbers[0]))
        default: usage()
        }
    }

    private static func usage() -> Never {
        complain(
            "usage: storage-worker work DIR SECONDS SEED MARKFILE | check DIR | bench DIR SECONDS | cluster CONNECTION ..."
        )
        exit(64)
    }
}

/// A line to standard output, at once.
func say(_ text: String) { line(text, STDOUT_FILENO) }

/// A line to standard error.
func complain(_ text: String) { line("storage-worker: \(text)", STDERR_FILENO) }

private func line(_ text: String, _ descriptor: Int32) {
    var line = text + "\n"
    // Nobody is left to tell if this fails.
    line.withUTF8 { _ = write(descriptor, $0.baseAddress, $0.count) }
}

/// A system call failed: its name, and what errno said.
struct CallFailed: Error, CustomStringConvertible {
    let description: String

    init(_ call: String) { description = "\(call): \(String(cString: strerror(errno)))" }
}

/// Numbers that a seed repeats (SplitMix64).
struct Generator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

extension StorageOptions {
    /// For load and check: everything small, so that seconds see many segments, checkpoints and compactions, on a disk
    /// of 160 MB.
    static var small: StorageOptions {
        var options = StorageOptions()
        options.segmentSize = 1 << 20
        options.journalLimit = 12 << 20
        options.batchSize = 256 << 10
        options.minimumFree = 0
        options.checkpointSegments = 2
        options.checkpointAge = .milliseconds(500)
        options.retryInterval = .milliseconds(100)
        options.markerDelay = .milliseconds(5)
        options.reserveSize = 1 << 20
        options.generationLimit = 4
        options.deltaLimit = 3
        return options
    }
}
