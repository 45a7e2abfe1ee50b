// The version that slimtad tells: `slimtad --version`, the status, the Debian package (etc/debian/build reads it here).

enum Version {
    static let text = "0.1.0"
}
