// What the HTTP server lets a peer have of memory and time: given in by who makes the server.

package import NIOCore

/// What a peer may take. Serving HTTP must not be a way to harm the daemon.
package struct HTTPLimits: Hashable, Sendable {
    /// Connections of those who are admitted.
    package var connections = 32
    /// Connections of those who are not, and are told so.
    package var refusals = 4
    /// Octets of a request's line and fields; and of requests that are sent before the one before is answered.
    package var head = 64 << 10
    /// Octets of one field.
    package var field = 64 << 10
    /// Fields of a request.
    package var fields = 256
    /// Octets of a request's body, without the framing of chunks.
    package var body = 64 << 10
    /// From the beginning of a connection, or the last answer, to the end of a request's head.
    package var headTimeout = TimeAmount.seconds(30)
    /// From there to the end of its body; nil: as long as it takes.
    package var bodyTimeout: TimeAmount? = .seconds(30)
    /// How slow the body may come while we want it; nil: ``bodyTimeout`` alone counts.
    package var transfer: TransferWatch.Limits?
    /// How long a TLS handshake may take.
    package var handshakeTimeout = TimeAmount.seconds(30)
    /// How long a client may take to read a piece of an answer, or the whole of one that is not streamed.
    package var answerTimeout = TimeAmount.seconds(30)

    /// Requests in a row of which none has anything taken; behind the last one the connection ends.
    package var commands = Int.max
    /// Answers of class 4 or 5 in a row; behind the last one the connection ends.
    package var errors = Int.max
    /// How long the answer waits to a request that leads to nothing again: to each refusal in a row behind half of
    /// ``errors``, and to each eighth request in a row of which none has anything taken. However many such clients there
    /// are, that leaves time for the others.
    package var pause = TimeAmount.zero

    /// Those of the control socket.
    package init() {}
}
