// Envelopes and receipts with something in each of their fields: for tests of storages and of how they write things down.

import NIOCore
package import SlimtaMail
package import SlimtaQueue

/// An envelope with a client that has logged in over TLS, and with a field put before it.
package func makeEnvelope(
    _ id: QueueID = QueueID(at: .now()), to recipients: [String] = ["b@example.org"], sender: String? = "a@example.com"
) -> Envelope {
    func mailbox(_ text: String) -> Mailbox {
        let at = text.lastIndex(of: "@")!
        return Mailbox(localPart: String(text[..<at]), domain: String(text[text.index(after: at)...]))
    }
    return Envelope(
        id: id, sender: sender.map(mailbox), recipients: recipients.map(mailbox),
        received: Timestamp(milliseconds: 1_700_000_000_123), body: .eightBitMIME, smtpUTF8: true,
        client: ClientInfo(
            address: "192.0.2.1", name: "client.example", protocolWord: "ESMTPSA",
            tls: TLSDescription(version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384"), login: "user", edge: "submission"
        ),
        prependedFields: ByteBuffer(string: "Received: from here\r\n"))
}

/// When a first attempt is due.
package let someDue = Timestamp(milliseconds: 1_700_000_100_000)

/// What a submission of `envelopes` leaves behind; `number` makes its key.
package func makeReceipt(
    _ number: Int, of envelopes: [Envelope] = [], owner: UInt64 = 1, expires: Timestamp? = .now() + .seconds(86_400),
    answer: String = "an answer"
) -> Receipt {
    Receipt(
        key: .init(UInt64(number), 1, 2, .max), owner: .init(high: owner, low: 3), fingerprint: .init(4, 5, 6, 7),
        id: envelopes.first?.id ?? QueueID(high: UInt64(number), low: 9), answer: Array(answer.utf8), expires: expires
    ).of(envelopes)
}
