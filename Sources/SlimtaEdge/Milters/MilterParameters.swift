// Parameters that milters give with recipients that they add, and with a sender (RFC 3461 section 4): which of them say anything
// to the queue. SessionMilters passes on those that do, and tells of the others.

internal import SlimtaMail
internal import SlimtaMilter
internal import SlimtaSMTP

extension MilterMail.Recipient {
    /// Whom it is there for (ORCPT), by which notices and logs call it; nil: nobody has said so.
    var original: Mailbox? { parameters.lazy.compactMap(originalRecipient(in:)).first }

    /// When the sender is told of it (NOTIFY); nil: nobody has said so.
    var notifications: NotifyConditions? { parameters.lazy.compactMap(conditions(in:)).first }
}

extension MilterEdits {
    /// Those of which nothing comes, or not all that they say: no sender is told of success yet, nor asked what is returned to it.
    var unusedParameters: [String] {
        list.flatMap { edit -> [String] in
            switch edit {
            case .addRecipient(_, let parameters): parameters.filter(isUnused)
            case .sender(_, let parameters): parameters
            case .append, .insert, .change, .delete, .removeRecipient, .quarantine: []
            }
        }
    }
}

private func isUnused(_ parameter: String) -> Bool {
    originalRecipient(in: parameter) == nil && conditions(in: parameter)?.contains(.success) != false
}

/// What NOTIFY says (section 4.1).
private func conditions(in parameter: String) -> NotifyConditions? {
    let sides = parameter.split(separator: "=", maxSplits: 1)
    guard sides.count == 2, sides[0].uppercased() == "NOTIFY" else { return nil }
    return NotifyConditions(parsing: sides[1])
}

/// The address in ORCPT, where it is one of mail (section 4.2).
private func originalRecipient(in parameter: String) -> Mailbox? {
    let sides = parameter.split(separator: "=", maxSplits: 1)
    guard sides.count == 2, sides[0].uppercased() == "ORCPT" else { return nil }
    let address = sides[1].split(separator: ";", maxSplits: 1)
    guard address.count == 2, address[0].lowercased() == "rfc822", let octets = String(address[1]).xtextDecoded else {
        return nil
    }
    return Mailbox(parsing: octets.span, allowsUTF8: true)
}
