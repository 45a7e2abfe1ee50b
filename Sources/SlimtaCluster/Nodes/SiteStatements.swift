// What a node says to the database of shared limits, and how a SiteBook's rows are written there. Said with the beat, by the
// node's thread.

import SlimtaMail
import SlimtaQueue

/// The statements of shared limits.
enum SiteStatements {
    /// All of a node, whatever addresses it had.
    static let clear = PostgresStatement(
        name: "clear_sites", sql: "delete from slimtad.site where node = $1", parameters: [.text])

    static let write = PostgresStatement(
        name: "write_sites",
        sql: """
            insert into slimtad.site (egress, subject, node, most, wanted, claim, flags, tried, reason, relay)
            select $1, x.subject, $2, x.most, x.wanted, x.claim, x.flags, x.tried, x.reason, x.relay
            from unnest($3::text[], $4::int4[], $5::int4[], $6::int4[], $7::int4[], $8::int8[], $9::text[], $10::text[])
                as x(subject, most, wanted, claim, flags, tried, reason, relay)
            on conflict (egress, subject, node) do update set most = excluded.most, wanted = excluded.wanted,
                claim = excluded.claim, flags = excluded.flags, tried = excluded.tried, reason = excluded.reason,
                relay = excluded.relay
            """,
        parameters: [
            .text, .text, .textArray, .int4Array, .int4Array, .int4Array, .int4Array, .int8Array, .textArray,
            .textArray,
        ])

    static let remove = PostgresStatement(
        name: "remove_sites",
        sql: "delete from slimtad.site where egress = $1 and node = $2 and subject = any($3)",
        parameters: [.text, .text, .textArray])

    /// Of the others.
    static let read = PostgresStatement(
        name: "read_sites",
        sql: """
            select node, subject, most, wanted, claim, flags, tried, reason, relay from slimtad.site
            where egress = $1 and node <> $2
            """,
        parameters: [.text, .text])

    static let all = [clear, write, remove, read]

    /// Adds what is to be written to a beat. How many steps that are.
    static func add(_ changes: SiteBook.Changes, to batch: inout PostgresBatch, _ options: ClusterOptions) -> Int {
        var steps = 0
        if changes.clears {
            batch.run(clear, [.text(options.node)])
            steps += 1
        }
        if !changes.removed.isEmpty {
            var subjects = PostgresColumn(.text)
            for subject in changes.removed { subjects.append(subject.text) }
            batch.run(remove, [.text(options.egress), .text(options.node), subjects.value])
            steps += 1
        }
        if !changes.written.isEmpty {
            var columns = Columns()
            // In one order for all: nobody waits for a row that waits for another.
            for (subject, row) in changes.written.sorted(by: { $0.key.text < $1.key.text }) {
                columns.add(subject, row)
            }
            batch.run(write, [.text(options.egress), .text(options.node)] + columns.values)
            steps += 1
        }
        return steps
    }

    /// What was read.
    static func rows(_ rows: PostgresRows) -> [(node: String, subject: SiteSubject, row: SiteBook.Row)] {
        (0..<rows.count).map { row in
            let flags = SiteFlags(rawValue: Int32(truncatingIfNeeded: rows.int(row, 5)))
            let failure = SiteFailure(
                Outcome(
                    reason: rows.isNull(row, 7) ? "" : rows.text(row, 7), rows.isNull(row, 8) ? nil : rows.text(row, 8)),
                tried: Timestamp(milliseconds: rows.isNull(row, 6) ? 0 : rows.int(row, 6)))
            return (
                rows.text(row, 0), SiteSubject(stored: rows.text(row, 1)),
                SiteBook.Row(
                    limit: max(1, Int(rows.int(row, 2))), wanted: max(0, Int(rows.int(row, 3))),
                    claim: max(0, Int(rows.int(row, 4))), isActive: flags.contains(.active),
                    health: flags.health(failure))
            )
        }
    }

    private struct Columns {
        private var subjects = PostgresColumn(.text)
        private var numbers = (0..<4).map { _ in PostgresColumn(.int4) }
        private var tried = PostgresColumn(.int8)
        private var texts = (0..<2).map { _ in PostgresColumn(.text) }

        var values: [PostgresValue] {
            [subjects.value] + numbers.map(\.value) + [tried.value] + texts.map(\.value)
        }

        mutating func add(_ subject: SiteSubject, _ row: SiteBook.Row) {
            subjects.append(subject.text)
            let (flags, failure) = SiteFlags.of(row)
            for (column, number) in [row.limit, row.wanted, row.claim, Int(flags.rawValue)].enumerated() {
                numbers[column].append(Int32(clamping: number))
            }
            tried.append(failure?.tried.milliseconds)
            texts[0].append(failure.map { Self.line($0.reason.reply.description) })
            texts[1].append(failure?.reason.relay.map(Self.line))
        }

        /// As a column takes it, and nobody reads more of it.
        private static func line(_ text: String) -> String { String(text.replacing("\0", with: " ").prefix(500)) }
    }
}

/// What is true of a row; its number is stored.
private struct SiteFlags: OptionSet {
    let rawValue: Int32

    static let active = SiteFlags(rawValue: 1)
    static let backsOff = SiteFlags(rawValue: 2)
    static let follows = SiteFlags(rawValue: 4)
    static let answers = SiteFlags(rawValue: 8)

    static func of(_ row: SiteBook.Row) -> (SiteFlags, SiteFailure?) {
        let active: SiteFlags = row.isActive ? .active : []
        switch row.health {
        case .backsOff(let failure): return (active.union(.backsOff), failure)
        case .follows(let failure): return (active.union(.follows), failure)
        case .answers: return (active.union(.answers), nil)
        case nil: return (active, nil)
        }
    }

    func health(_ failure: SiteFailure) -> SiteHealth? {
        if contains(.backsOff) { return .backsOff(failure) }
        if contains(.follows) { return .follows(failure) }
        return contains(.answers) ? .answers : nil
    }
}

extension Outcome {
    /// What another node has found out about the hosts of a destination, of a reply as it is written.
    fileprivate init(reason: String, _ relay: String?) {
        let code = UInt16(reason.prefix(3)).flatMap { (400..<500).contains($0) ? $0 : nil }
        var text = code == nil ? reason[...] : reason.dropFirst(4)
        let status = code == nil ? nil : EnhancedStatus(prefixOf: text)
        if let status { text = text.dropFirst(status.description.count + 1) }
        self.init(
            .temporary, Reply(code ?? 451, status ?? EnhancedStatus(4, 4, 1), String(text)), relay: relay,
            isHostFailure: true)
    }
}
