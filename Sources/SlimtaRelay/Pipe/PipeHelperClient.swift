// Asks the helper that runs commands, over its UNIX socket: a connection for each command, which lasts as long as that runs.
// PipeRelay has one.

import CLinux
import Glibc
import NIOCore
import NIOPosix
import SlimtaNet
import SlimtaPipe

/// The daemon's end of what PipeConnection serves.
struct PipeHelperClient: Sendable {
    /// Why there is no answer.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// The path of the helper's socket.
    let path: String
    let group: any EventLoopGroup
    let threads: NIOThreadPool

    /// Has a command run, and waits for its end; a cancelled task breaks it off, which ends the command too.
    ///
    /// - Parameters:
    ///   - file: the message; stays the caller's.
    ///   - patience: when an answer is no longer to be expected.
    func run(_ request: PipeRequest, file: Int32, patience: TimeAmount) async throws(Failure) -> PipeAnswer {
        guard let octets = request.octets else { throw Failure(description: "the command line is too long") }
        let socket = try await connect(sending: octets, file)
        let reader = PipeAnswerReader(group.next(), patience)
        do {
            let channel = try await ClientBootstrap(group: reader.loop)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(reader.handler())
                    }
                }
                .withConnectedSocket(socket).get()
            let answer = try await withTaskCancellationHandler {
                try await reader.answer.get()
            } onCancel: {
                channel.close(promise: nil)
            }
            if let answer = PipeAnswer(answer) { return answer }
        } catch {
            reader.fail(error)
            throw Failure(description: "the helper that runs commands was lost: \(error.connectionReason)")
        }
        throw Failure(description: "the helper that runs commands has not answered")
    }

    /// A connected socket, over which the request has gone.
    private func connect(sending octets: [UInt8], _ file: Int32) async throws(Failure) -> Int32 {
        let result: Result<Int32, Failure>
        do {
            result = try await threads.runIfActive { [path] in
                Result { () throws(Failure) in try Self.connect(to: path, sending: octets, file) }
            }
        } catch {
            throw Failure(description: "broken off")
        }
        return try result.get()
    }

    private static func connect(to path: String, sending octets: [UInt8], _ file: Int32) throws(Failure) -> Int32 {
        func failure(_ number: Int32) -> Failure {
            let hint =
                number == ENOENT || number == ECONNREFUSED
                ? "; it does not run: start slimtad again, under systemd slimtad-pipe.socket" : ""
            return Failure(
                description: "no helper to run commands at \(path): \(String(cString: strerror(number)))\(hint)")
        }
        let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw failure(errno) }
        // A helper whose queue is full is one that stands still.
        var patience = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var error =
            withUnixSocketAddress(of: path) { Glibc.connect(descriptor, $0, $1) == 0 ? 0 : errno } ?? ENAMETOOLONG
        if error == 0 { error = linux_send_file(descriptor, octets, octets.count, file) }
        guard error == 0 else {
            close(descriptor)
            throw failure(error)
        }
        return descriptor
    }
}

/// What a connection to the helper comes to: all octets up to its end.
private final class PipeAnswerReader: Sendable {
    let loop: any EventLoop
    private let patience: TimeAmount
    private let promise: EventLoopPromise<[UInt8]>

    var answer: EventLoopFuture<[UInt8]> { promise.futureResult }

    init(_ loop: any EventLoop, _ patience: TimeAmount) {
        self.loop = loop
        self.patience = patience
        promise = loop.makePromise()
    }

    /// Nobody else will give an answer; harmless behind one.
    func fail(_ error: any Error) { promise.fail(error) }

    func handler() -> Handler { Handler(promise, patience) }

    /// On the channel's loop.
    final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private let promise: EventLoopPromise<[UInt8]>
        private let patience: TimeAmount
        private var octets: [UInt8] = []
        private var timer: Scheduled<Void>?

        init(_ promise: EventLoopPromise<[UInt8]>, _ patience: TimeAmount) {
            self.promise = promise
            self.patience = patience
        }

        func handlerAdded(context: ChannelHandlerContext) {
            let channel = context.channel
            timer = context.eventLoop.scheduleTask(in: patience) { channel.close(promise: nil) }
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            octets += unwrapInboundIn(data).readableBytesView
            if octets.count > PipeAnswer.limit { context.close(promise: nil) }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        func handlerRemoved(context: ChannelHandlerContext) {
            timer?.cancel()
            promise.succeed(octets)
        }
    }
}
