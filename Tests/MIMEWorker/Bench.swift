// What it costs the processor to look at a message that needs nothing: `make bench-policies`, which prints it. In one run, turn by
// turn, so that what else the machine does meets all alike.

import Glibc
import NIOCore
import SlimtaMIME
import SlimtaMail
import SlimtaPolicy

private let now = Timestamp(milliseconds: 1_795_255_200_000)
private let context = PolicyContext(
    hostname: "mail.example.com", now: now, zoneOffset: 0, newID: { time, _ in QueueID(at: time) })
private let envelope = Envelope(
    id: QueueID(at: now), sender: Mailbox(localPart: "alice", domain: "example.com"),
    recipients: [Mailbox(localPart: "bob", domain: "example.org")], received: now,
    client: ClientInfo(address: "192.0.2.7", name: "laptop", protocolWord: "ESMTPSA"))

/// 4 KB, as mail programs write them: a text and the same in HTML.
private let message: Message = {
    let header = """
        From: Alice Example <alice@example.com>
        To: Bob Example <bob@example.org>, carol@example.org
        Cc: "Example, Dave" <dave@example.net>
        Subject: A message as mail programs write them
        Date: Sat, 21 Nov 2026 10:00:00 +0100
        Message-ID: <e6a25d0c-7e3b-4a6e-9a1d-2d8c5b1d7f00@example.com>
        In-Reply-To: <0a1b2c3d@example.org>
        References: <0a1b2c3d@example.org>
        User-Agent: Mozilla Thunderbird
        MIME-Version: 1.0
        Content-Type: multipart/alternative; boundary="------------0123456789abcdef"
        Content-Language: en


        """
    var text = header
    for type in ["text/plain", "text/html"] {
        text +=
            "--------------0123456789abcdef\nContent-Type: \(type); charset=UTF-8\nContent-Transfer-Encoding: 7bit\n\n"
        while text.utf8.count < (type == "text/plain" ? 2200 : 4020) {
            text += String(repeating: "word ", count: 14) + "\n"
        }
    }
    text += "--------------0123456789abcdef--\n"
    return Message(
        head: ByteBuffer(
            string: text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n")))
}()

/// Microseconds of the processor that one call takes.
private func cost(_ body: () -> Int) -> Double {
    func processor() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) * 1e6 + Double(time.tv_nsec) / 1e3
    }
    let (began, count) = (processor(), 20_000)
    var sum = 0
    for _ in 0..<count { sum &+= body() }
    precondition(sum != 0)
    return (processor() - began) / Double(count)
}

/// Prints medians of turns: the policies of `[queue] policies` alone, the whole chain, the facts that rules ask for.
func bench() {
    let chain = PolicyChain([DatePolicy(), MessageIDPolicy(), ReceivedPolicy()], receivedHops: 50)
    let ways: [(name: String, run: () -> Int)] = [
        (
            "date, message_id and received alone",
            {
                var mail = PolicyMail(envelope: envelope, message: message)
                DatePolicy().apply(to: &mail, context)
                MessageIDPolicy().apply(to: &mail, context)
                ReceivedPolicy().apply(to: &mail, context)
                return mail.envelopes[0].prependedFields.readableBytes
            }
        ),
        (
            "with the check of the header and all repairs",
            { (try? chain.apply(to: envelope, message, context))?.envelopes[0].prependedFields.readableBytes ?? 0 }
        ),
        (
            "the facts of the content, where a rule asks",
            {
                var reader = ContentFactsReader()
                reader.read(message.head)
                return reader.finish().parts
            }
        ),
    ]
    var turns = [[Double]](repeating: [], count: ways.count)
    for turn in 0..<9 {
        for number in ways.indices {
            let number = turn % 2 == 0 ? number : ways.count - 1 - number
            turns[number].append(cost(ways[number].run))
        }
    }
    let medians = turns.map { $0.sorted()[$0.count / 2] }
    print("a message of \(message.size) octets that needs no repair, microseconds of the processor:")
    for (way, median) in zip(ways, medians) {
        let (tenths, ratio) = (Int((median * 10).rounded()), Int((median / medians[0] * 100).rounded()))
        print("  \(tenths / 10).\(tenths % 10)  \(way.name), \(ratio) % of the first")
    }
}
