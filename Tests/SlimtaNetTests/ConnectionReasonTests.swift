// What a person reads of a connection that fails.

import Glibc
import NIOCore
import Testing

@testable import SlimtaNet

@Suite struct ConnectionReasonTests {
    private struct Other: Error, CustomStringConvertible {
        let description = "the peer speaks another language"
    }

    @Test func theyAreInWords() {
        let refused = IOError(errnoCode: ECONNREFUSED, reason: "connect(descriptor:addr:size:)")
        #expect(refused.connectionReason == "Connection refused")
        #expect(ChannelError.connectTimeout(.seconds(10)).connectionReason == "timed out")
        #expect(Other().connectionReason == "the peer speaks another language")
    }
}
