// Where sendmail leaves a message: the socket of the sendmail edge, or the folder of a directory edge. It is called by anybody,
// who may not be allowed to read slimta.conf.

import Glibc
import SlimtaConfiguration
import SlimtaMail
import SlimtaSystem

/// What sendmail has to know of the configuration.
struct SendmailPlaces: Equatable {
    /// Where the daemon listens if slimta.conf does not say, or cannot be read.
    static let usualSocket = "\(Configuration.Daemon.defaultRuntimeDirectory)/sendmail"

    /// The file that it is from, for the control socket's commands as well.
    let file: String
    /// Our name.
    let hostname: String
    /// The socket of the first sendmail edge that has one; nil: there is no such edge.
    let socket: String?
    /// The folder of the first directory edge; nil: there is none.
    let folder: String?

    /// - Parameter path: what `--config` says; nil: nothing.
    static func find(_ path: String?) throws(Failure) -> SendmailPlaces {
        let file = path ?? ConfigurationOption.usualPath
        let octets: [UInt8]
        do throws(SystemError) { octets = try ConfigurationFile.read(file) } catch {
            // Whoever names a file wants that one.
            if path != nil { throw Failure(.configuration, "\(error)") }
            return SendmailPlaces(file: file, hostname: Hostname.fullyQualified(), socket: usualSocket, folder: nil)
        }
        // What is wrong in it is not the caller's affair: what is understood has to do.
        let values = Configuration.Understood(String(decoding: octets, as: UTF8.self), file: file).configuration
        var socket: String?
        var folder: String?
        for edge in values.edges {
            switch edge.type {
            case .sendmail:
                for case .unix(let path) in edge.listen where socket == nil { socket = path }
            case .directory(let directory): folder = folder ?? directory.path
            case .smtp, .http: break
            }
        }
        return SendmailPlaces(
            file: file, hostname: values.hostname ?? Hostname.fullyQualified(), socket: socket, folder: folder)
    }
}
