// What a scheduler knows of those of other nodes, and what it still has to tell them. A part of QueueMachine; see
// QueueMachine+Sites.swift.

/// What is known of other nodes.
struct SharedSchedule {
    var limits = SharedLimits.alone
    /// Destinations that had as many attempts as they may have: candidates for a report.
    var limited: Set<UInt32> = []
    /// Destinations that answer again, and how often that is still to be told.
    var returned: [String: Int] = [:]

    /// What others may not have heard of the first time.
    static let tellings = 3
    /// So many destinations that back off are looked at, at most: nobody is told of more.
    static let mostBackOffs = 4096
}
