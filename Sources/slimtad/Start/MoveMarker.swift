// The file "move" in the state directory: there while `slimtad queue move` may have left messages on their way, of which nobody
// knows any more where they are to be delivered. The command makes it and takes it away; nothing else opens the queue then, but to
// rebuild one that the command cannot open.

import Glibc
import SlimtaMail
import SlimtaSystem

/// A move that was begun and has not come to its end.
struct MoveMarker {
    private let path: String

    init(_ directory: String) { path = "\(directory)/move" }

    /// Which node has begun it, and which database is the other side.
    private static func text(_ node: String, _ since: Timestamp) -> String {
        "node \(node)\ndatabase of \(since.milliseconds)\n"
    }

    /// Makes the file, or finds the one of the same node and database; why it must not be begun, else nil.
    func begin(node: String, database since: Timestamp) -> String? {
        let text = Self.text(node, since)
        do throws(SystemError) {
            if isThere {
                let found = try SecureFile.read(path, maximum: 1024, mustNotBeReadableByOthers: false)
                if found == Array(text.utf8) { return nil }
                let node = String(decoding: found, as: UTF8.self).split(separator: "\n").first ?? ""
                return "a move that was begun by \(node) with another name or database has to be finished with those: "
                    + "see [node] and [[queue.postgresql]]"
            }
            try SecureFile.replace(path, with: Array(text.utf8))
            return nil
        } catch {
            return error.description
        }
    }

    /// Nothing is on its way any more.
    func end() throws(SystemError) {
        if unlink(path) == 0 || errno == ENOENT { return }
        throw SystemError("cannot remove \(path)", number: errno, code: .failed)
    }

    /// Whether a move was begun.
    var isThere: Bool { access(path, F_OK) == 0 }

    /// Refuses what would deliver, or change, messages of which nobody knows where they are.
    func demandNone() throws(Failure) {
        guard isThere else { return }
        throw Failure(
            .temporary,
            "the queue is being moved, and that has not come to its end: `slimtad queue move` goes on with it, "
                + "--to postgresql also while other nodes work")
    }
}
