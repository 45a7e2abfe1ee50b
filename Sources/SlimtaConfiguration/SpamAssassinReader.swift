// [spamassassin]: who is asked about the content of messages. Called by `Configuration.parse`.

import SlimtaMail
import TOMLKit

extension SpamAssassinSettings {
    /// nil if the table is not there, or does not say where spamd is; that was reported.
    init?(_ table: Section) {
        guard table.exists else { return nil }
        let to = table.required("to", "where spamd listens, such as \"127.0.0.1:783\" or \"unix:/path\"")?
            .address("\"address:port\", \"[v6]:port\", \"localhost:port\" or \"unix:/path\"", ServiceAddress.init)
        timeout = table["timeout"]?.duration(.seconds(1) ... .seconds(600)) ?? timeout
        onFailure = table["on_failure"]?.choice() ?? onFailure
        addFields = table["add_fields"]?.bool() ?? addFields
        rejectFrom = table["reject_from"]?.score()
        holdFrom = table["hold_from"]?.score()
        maxSize = table["max_size"]?.size(1...1 << 30) ?? maxSize
        table.refuseUnknownKeys()
        if let rejectFrom, let holdFrom, holdFrom >= rejectFrom {
            table.report(
                "hold_from", "found \(holdFrom), which reject_from = \(rejectFrom) refuses",
                "allowed is a lower score than reject_from")
        }
        guard let to else { return nil }
        self.to = to
    }
}

extension Setting {
    /// A score of SpamAssassin.
    fileprivate func score() -> Double? {
        let number = value.double ?? value.int.map(Double.init)
        guard let number, (-1000...100_000).contains(number) else {
            return refuse("allowed is a score such as 5.0, from -1000 to 100000")
        }
        return number
    }
}
