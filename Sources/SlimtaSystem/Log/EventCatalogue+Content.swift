// What is told of the content of messages: see EventCatalogue.

extension EventCatalogue {
    /// Part of ``entries``.
    static let entriesOfContent: [Entry] = [
        Entry(
            "6a1f0c5de5b94b5a9c0d4e7b0b8f3a12", "content converted to 7 bits",
            "The message @SLIMTA_QUEUE_ID@ had octets above 127, and is now in ASCII, as [queue] seven_bit = \"always\" "
                + "says. A signature that the client had put on it holds no more."),
        Entry(
            "c07e9b1f52c84b0f8e6a3d1b7c9e4d35", "content stays 8-bit",
            "The message @SLIMTA_QUEUE_ID@ has octets above 127 that cannot be converted: @SLIMTA_REASON@. It is "
                + "delivered as it is, except to hosts without 8BITMIME, from which it comes back.",
            remedy: "Nothing here. The program that made the message is to encode what it signs or encrypts (RFC 8551)."
        ),
    ]
}
