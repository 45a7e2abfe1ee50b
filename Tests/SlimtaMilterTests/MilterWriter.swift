// The milter's side of the protocol, which slimtad has no use for: replies as octets.

import NIOCore
import SlimtaMail

@testable import SlimtaMilter

extension ByteBuffer {
    /// Writes a reply. `bare`: addresses without angle brackets.
    mutating func writeMilterReply(_ reply: MilterReply, keepsBlanks: Bool = false, bare: Bool = false) {
        switch reply {
        case .proceed: writeMilterPacket("c")
        case .accept: writeMilterPacket("a")
        case .reject: writeMilterPacket("r")
        case .temporary: writeMilterPacket("t")
        case .discard: writeMilterPacket("d")
        case .skip: writeMilterPacket("s")
        case .progress: writeMilterPacket("p")
        case .shutDown: writeMilterPacket("4")
        case .text(let reply):
            let lines = reply.map { reply in
                reply.lines.enumerated().map { index, line in
                    let mark = index == reply.lines.count - 1 ? " " : "-"
                    return "\(reply.code)\(mark)\(reply.effectiveStatus) \(line)"
                }
            }
            writeMilterPacket("y") { $0.writeMilterText((lines ?? []).joined(separator: "\r\n").utf8) }
        case .body(let piece): writeMilterPacket("b") { $0.writeImmutableBuffer(piece) }
        case .macroList(let stage, let names):
            writeMilterPacket("l") {
                $0.writeInteger(stage)
                $0.writeMilterText(names.readableBytesView)
            }
        case .edit(let edit): writeMilterEdit(edit, keepsBlanks, bare)
        }
    }

    private mutating func writeMilterEdit(_ edit: MilterEdit, _ keepsBlanks: Bool, _ bare: Bool) {
        func path(_ text: String) -> String { bare ? text : "<\(text)>" }
        func write(_ field: MilterField, into data: inout ByteBuffer) {
            var value = Array(field.value.readableBytesView)
            if !keepsBlanks { value.removeFirst() }
            data.writeMilterText(field.name.utf8)
            data.writeMilterText(value.filter { $0 != UInt8(ascii: "\r") })
        }
        switch edit {
        case .append(let field): writeMilterPacket("h") { write(field, into: &$0) }
        case .insert(let field, let position):
            writeMilterPacket("i") {
                $0.writeInteger(UInt32(position))
                write(field, into: &$0)
            }
        case .change(let field, let index):
            writeMilterPacket("m") {
                $0.writeInteger(UInt32(index))
                write(field, into: &$0)
            }
        case .delete(let name, let index):
            writeMilterPacket("m") {
                $0.writeInteger(UInt32(index))
                $0.writeMilterText(name.utf8)
                $0.writeMilterText([])
            }
        case .addRecipient(let mailbox, let parameters):
            writeMilterTexts(parameters.isEmpty ? "+" : "2", [path(mailbox.text)] + parameters)
        case .removeRecipient(let text): writeMilterTexts("-", [path(text)])
        case .sender(let mailbox, let parameters): writeMilterTexts("e", [path(mailbox?.text ?? "")] + parameters)
        case .quarantine(let reason): writeMilterTexts("q", [reason])
        }
    }
}
