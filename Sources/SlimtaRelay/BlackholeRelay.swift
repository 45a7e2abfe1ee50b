// The relay of type "blackhole": for load tests and for domains whose mail nobody wants. Made by the composition root.

package import SlimtaMail
package import SlimtaQueue

/// Says that everything was delivered, and delivers nothing.
package struct BlackholeRelay: Relay {
    /// There is nothing to set.
    package init() {}

    /// 250 2.0.0 for every recipient, at once.
    package func attempt(_ delivery: Delivery) async -> [Outcome] {
        let delivered = Outcome(.delivered, Reply(250, EnhancedStatus(2, 0, 0), "discarded"), relay: "blackhole")
        return Array(repeating: delivered, count: delivery.recipients.count)
    }
}
