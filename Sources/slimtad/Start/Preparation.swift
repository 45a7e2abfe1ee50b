// Phases loadSecrets, bindListeners and openStorage: what needs the rights that the process was started with, or must be
// done before there is any thread. `slimtad run` makes it, then drops privileges; the daemon is made of it.

import Logging
import SlimtaConfiguration
import SlimtaQueue
import SlimtaSystem

/// What a daemon begins with.
struct Preparation {
    let file: ConfigurationFile
    let secrets: Secrets
    let listeners: Listeners
    /// nil: it could not be made.
    let control: ControlSocket?
    /// Those that nobody else has started; they live as long as this.
    let helpers: [Helper: HelperProcess]
    let storage: any QueueBackend

    /// - Parameter identity: who the process becomes; nil if it stays who it is.
    init(_ file: ConfigurationFile, identity: Identity?, logger: Logger) throws(Failure) {
        self.file = file
        secrets = try Secrets.load(file)
        // Sockets of edges may be in it as well; what is wrong with it is told with the control socket.
        try? ControlSocket.makeDirectory(file.runtimeDirectory, identity)
        var listeners = try Listeners(owner: identity)
        try listeners.bind(EdgePlan(from: [], to: file.values.edges))
        self.listeners = listeners
        control = Self.bindControl(file, identity, logger)
        helpers = Helper.allCases.reduce(into: [:]) { helpers, helper in
            helpers[helper] = helper.start(file, identity: identity, logger: logger)
        }
        storage = try StorageMaker.open(file, identity) { logger.log($0) }
    }

    /// Mail goes on without it, so its absence is told and no more.
    private static func bindControl(
        _ file: ConfigurationFile, _ identity: Identity?, _ logger: Logger
    ) -> ControlSocket? {
        do throws(Failure) {
            let control = try ControlSocket.bind(file, identity: identity)
            if let complaint = control.complaint {
                logger.warning("control socket is not for its group", metadata: ["error": "\(complaint)"])
            }
            return control
        } catch {
            logger.error(
                "no control socket, slimtad's commands cannot reach this daemon",
                metadata: ["error": "\(error.message)"])
            return nil
        }
    }
}
