// The fields of a journal frame's payload. Written by the batch, read by the scan, by recovery and by who reads contents.

/// The tags of the fields in a journal frame's payload.
///
/// A record of an envelope is copied into GDBM as it is, so fields that a newer version added survive an older one.
enum RecordTag {
    static let envelope: UInt8 = 1
    /// The message's octets, or of a spooled one the first of them. Once, for all envelopes of the frame.
    static let body: UInt8 = 2
    /// Where the rest of a large message is.
    static let spool: UInt8 = 3
    static let state: UInt8 = 4
    static let ending: UInt8 = 5
    /// Numbers of frames that do not count: two of eight octets, first and last.
    static let range: UInt8 = 6
    /// Recipients accepted before this frame, since the queue was made: submitted, notices (8 octets each). First of all.
    static let accepted: UInt8 = 7
    /// What a submission leaves behind (``ReceiptCodec``). Older versions pass over this one and those that follow.
    static let receipt: UInt8 = 8
    /// The key (32) of a receipt that is not needed any more.
    static let forgotten: UInt8 = 9
    /// How the recipients of an envelope with a receipt ended (``OutcomeCodec``).
    static let outcome: UInt8 = 10
    /// The id (16) of an envelope that another storage has from now on: the ending before it, which says that all of its
    /// pending recipients were removed, is for versions that do not know this, and means nothing else.
    static let departed: UInt8 = 11
}
