// What `slimtad queue list` prints: on a terminal a line for each message that fits its width, and how many there were;
// into a pipe every field whole, with tabs between them.

import SlimtaControl
import SlimtaNet

/// Prints queued messages as they come.
struct QueueTable {
    private let width = Terminal.width
    private var table: Table

    init() {
        // The reason is what one looks for: it has a third of a line of 80 columns, and what is left of a wider one.
        table =
            switch width ?? .max {
            case 140...:
                Table([
                    .init("ID", 32), .init("STATE", 8), .init("AGE", 4), .init("TRIES", 5), .init("SENDER", 24),
                    .init("RECIPIENTS", 24), .init("REASON"),
                ])
            case 110...:
                Table([
                    .init("ID", 16), .init("STATE", 8), .init("AGE", 4), .init("SENDER", 20), .init("RECIPIENTS", 20),
                    .init("REASON"),
                ])
            default:
                Table([.init("ID", 16), .init("STATE", 8), .init("AGE", 4), .init("RECIPIENTS", 17), .init("REASON")])
            }
    }

    /// `message` as the daemon lists it.
    mutating func row(_ message: JSON) {
        let id = message["id"].text ?? ""
        let state = message["state"].text ?? ""
        let seconds = message["age"].integer ?? 0
        let sender = message["sender"].text.map { $0.isEmpty ? "<>" : $0 } ?? ""
        let recipients = message["recipients"].elements.compactMap(\.text)
        let pending = message["pending"].integer ?? 0
        let tries = "\(message["attempts"].integer ?? 0)"
        let reason = message["reason"].text ?? ""
        guard let width else {
            let hidden = pending > recipients.count ? ",..." : ""
            return table.row([
                id, state, "\(seconds)", tries, sender, recipients.joined(separator: ",") + hidden, reason,
            ])
        }
        let first = (pending > 1 ? "(\(pending)) " : "") + (recipients.first ?? "")
        // The digits that follow are random: 16 of them tell two messages of one millisecond apart but once in 65,536.
        let short = String(id.prefix(16))
        switch width {
        case 140...: table.row([id, state, age(seconds), tries, sender, first, reason])
        case 110...: table.row([short, state, age(seconds), sender, first, reason])
        default: table.row([short, state, age(seconds), first, reason])
        }
    }

    /// Says on a terminal how many there were.
    func end(_ count: Int, isFiltered: Bool, isCut: Bool) {
        guard width != nil else { return }
        if count == 0 {
            print(isFiltered ? "no queued message fits" : "the queue is empty")
        } else {
            print(isCut ? "the first \(counted(count, "message"))" : counted(count, "message"))
        }
    }
}
