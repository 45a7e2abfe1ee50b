// How single envelopes, and pieces of their messages, are asked for: by ContentReader and ChunkReader.

/// The statements by which single envelopes and contents are read.
enum ContentStatements {
    /// An envelope, with all that leads to its message.
    static let item = PostgresStatement(
        name: "read_item",
        sql: """
            select envelope, state, message, part, octets, rest, rest_octets, rest_crc,
                delivered, bounced, expired, removed, recipients
            from slimtad.item where bucket = $1 and id = $2
            """,
        parameters: [.int4, .uuid])

    /// Of each that is there its state, or the envelope if it is as it was accepted.
    static let states = PostgresStatement(
        name: "read_states",
        sql: """
            select i.id, i.state, case when i.state is null then i.envelope end
            from unnest($1::int4[], $2::uuid[]) as wanted(bucket, id)
            join slimtad.item i on i.bucket = wanted.bucket and i.id = wanted.id
            """,
        parameters: [.int4Array, .uuidArray])

    /// A piece of a content, of each of the tables.
    static let chunks = (0...ContentTable.long).map { part in
        PostgresStatement(
            name: "read_chunk_\(part)",
            sql: "select octets from \(ContentTable.name(part)) where id = $1 and chunk = $2",
            parameters: [.uuid, .int4])
    }
}
