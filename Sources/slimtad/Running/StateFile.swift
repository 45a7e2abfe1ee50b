// A file in the state directory in which the daemon keeps something between its runs: quotas, failed logins, the last uses of
// passwords.

import Glibc
import SlimtaMail
import SlimtaSystem
import Synchronization

/// Reads it once, and writes it again and again.
final class StateFile: Sendable {
    let path: String
    /// A larger one is none of ours.
    private let maximum: Int
    /// Whether the last writing failed. Held while the file is written: two at once would be in each other's way, and the
    /// older content could be the one that stays.
    private let writing = Mutex(false)

    init(_ name: String, in directory: String, maximum: Int) {
        path = "\(directory)/\(name)"
        self.maximum = maximum
    }

    /// Has `take` take up what is in the file, as far as it understands that. Where that is not all, or the file cannot be
    /// read, it gets another name: it is not lost when it is written next, and somebody may mend it. Then `lost` is told why,
    /// and what it is called now. A file that is not there is none of this.
    ///
    /// - Parameters:
    ///   - isLeft: the file keeps its name: whoever reads it never writes it.
    ///   - take: returns whether it has understood all.
    func read(isLeft: Bool = false, _ take: ([UInt8]) -> Bool, lost: (_ why: String, _ kept: String) -> Void) {
        func lose(_ why: String) { lost(why, isLeft ? path : setAside()) }
        do throws(SystemError) {
            let octets = try SecureFile.read(path, maximum: maximum, mustNotBeReadableByOthers: false)
            if !take(octets) { lose("the file is damaged") }
        } catch {
            if error.code != .notFound { lose(error.description) }
        }
    }

    /// Where the file is now.
    private func setAside() -> String {
        let time = Timestamp.now().isoDate.filter { $0 != ":" }
        let kept = "\(path).unusable-\(time)"
        return rename(path, kept) == 0 ? kept : path
    }

    /// Writes what `content` gives; nil: nothing is new. Slow; one at a time: `content` is asked when it is this one's turn. What is
    /// more than would be read is not written: the file stays what it was.
    ///
    /// - Parameter failed: is told that it could not be written, and whether the time before that was still well.
    func write(_ content: () -> [UInt8]?, failed: (_ error: SystemError, _ isNews: Bool) -> Void) {
        writing.withLock { hasFailed in
            guard let content = content() else { return }
            do throws(SystemError) {
                guard content.count <= maximum else {
                    throw SystemError(.invalid, "\(content.count) octets are more than the \(maximum) of \(path)")
                }
                try SecureFile.replace(path, with: content)
                hasFailed = false
            } catch {
                failed(error, !hasFailed)
                hasFailed = true
            }
        }
    }
}
