// The flags of an item: what a look at the row has to know without decoding it.

/// `item.flags`.
struct ItemFlags: OptionSet, Hashable, Sendable {
    let rawValue: Int32

    /// Not due until it is released.
    static let held = ItemFlags(rawValue: 1)
    /// Its sender was told of the delay.
    static let warned = ItemFlags(rawValue: 2)
    /// A notice of ours: in its own account of the ledger.
    static let notice = ItemFlags(rawValue: 4)
    /// A receipt is to be told how it ends.
    static let receipt = ItemFlags(rawValue: 8)
}
