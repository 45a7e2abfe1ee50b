// `--config PATH`: the option that all subcommands have.

import ArgumentParser

/// What all subcommands have.
struct ConfigurationOption: ParsableArguments {
    @Option(name: [.customLong("config"), .customShort("c")], help: "The configuration file.")
    var path = usualPath

    /// Where it is if nobody says.
    static let usualPath = "/etc/slimta/slimta.conf"
}
