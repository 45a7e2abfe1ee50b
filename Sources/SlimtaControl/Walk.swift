// Which part of the queue a request means, and from where to where: pages that are shown, counted or changed.

import SlimtaMail
import SlimtaNet

/// What a request asks to be looked at.
struct Walk {
    private static let largestPage = 1000

    var filter: QueueFilter
    var limit: Int
    var after: QueueID?
    var until: QueueID?

    /// How many are to be on a page.
    static func limit(_ query: [HTTPTarget.Parameter]) throws(Refusal) -> Int {
        var limit = 100
        for parameter in query where parameter.name == "limit" {
            guard let number = Int(parameter.value), 1...largestPage ~= number else {
                throw Refusal(400, "limit: \"\(parameter.value)\" is not a number from 1 to \(largestPage)")
            }
            limit = number
        }
        return limit
    }

    init(_ query: [HTTPTarget.Parameter]) throws(Refusal) {
        limit = try Self.limit(query)
        do throws(QueueFilter.Mistake) { filter = try QueueFilter(query) } catch { throw Refusal(error) }
        for parameter in query {
            switch parameter.name {
            case "after", "until":
                guard let id = QueueID(parameter.value) else {
                    throw Refusal(
                        400, "\(parameter.name): \"\(parameter.value)\" is not a queue id: 32 hexadecimal digits")
                }
                if parameter.name == "after" { after = id } else { until = id }
            default: break
            }
        }
    }
}
