// Which part of the queue a request means, and from where to where: pages that are shown, counted or changed.

import SlimtaMail
import SlimtaNet

/// What a request asks to be looked at.
struct Walk {
    private static let largestPage = 1000

    var filter: QueueFilter
    var limit = 100
    var after: QueueID?
    var until: QueueID?

    init(_ query: [HTTPTarget.Parameter]) throws(Refusal) {
        do throws(QueueFilter.Mistake) { filter = try QueueFilter(query) } catch { throw Refusal(error) }
        for parameter in query {
            switch parameter.name {
            case "limit":
                guard let number = Int(parameter.value), 1...Self.largestPage ~= number else {
                    throw Refusal(
                        400, "limit: \"\(parameter.value)\" is not a number from 1 to \(Self.largestPage)")
                }
                limit = number
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
