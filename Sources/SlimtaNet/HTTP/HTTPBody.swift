// The body of a request as a service reads it: a piece at a time, no faster than it asks. HTTPConnection has one for each
// connection.

package import NIOCore
import NIOHTTP1

/// The body of a request, until that is answered. Whoever does not read it has the client wait: only some 10 pieces, each
/// at most as large as one read of the socket, are kept.
package final class HTTPBody {
    /// There is more than there may be.
    package struct TooLarge: Error {}

    /// The client ended the connection in the middle.
    package struct Broken: Error, CustomStringConvertible {
        /// For logs.
        package let description = "the client has closed in the middle of a request"
    }

    private var parts: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator
    private let channel: any Channel
    private let limit: Int

    /// As announced; nil in chunks.
    private var length: Int?
    /// What has been read.
    private var count = 0
    private(set) var isWhole = true
    /// The client sends nothing before it is told to go on, or has waited long enough (RFC 9110 section 10.1.1).
    private var awaitsContinue = false

    init(
        _ parts: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator, _ channel: any Channel, limit: Int
    ) {
        self.parts = parts
        self.channel = channel
        self.limit = limit
    }

    /// The head of the next request; nil: there is none any more.
    func nextHead() async throws -> HTTPRequestHead? {
        guard case .head(let head)? = try await parts.next() else { return nil }
        length = 0
        count = 0
        isWhole = false
        awaitsContinue = false
        return head
    }

    func begin(_ length: Int?, awaitsContinue: Bool) {
        self.length = length
        self.awaitsContinue = awaitsContinue
    }

    /// Whether what is left is so little that reading it is cheaper than a new connection.
    var isNearlyWhole: Bool { isWhole || !awaitsContinue && length.map { $0 - count <= 64 << 10 } ?? false }

    /// The next piece; nil: there is no more. The first call tells a client to go on that waits for that.
    package func next() async throws -> ByteBuffer? {
        guard !isWhole else { return nil }
        if awaitsContinue {
            awaitsContinue = false
            let head = HTTPResponseHead(version: .http1_1, status: .continue)
            try await channel.writeAndFlush(HTTPServerHandler.ResponsePart.head(head)).get()
        }
        switch try await parts.next() {
        case .body(let octets):
            count += octets.readableBytes
            guard count <= limit else { throw TooLarge() }
            return octets
        case .end:
            isWhole = true
            return nil
        case .head, nil: throw Broken()
        }
    }

    /// All of it, in memory.
    package func all() async throws -> ByteBuffer {
        var whole = ByteBuffer()
        while var octets = try await next() { whole.writeBuffer(&octets) }
        return whole
    }

    /// Reads what is left, and forgets it.
    package func discard() async throws { while try await next() != nil {} }
}
