// Lists of addresses as headers, command lines and requests have them.

import SlimtaMail

extension FuzzTarget {
    /// What is read are addresses of SMTP, which mean the same written down plainly; what is put in for a missing domain is
    /// read again as if it had been there.
    static let addressList = FuzzTarget(name: "address-list", maximumLength: 300) { octets in
        guard let list = try? AddressList(parsing: octets, qualifiedWith: "h.example") else {
            try hold((try? AddressList(parsing: octets)) == nil, "a domain to add makes \(octets) worse")
            return
        }
        for entry in list.entries {
            try same(Mailbox(parsing: entry.mailbox.text), entry.mailbox, "an address of \(octets)")
            try same(
                (try? AddressList(parsing: entry.mailbox.text))?.entries.map(\.mailbox), [entry.mailbox],
                "\(entry.mailbox) as a list")
            if let name = entry.displayName {
                try hold(!name.isEmpty && !name.utf8.contains { $0.isASCIIControl && $0 != 9 }, "a name of \(octets)")
            }
        }
        let ends = list.entries.compactMap(\.endOfBareName)
        try same((try? AddressList(parsing: octets)) == nil, !ends.isEmpty, "whether \(octets) lacks a domain")
        try same(ends, ends.sorted(), "places of missing domains")
        var whole = octets
        for end in ends.reversed() { whole.insert(contentsOf: "@h.example".utf8, at: end) }
        let again = try? AddressList(parsing: whole)
        try same(again?.entries.map(\.mailbox), list.entries.map(\.mailbox), "\(octets) with its domains")
        try same(again?.entries.map(\.displayName), list.entries.map(\.displayName), "names of \(octets)")
        let boxes = list.entries.map(\.mailbox)
        try same(boxes.eachOnce.eachOnce, boxes.eachOnce, "each once, twice")
        try hold(boxes.isEmpty || boxes.eachOnce.first == boxes.first, "the first comes first")
    }
}
