// What the daemon asks of whatever mail comes in by, whatever it speaks. The composition root holds one for each
// `[[edge]]`, starts it, gives it sockets at start and at reloads, and drains it at the stop. Settings are each kind's own.

package import SlimtaNet

/// Where mail comes in. The methods are called by one task, ``sessionCount`` by any.
package protocol Edge: Sendable {
    /// Begins with what it does by itself, without clients that connect. To be called once.
    func start() async

    /// Accepts connections on `socket`, which is bound and listening; the edge owns it from now on.
    ///
    /// - Parameter address: the address as configured, for ``stopAccepting(on:)``. There can be several sockets for one.
    func accept(on socket: ListeningSocket, address: String) async throws

    /// Accepts no more connections on one address; sessions go on.
    func stopAccepting(on address: String) async

    /// Accepts no more connections. Idle sessions end now, the others when they have done what they are at.
    func drain() async

    /// Ends all sessions now, and returns when they have ended.
    func closeSessions() async

    /// How many sessions there are.
    var sessionCount: Int { get }

    /// What the operator has to put right, as sentences.
    var complaints: [String] { get }
}

extension Edge {
    /// Nothing: it waits for clients.
    package func start() async {}

    /// None.
    package var complaints: [String] { [] }
}
