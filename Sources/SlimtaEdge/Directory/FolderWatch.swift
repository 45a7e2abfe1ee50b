// The watch on a pickup folder: inotify(7), whose descriptor an event loop reads as it reads a socket.

internal import Glibc
internal import NIOCore
internal import NIOPosix

/// Tells what happens in a folder. Ends when its channel is closed.
enum FolderWatch {
    /// Begins to watch `path`, which has to be a folder. Blocks.
    ///
    /// - Returns: the descriptor.
    static func begin(_ path: String) throws(PickupFolder.Problem) -> CInt {
        let descriptor = inotify_init1(O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw PickupFolder.Problem("cannot watch \(path)", errno) }
        guard inotify_add_watch(descriptor, path, FolderChanges.Mask.watched.rawValue) >= 0 else {
            let number = errno
            close(descriptor)
            throw PickupFolder.Problem("cannot watch \(path)", number)
        }
        return descriptor
    }

    /// Has `told` called on an event loop with what happens; with nil when the watch has ended.
    ///
    /// - Parameter descriptor: from ``begin(_:)``; it belongs to the channel, or is closed if this throws.
    static func run(
        _ descriptor: CInt, on group: any EventLoopGroup, _ told: @escaping @Sendable (ByteBuffer?) -> Void
    ) async throws -> any Channel {
        do {
            return try await NIOPipeBootstrap(group: group)
                // The kernel gives whole events, and none if there is no room for the largest.
                .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 32 * 1024))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(FolderWatchHandler(told))
                    }
                }
                .takingOwnershipOfDescriptor(input: descriptor)
                .get()
        } catch {
            close(descriptor)
            throw error
        }
    }
}

private final class FolderWatchHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let told: @Sendable (ByteBuffer?) -> Void

    init(_ told: @escaping @Sendable (ByteBuffer?) -> Void) { self.told = told }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { told(unwrapInboundIn(data)) }

    func channelInactive(context: ChannelHandlerContext) {
        told(nil)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
