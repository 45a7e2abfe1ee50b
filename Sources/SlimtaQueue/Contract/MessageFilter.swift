// What an edge hands over with a message whose session has filters (milters): they see it behind the policies that come before
// them, and what they make of it goes on through those behind. Edges make one, PolicyChain asks it.

package import NIOCore
package import SlimtaMail

/// The filters of one message.
package protocol MessageFilter: AnyObject, Sendable {
    /// Shows them the message, one filter after the other. Is called once, on any thread, and has limits of its own for time.
    func filter(_ message: FilteredMessage) async -> FilterVerdict
}

/// A message as filters see it, or have left it.
package struct FilteredMessage: Sendable {
    /// The id of its envelope.
    package var id: QueueID
    /// The content, all its fields in the head: but for our Received, which comes later, and for `fieldsAboveReceived`.
    package var message: Message
    /// Fields that are to stand above our Received, whole, each with its CRLF; empty before filters have seen it.
    package var fieldsAboveReceived = ByteBuffer()
    /// The reverse-path; nil: the null one.
    package var sender: Mailbox?
    /// The forward-paths; at least one, each once.
    package var recipients: [Mailbox]
    /// Of recipients that filters have added: whom each is there for, where a filter has said so.
    package var originals: [Mailbox: Mailbox] = [:]
    /// Of recipients that filters have added: when the sender is told of each, where a filter has said so.
    package var notifications: [Mailbox: NotifyConditions] = [:]
    /// Why it waits in the queue until an operator releases it; nil: for nothing.
    package var heldReason: String?

    /// A message before filters.
    package init(id: QueueID, message: Message, sender: Mailbox?, recipients: [Mailbox]) {
        self.id = id
        self.message = message
        self.sender = sender
        self.recipients = recipients
    }
}

/// What filters say of a message. `by` is the name of the one that has the last word.
package enum FilterVerdict: Sendable {
    /// It goes on as it was.
    case unchanged
    /// It goes on like this.
    case changed(FilteredMessage)
    /// The client is told so, 4xx or 5xx.
    case refused(Reply, by: String)
    /// The client hears that all is well, and nothing is kept of it.
    case discarded(by: String)
}

/// A filter among values that are compared: the same one, not one that does the same.
package struct MessageFilterReference: Hashable, Sendable {
    /// The filter.
    package let filter: any MessageFilter

    /// Refers to `filter`.
    package init(_ filter: any MessageFilter) { self.filter = filter }

    /// Whether both are one object.
    package static func == (a: Self, b: Self) -> Bool { a.filter === b.filter }

    /// By the object.
    package func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(filter)) }
}
