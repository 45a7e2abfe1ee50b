// Makes messages of requests by the thousand: each line of standard input is one as JSON, as for POST /v1/messages. Run by
// Tests/Interop/test_compose.py, which has Python read the messages back; not installed.

import Glibc
import NIOCore
import SlimtaEdge
import SlimtaMail

let date = Timestamp(milliseconds: 1_795_255_200_000)
let frame = ComposedMessage.Frame(
    hostname: "submit.example.com", date: date, zoneOffset: 3600, id: QueueID(high: 1, low: 2), boundary: (3, 4))

/// A line that says how many octets follow, and these.
func answer(_ word: String, _ pieces: some Sequence<ByteBuffer>, size: Int) {
    for piece in [ByteBuffer(string: "\(word) \(size)\n")] + pieces {
        piece.withUnsafeReadableBytes { octets in
            var rest = octets
            while !rest.isEmpty {
                let count = write(STDOUT_FILENO, rest.baseAddress, rest.count)
                guard count > 0 else { exit(EX_IOERR) }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
        }
    }
}

while let line = readLine() {
    do throws(RequestFaults) {
        let request = try MessageRequest(reading: ByteBuffer(string: line), recipientLimit: 1000, now: date)
        let message = ComposedMessage(request.draft, frame)
        answer(message.needsSMTPUTF8 ? "utf8" : "ascii", message, size: message.size)
    } catch {
        let text = error.faults.map { "\($0.pointer) \($0.detail)\n" }.joined()
        answer("faults", [ByteBuffer(string: text)], size: text.utf8.count)
    }
}
