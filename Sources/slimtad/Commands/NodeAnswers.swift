// What is of each node of a shared queue alone: asked of all of them by the daemon of this one, and told together. Used by
// `slimtad login` and `slimtad site`.

import ArgumentParser
import Glibc
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaSystem

/// The option of commands that are meant for all nodes unless it is given.
struct HereOption: ParsableArguments {
    @Flag(help: "Of a queue that several machines share: only this one.")
    var here = false
}

/// The answers of nodes, or of the one daemon that there is.
struct NodeAnswers {
    /// Of a node that has done what was asked; without a name the queue is this machine's alone, or only this one was asked.
    struct Part {
        let node: String?
        let answer: JSON

        /// What a line about it begins with.
        var prefix: String { node.map { "\($0.visible): " } ?? "" }
    }

    private(set) var parts: [Part] = []
    /// As the daemon has answered.
    let whole: JSON
    private var refused: [(node: String, status: Int64, text: String)] = []
    private var silent: [(node: String, reason: String)] = []

    /// Whether there is more than one who could be meant.
    var isShared: Bool { whole["nodes"] != .null }

    fileprivate init(_ answer: JSON) {
        whole = answer
        guard isShared else {
            parts = [Part(node: nil, answer: answer)]
            return
        }
        for node in answer["nodes"].elements {
            let name = node["node"].text ?? ""
            if node["status"].integer == 200 {
                parts.append(Part(node: name, answer: node["answer"]))
            } else {
                refused.append((name, node["status"].integer ?? 500, node["answer"]["error"].text ?? ""))
            }
        }
        silent = answer["silent"].elements.map { ($0["node"].text ?? "", $0["reason"].text ?? "") }
    }

    /// Says who has not done what was asked. Whether something may be amiss.
    ///
    /// - Parameter tellsUnknown: also of whom nothing is known of what is meant, where others do know of it.
    func complain(tellsUnknown: Bool = false) -> Bool {
        for (node, reason) in silent { say("\(node): \(reason)") }
        // Not there, or as it was wanted before.
        let usual = refused.filter { $0.status == 404 || $0.status == 409 }
        let faults = refused.filter { $0.status != 404 && $0.status != 409 }
        for (node, _, text) in faults + (tellsUnknown ? usual.filter { $0.status == 404 } : []) {
            say("\(node): \(text)")
        }
        return !silent.isEmpty || !faults.isEmpty
    }

    /// As `complain`, and ends the program with exit status 1 if something may be amiss.
    func close(tellsUnknown: Bool = false) {
        if complain(tellsUnknown: tellsUnknown) { Glibc.exit(1) }
    }
}

extension RunningDaemon {
    /// Asks all nodes that share the queue, or, with `here`, this one; what all refuse is thrown.
    ///
    /// - Parameter unknown: the exit status where none knows what is meant; nil: that is thrown too.
    func askNodes(
        _ method: ControlRequest.Method, _ path: [String], _ query: [HTTPTarget.Parameter] = [], here: Bool,
        unknown: Int32? = nil
    ) throws(Failure) -> NodeAnswers {
        let (status, answer) = try self.answer(
            method, path, query + (here ? [] : [.init("nodes", "all")]))
        let answers = NodeAnswers(answer)
        if status == 200 { return answers }
        // Who did not answer might have known of it.
        if answers.isShared { _ = answers.complain() }
        let failure = Self.failure(status, answer["error"].text)
        guard let unknown, status == 404 else { throw failure }
        say(failure.message)
        Glibc.exit(unknown)
    }
}
