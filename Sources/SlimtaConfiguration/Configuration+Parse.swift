extension Configuration {
    /// Reads the text of slimta.conf. `file` is its name for messages.
    ///
    /// Throws all mistakes at once: what is not TOML, unknown keys, wrong types, values out of range, and what is
    /// dangerous together.
    package static func parse(_ text: String, file: String) throws(ConfigurationErrors) -> Configuration {
        throw ConfigurationErrors(errors: [])
    }
}
