// The helper that runs commands for a daemon that may not: `slimtad pipe-helper` is nothing else. It has root's rights to become
// another user where it was given them; the daemon has none, and asks over a UNIX socket.

internal import SlimtaHelper

/// Accepts connections, each with one request, and runs a command for each that is permitted.
///
/// The helper is the one who decides: it runs what slimta.conf says and nothing else, however the daemon asks.
package final class PipeHelper {
    private let loop: HelperLoop

    /// - Parameters:
    ///   - listener: a UNIX socket that listens, with non-blocking calls.
    ///   - lifeline: a pipe whose other end the daemon has: when that is gone, so are we. nil: somebody else ends us.
    ///   - limit: the most commands at once; the others wait in the socket's queue.
    ///   - mayAsk: whether a user, by number, may ask at all.
    ///   - judge: what becomes of a request.
    package init(
        listener: Int32, lifeline: Int32?, limit: Int, mayAsk: @escaping (UInt32) -> Bool,
        judge: @escaping (PipeRequest.Pipe) -> PipeVerdict
    ) {
        loop = HelperLoop(listener: listener, lifeline: lifeline, limit: limit, mayAsk: mayAsk) { socket, now in
            PipeConnection(socket, now, judge: judge)
        }
    }

    /// Serves until the daemon is gone and no command runs any more.
    package func run() { loop.run() }
}
