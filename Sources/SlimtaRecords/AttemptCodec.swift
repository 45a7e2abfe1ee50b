// How the history of attempts is written down in a state: a repetition costs eight octets.

import SlimtaMail
package import SlimtaQueue

/// What an attempt came to:
///
///     time (8)  result (1: 0 delivered, 1 temporary, 2 permanent)  first recipient (4)  recipients (4)
///     length of TLS (4)  TLS  length of the relay (4)  relay  reply
///
/// One that is the time alone says the same as the one before it: most attempts of a message that waits do.
package enum AttemptCodec {
    /// Appends a field for each attempt, oldest first.
    package static func encode(_ history: [AttemptRecord], tag: UInt8, into output: OutputBuffer) {
        var last: AttemptRecord?
        for record in history {
            let start = output.begin(tag)
            output.append(record.time.milliseconds)
            if last.map(record.repeats) != true {
                output.append(number(record.result))
                output.append(record.recipient)
                output.append(record.count)
                output.append(UInt32(record.tls.utf8.count))
                output.append(record.tls)
                output.append(UInt32(record.relay.utf8.count))
                output.append(record.relay)
                output.append(record.reply)
            }
            output.end(start)
            last = record
        }
    }

    /// Reads an attempt; `last` is the one before it in the same state.
    package static func decode(_ field: Field, after last: AttemptRecord?) throws(FormatError) -> AttemptRecord {
        var cursor = field.cursor
        let time = Timestamp(milliseconds: try cursor.number())
        if cursor.rest.isEmpty {
            guard var record = last else { throw FormatError("attempt") }
            record.time = time
            return record
        }
        let result = try result(try cursor.number())
        let recipient: UInt32 = try cursor.number()
        let count: UInt32 = try cursor.number()
        let tls = try text(&cursor)
        let relay = try text(&cursor)
        return AttemptRecord(
            time: time, result: result, relay: relay, tls: tls, reply: String(decoding: cursor.rest, as: UTF8.self),
            recipient: recipient, count: count)
    }

    private static func text(_ cursor: inout InputCursor) throws(FormatError) -> String {
        let length: UInt32 = try cursor.number()
        return String(decoding: try cursor.octets(Int(length)), as: UTF8.self)
    }

    private static func number(_ result: Outcome.Result) -> UInt8 {
        switch result {
        case .delivered: 0
        case .temporary: 1
        case .permanent: 2
        }
    }

    private static func result(_ number: UInt8) throws(FormatError) -> Outcome.Result {
        switch number {
        case 0: .delivered
        case 1: .temporary
        case 2: .permanent
        default: throw FormatError("attempt's result")
        }
    }
}
