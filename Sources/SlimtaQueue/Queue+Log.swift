// The lines that the queue's driver writes to the log: what became of each recipient, and how destinations are.

import Logging
import SlimtaMail

extension Queue {
    /// - Parameter age: how old the envelope is, whatever the wall clock says.
    func log(_ resolution: AttemptResolution, _ stored: StoredEnvelope, _ now: Timestamp, after age: Duration) {
        let delay = max(age, .zero).milliseconds
        for event in resolution.events {
            var metadata: Logger.Metadata = [
                "queue_id": "\(stored.envelope.id)", "sender": "\(stored.envelope.senderText)",
                "recipient": "\(event.recipient)", "relay": "\(event.outcome.relay ?? "none")",
                "tls": "\(event.outcome.tls?.description ?? "none")",
                "status": "\(event.outcome.reply.effectiveStatus)", "reply": "\(event.outcome.reply)",
                "delay": "\(delay / 1000).\(String(String(1000 + delay % 1000).dropFirst()))",
            ]
            if let original = stored.envelope.original(of: event.recipient) {
                metadata["original_recipient"] = "\(original)"
            }
            if let conversion = event.outcome.conversion { metadata["converted"] = "\(conversion.rawValue)" }
            if let security = event.outcome.security { metadata["tls_policy"] = "\(security)" }
            if event.kind == .deferred || event.kind == .postponed, let next = resolution.state?.due {
                metadata["next"] = "\(max(next - now, .zero).milliseconds / 1000)s"
            }
            let level: Logger.Level = event.kind == .delivered || event.kind == .postponed ? .info : .notice
            logger.log(level: level, event.kind.message, metadata: metadata)
        }
        for notice in resolution.notices {
            logger.info(
                "notice queued",
                metadata: [
                    "queue_id": "\(notice.envelope.id)", "about": "\(stored.envelope.id)",
                    "recipient": "\(notice.envelope.recipients[0])",
                ])
        }
        if resolution.state == nil, stored.envelope.sender == nil,
            resolution.events.contains(where: { $0.kind == .bounced || $0.kind == .expired })
        {
            // Nobody is left to tell but the operator.
            logger.warning("notice could not be delivered", metadata: ["queue_id": "\(stored.envelope.id)"])
        }
    }

    func log(_ change: DestinationChange) {
        switch change {
        case .backedOff(let name, let until, let reason):
            logger.notice(
                "destination does not answer",
                metadata: [
                    "destination": "\(name)", "relay": "\(reason.relay ?? "none")", "reply": "\(reason.reply)",
                    "next": "\(max(until - clock.read().now, .zero).milliseconds / 1000)s",
                ])
        case .cameBack(let name):
            logger.notice("destination answers again", metadata: ["destination": "\(name)"])
        }
    }
}

extension AttemptResolution.Event.Kind {
    fileprivate var message: Logger.Message {
        switch self {
        case .delivered: "delivered"
        case .deferred: "deferred"
        case .postponed: "postponed"
        case .bounced: "bounced"
        case .expired: "expired"
        }
    }
}
