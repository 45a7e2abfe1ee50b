// What the end of a command means for its recipient: the table of sysexits.h as mail systems have it. Used by PipeRelay.

import SlimtaMail
import SlimtaPipe

/// The end of a command as the outcome of an attempt.
///
/// What only an operator can put right is temporary, whatever the command thinks of it: no queue is to bounce because a
/// program is missing (126, 127), or its files (72), its disk (74) or its configuration (78) are not in order.
struct PipeResult {
    /// A status, what it means, and in what words.
    private struct Meaning {
        let status: EnhancedStatus
        let words: String
    }

    /// As the log and notices name the relay.
    let relay: String

    /// What becomes of the recipient. An enhanced status code that the output of a failed command begins with decides,
    /// its class included.
    func outcome(_ answer: PipeAnswer) -> Outcome {
        switch answer.end {
        case .exited(0): return outcome(Meaning(status: EnhancedStatus(2, 0, 0), words: "delivered"), answer.output)
        case .exited(let status):
            var outcome = outcome(Self.meaning(of: status), answer.output, mayDecide: true)
            outcome.isHostFailure = outcome.result == .temporary && (126...127).contains(status)
            return outcome
        case .signalled(let signal):
            let words = "the command was ended by signal \(signal)"
            return outcome(Meaning(status: EnhancedStatus(4, 3, 0), words: words), answer.output)
        case .timedOut:
            let words = "the command took too long and was ended"
            return outcome(Meaning(status: EnhancedStatus(4, 3, 0), words: words), answer.output)
        case .notStarted(let reason): return failure(reason)
        }
    }

    /// The command was not run, or what became of it is not known.
    func failure(_ reason: String) -> Outcome {
        var outcome = outcome(Meaning(status: EnhancedStatus(4, 3, 5), words: reason.visible), [])
        outcome.isHostFailure = true
        return outcome
    }

    private func outcome(_ meaning: Meaning, _ output: [UInt8], mayDecide: Bool = false) -> Outcome {
        var (status, words) = (meaning.status, [meaning.words])
        var lines = Self.lines(of: output)
        if mayDecide, let first = lines.first, let own = EnhancedStatus(prefixOf: first), own.statusClass != 2 {
            status = own
            lines[0] = String(first.utf8.dropFirst(own.description.utf8.count).drop { $0 == UInt8(ascii: " ") }) ?? ""
            if !lines[0].isEmpty || lines.count > 1 { words = [] }
            if lines[0].isEmpty { lines.removeFirst() }
        }
        let code: UInt16 =
            switch status.statusClass {
            case 2: 250
            case 4: 451
            default: status.subject == 1 ? 550 : 554
            }
        let reply = Reply(code, status, lines: words + lines)
        return Outcome(Outcome.result(of: reply), reply, relay: relay)
    }

    /// sysexits.h; what is not there is an error of the command for this message, as Postfix has it.
    private static func meaning(of status: Int32) -> Meaning {
        let (code, words): ((UInt8, UInt16, UInt16), String) =
            switch status {
            case 65: ((5, 6, 0), "the command refuses the message's data")
            case 67: ((5, 1, 1), "the command does not know the recipient")
            case 68: ((5, 1, 2), "the command does not know the recipient's host")
            case 71: ((4, 3, 0), "the command had an error of the system")
            case 72: ((4, 3, 5), "the command lacks a file of the system")
            case 73: ((5, 2, 0), "the command cannot create a file")
            case 74: ((4, 3, 5), "the command cannot read or write")
            case 75: ((4, 3, 0), "the command wants it to be tried again")
            case 76: ((5, 5, 0), "the command had an error of its protocol")
            case 77: ((5, 7, 0), "the command is not permitted to deliver")
            case 78: ((4, 3, 5), "the command's configuration is wrong")
            case 126: ((4, 3, 5), "the command is not executable")
            case 127: ((4, 3, 5), "the command is not there")
            default: ((5, 3, 0), "the command failed")
            }
        return Meaning(
            status: EnhancedStatus(code.0, code.1, code.2),
            words: "\(words) (exit status \(status))")
    }

    /// The lines of an output that say something, as text that does nothing but be read.
    static func lines(of output: [UInt8]) -> [String] {
        var room = PipeAnswer.outputLimit
        return String(decoding: output, as: UTF8.self).split(whereSeparator: \.isNewline).compactMap { line in
            let words = line.unicodeScalars.split { $0 == " " || $0 == "\t" }.map { String($0).visible }
            let text = words.joined(separator: " ").cut(toOctets: room)
            room -= text.utf8.count
            return text.isEmpty ? nil : text
        }
    }
}
