// swift-tools-version: 6.2
// The rooms of slimtad and the walls between them: the layers are explained in Sources/README.md.
// A target lists all that it may import; SwiftPM is told (Makefile) that any other import is an error.

import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .treatAllWarnings(as: .error),
]

let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioEmbedded = Target.Dependency.product(name: "NIOEmbedded", package: "swift-nio")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let heap = Target.Dependency.product(name: "HeapModule", package: "swift-collections")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let toml = Target.Dependency.product(name: "TOMLKit", package: "TOMLKit")

/// A target of ours: a folder of Sources/ with the settings that all share.
func room(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

/// The tests of one target.
func tests(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: [.init(stringLiteral: name), "TestKit"] + dependencies,
        swiftSettings: settings)
}

/// The fuzzers. `make fuzz` builds them as a program that libFuzzer is linked into (Tests/Fuzz/fuzz.py says so by this
/// variable, and what else that takes); everybody else gets the same code as tests that replay what was found.
let fuzzed: [Target.Dependency] = [
    "SlimtaMail", "SlimtaSPF", "SlimtaDKIM", "SlimtaSASL", "SlimtaSMTP", "SlimtaQueue", "SlimtaPolicy", "SlimtaNet",
    "SlimtaMilter", "SlimtaDNS", "SlimtaRecords", "SlimtaStorage", "SlimtaCluster", "SlimtaEdge", "SlimtaRelay",
    "SlimtaCrypto", "SlimtaMIME",
    "SlimtaRules", "SlimtaConfiguration", "SlimtaPipe", "SlimtaPAM", nioCore, nioEmbedded, nioHTTP1, logging,
]
let fuzzers: Target =
    Context.environment["SLIMTAD_FUZZ"] == nil
    ? .testTarget(
        name: "FuzzTests", dependencies: fuzzed + ["TestKit"], path: "Tests/Fuzz",
        exclude: ["corpus", "found", "fuzz.py", "Driver"], swiftSettings: settings)
    : .executableTarget(
        name: "fuzz", dependencies: fuzzed, path: "Tests/Fuzz", exclude: ["corpus", "found", "fuzz.py", "Replay"],
        swiftSettings: settings)

let package = Package(
    name: "slimtad",
    products: [.executable(name: "slimtad", targets: ["slimtad"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-collections.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.2"),
        .package(url: "https://github.com/LebJe/TOMLKit.git", from: "0.6.0"),
    ],
    targets: [
        // C: module maps and shims
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CGDBM", providers: [.apt(["libgdbm-dev"])]),
        .systemLibrary(name: "CSystemd", pkgConfig: "libsystemd", providers: [.apt(["libsystemd-dev"])]),
        .systemLibrary(name: "CUnbound", providers: [.apt(["libunbound-dev"])]),
        .systemLibrary(name: "CIDN2", pkgConfig: "libidn2", providers: [.apt(["libidn2-dev"])]),
        .systemLibrary(name: "CUnistring", providers: [.apt(["libunistring-dev"])]),
        .systemLibrary(name: "CPCRE2", pkgConfig: "libpcre2-8", providers: [.apt(["libpcre2-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CCrypt", pkgConfig: "libcrypt", providers: [.apt(["libcrypt-dev"])]),
        .target(name: "CLinux"),
        // Loads libpam itself, when it is first needed: headers are what it takes to build.
        .target(name: "CPAM"),
        // Loads libpq itself, when a queue is in PostgreSQL: headers are what it takes to build.
        .target(name: "CPostgres"),

        // 0: values; what makes two domain names the same one (libidn2, no I/O) is part of an address
        room("SlimtaMail", ["CIDN2", nioCore]),

        // 1: protocols and rules without I/O
        room("SlimtaSMTP", ["SlimtaMail", "SlimtaSASL", nioCore]),
        // What a notice returns is made 7-bit (SlimtaMIME).
        room("SlimtaQueue", ["SlimtaMail", "SlimtaMIME", nioCore, deque, logging]),
        // Computed by OpenSSL, and without I/O all the same: what is signed and compared is decided in this layer.
        room("SlimtaCrypto", ["COpenSSL"]),
        // Who a client is: mechanisms as values, for SMTP's machines and for edges. Names and passwords are normalised by
        // libunistring, which is there wherever libidn2 is; Swift has normal forms, and shows them to nobody.
        room("SlimtaSASL", ["SlimtaMail", "SlimtaCrypto", "CUnistring"]),
        // What is asked of a client at each stage of its session. slimta.conf is read into it, edges ask it, and the command
        // that explains a session; none of them is to see the queue for that. Regular expressions are PCRE2's.
        // What a message has attached is a fact like others (SlimtaMIME).
        room("SlimtaRules", ["SlimtaMail", "SlimtaMIME", "CPCRE2", nioCore]),
        // Who may send for a domain: asks its questions to DNS through whoever drives it.
        room("SlimtaSPF", ["SlimtaMail"]),
        // Signatures of mail, and what DNS has to say of their keys: asks nobody, is told. Messages are buffers.
        room("SlimtaDKIM", ["SlimtaMail", "SlimtaCrypto", nioCore]),
        // Filters that sendmail and Postfix ask as well: what is said to them, and what comes of it.
        room("SlimtaMilter", ["SlimtaMail", nioCore]),
        // What the content of a message is made of, and how it is made 7-bit: for rules, policies and relays.
        room("SlimtaMIME", ["SlimtaMail", nioCore]),

        // 2: one library of the system each
        // What a handshake came to is one of the facts of a connection, which edges and relays share (SlimtaMail).
        room("SlimtaTLS", ["SlimtaMail", "SlimtaCrypto", "COpenSSL", nioCore]),
        room("SlimtaDNS", ["CUnbound"]),
        // How envelopes, states, receipts and endings are written down, and threads that may block: both storages have them.
        room("SlimtaRecords", ["SlimtaMail", "SlimtaQueue", "CLinux", nioCore]),
        room("SlimtaThreads", ["CLinux"]),
        room(
            "SlimtaStorage",
            ["SlimtaMail", "SlimtaQueue", "SlimtaRecords", "SlimtaThreads", "CGDBM", "CLinux", nioCore, heap]),
        // The queue in PostgreSQL, for several machines.
        room(
            "SlimtaCluster",
            ["SlimtaMail", "SlimtaQueue", "SlimtaRecords", "SlimtaThreads", "CPostgres", "CLinux", nioCore]),
        room("SlimtaSystem", ["SlimtaMail", "CSystemd", "CLinux", logging]),

        // 2: what helpers of the daemon have in common, processes with rights that it has not: their loop, their octets
        room("SlimtaHelper", ["CLinux"]),

        // 2: commands that mail goes into: what the daemon asks of the helper that starts them, and that helper. Apart, for it
        // may run with root's rights: it is to be small, and to see nothing of mail but addresses.
        room("SlimtaPipe", ["SlimtaMail", "SlimtaHelper", "CLinux"]),

        // 2: questions to PAM: what the daemon asks of the helper that asks it, and that helper, which can read /etc/shadow.
        room("SlimtaPAM", ["SlimtaHelper", "CPAM", "CLinux"]),

        // 2: what is between an edge and the queue: policies, and who runs them
        // Who mail is forwarded to is said and matched as rules are (SlimtaRules). What leaves is signed last (SlimtaDKIM).
        // Headers are in ASCII before that, where no address needs more, and content where that is wanted (SlimtaMIME).
        room(
            "SlimtaPolicy",
            ["SlimtaMail", "SlimtaQueue", "SlimtaRules", "SlimtaDKIM", "SlimtaMIME", nioCore, logging]),

        // 2: what every protocol over sockets needs: listening, PROXY headers, HTTP, JSON
        // CRC32C, which PROXY headers are checked by, is in CLinux once: with the processor's instructions for it.
        // What goes out compressed over HTTP, TLS reports so far, is compressed by zlib.
        room("SlimtaNet", ["SlimtaMail", "SlimtaTLS", "CLinux", "CZlib", nioCore, nioPosix, nioHTTP1]),

        // 3: where mail comes in and goes out
        room(
            "SlimtaEdge",
            [
                "SlimtaMail", "SlimtaSMTP", "SlimtaSASL", "SlimtaQueue", "SlimtaCrypto", "SlimtaTLS", "SlimtaNet",
                "CCrypt", nioCore, nioPosix, logging,
                // What rules need to know of a client is looked up here (Lookups/); SPF's check says what. Of what a message is
                // made they know when it has come.
                "SlimtaRules", "SlimtaDNS", "SlimtaSPF", "SlimtaMIME",
                // The questions to PAM's helper.
                "SlimtaPAM",
                // What is said to milters, while sessions go on.
                "SlimtaMilter",
            ]),
        room(
            "SlimtaRelay",
            [
                "SlimtaMail", "SlimtaSASL", "SlimtaSMTP", "SlimtaQueue", "SlimtaTLS", "SlimtaDNS", "SlimtaNet", nioCore,
                nioPosix, logging,
                // What addresses and fields are on one way out is said in the words of rules.
                "SlimtaRules",
                // A pipe's commands are started by a helper, which is asked over a socket with a descriptor beside it.
                "SlimtaPipe", "CLinux",
                // A request over HTTP is named by a digest, so that one whose answer was lost makes no second message.
                "SlimtaCrypto",
                // What a host without 8BITMIME gets is another form of the message.
                "SlimtaMIME",
            ]),
        // SlimtaRules: what was counted of senders, and who is held, is for operators to see.
        room("SlimtaControl", ["SlimtaMail", "SlimtaQueue", "SlimtaRules", "SlimtaNet", nioCore, logging]),

        // 4: slimta.conf; its rules are read to what an edge evaluates
        // SlimtaSASL: names of mechanisms; SlimtaDKIM: those of algorithms and gates.
        room("SlimtaConfiguration", ["SlimtaMail", "SlimtaRules", "SlimtaSASL", "SlimtaDKIM", toml]),

        // 5: the composition root
        .executableTarget(
            name: "slimtad",
            dependencies: [
                // SlimtaCrypto: the secret behind invented salts; SlimtaDKIM: keys and what becomes of them.
                "SlimtaMail", "SlimtaRules", "SlimtaCrypto", "SlimtaDKIM", "SlimtaSASL", "SlimtaSMTP", "SlimtaQueue",
                "SlimtaPolicy",
                "SlimtaTLS", "SlimtaMilter",
                "SlimtaDNS", "SlimtaStorage", "SlimtaCluster", "SlimtaSystem", "SlimtaNet", "SlimtaEdge", "SlimtaRelay",
                "SlimtaControl", "SlimtaHelper", "SlimtaPipe", "SlimtaPAM",
                "SlimtaConfiguration",
                argumentParser, logging, nioCore, nioPosix,
            ],
            swiftSettings: settings),

        // The storages alone, for the power cut rig, `make bench` and `make bench-cluster`; not installed.
        .executableTarget(
            name: "storage-worker",
            dependencies: ["SlimtaMail", "SlimtaQueue", "SlimtaStorage", "SlimtaCluster", nioCore],
            path: "Tests/StorageWorker", swiftSettings: settings),

        // Messages of JSON by the thousand, for Python to read back; not installed.
        .executableTarget(
            name: "compose-worker", dependencies: ["SlimtaMail", "SlimtaEdge", nioCore], path: "Tests/ComposeWorker",
            swiftSettings: settings),

        // Messages signed and verified, and texts canonicalised, for other people's programs to compare; not installed.
        .executableTarget(
            name: "dkim-worker", dependencies: ["SlimtaMail", "SlimtaCrypto", "SlimtaDKIM", nioCore],
            path: "Tests/DKIMWorker", swiftSettings: settings),

        // One real milter, asked over a real socket; not installed.
        .executableTarget(
            name: "milter-worker", dependencies: ["SlimtaMail", "SlimtaMilter", nioCore], path: "Tests/MilterWorker",
            swiftSettings: settings),

        // What a message is made of, and what its conversion makes of it, for Python to judge; what policies cost; not installed.
        .executableTarget(
            name: "mime-worker", dependencies: ["SlimtaMail", "SlimtaMIME", "SlimtaPolicy", nioCore],
            path: "Tests/MIMEWorker",
            swiftSettings: settings),

        fuzzers,

        // A storage in memory, and what every storage owes: for tests of storages and of what has one.
        .target(
            name: "StorageKit", dependencies: ["SlimtaMail", "SlimtaQueue", nioCore], path: "Tests/StorageKit",
            swiftSettings: settings),

        .target(name: "TestKit", dependencies: [nioCore, nioPosix], path: "Tests/TestKit", swiftSettings: settings),
        tests("SlimtaMail", [nioCore]),
        tests("SlimtaSMTP", ["SlimtaMail", "SlimtaSASL", nioCore]),
        tests("SlimtaSASL", ["SlimtaMail", "SlimtaCrypto"]),
        tests("SlimtaQueue", ["SlimtaMail", "SlimtaStorage", "StorageKit", nioCore, logging]),
        tests("SlimtaPipe", ["SlimtaMail", "CLinux"]),
        tests("SlimtaPAM", ["SlimtaHelper", "CPAM"]),
        tests(
            "SlimtaPolicy",
            [
                "SlimtaMail", "SlimtaQueue", "SlimtaRules", "SlimtaDKIM", "SlimtaCrypto", "SlimtaStorage", nioCore,
                logging,
            ]),
        tests("SlimtaCrypto"),
        tests("SlimtaRules", ["SlimtaMail", "SlimtaMIME", nioCore]),
        tests("SlimtaSPF", ["SlimtaMail"]),
        tests("SlimtaDKIM", ["SlimtaMail", "SlimtaCrypto", nioCore]),
        tests("SlimtaMilter", ["SlimtaMail", nioCore]),
        tests("SlimtaMIME", ["SlimtaMail", nioCore]),
        tests("SlimtaTLS", ["SlimtaMail", nioCore, nioPosix, nioEmbedded]),
        tests("SlimtaDNS"),
        tests("SlimtaRecords", ["SlimtaMail", "SlimtaQueue", "StorageKit", nioCore]),
        tests("SlimtaThreads"),
        tests(
            "SlimtaStorage",
            ["SlimtaMail", "SlimtaQueue", "SlimtaRecords", "SlimtaThreads", "StorageKit", "CGDBM", nioCore]),
        // A queue is carried from one storage to the other: its tests have both.
        tests(
            "SlimtaCluster",
            [
                "SlimtaMail", "SlimtaQueue", "SlimtaRecords", "SlimtaThreads", "SlimtaStorage", "StorageKit", nioCore,
                logging,
            ]),
        tests("SlimtaSystem", [logging]),
        tests("SlimtaNet", ["SlimtaMail", "SlimtaTLS", nioCore, nioPosix, nioHTTP1, nioEmbedded]),
        tests(
            "SlimtaEdge",
            [
                "SlimtaMail", "SlimtaSMTP", "SlimtaSASL", "SlimtaQueue", "SlimtaCrypto", "SlimtaTLS", "SlimtaNet",
                "SlimtaStorage", "SlimtaRules", "SlimtaMIME", "SlimtaDNS", "SlimtaSPF", "SlimtaMilter", "SlimtaPolicy",
                nioCore,
                nioPosix, nioEmbedded,
                logging,
            ]),
        tests(
            "SlimtaRelay",
            [
                "SlimtaMail", "SlimtaCrypto", "SlimtaSASL", "SlimtaSMTP", "SlimtaQueue", "SlimtaTLS", "SlimtaDNS",
                "SlimtaNet",
                "SlimtaRules", "SlimtaPipe",
                nioCore,
                nioPosix, nioHTTP1, nioEmbedded, logging,
            ]),
        tests(
            "SlimtaControl",
            [
                "SlimtaMail", "SlimtaQueue", "SlimtaRules", "SlimtaNet", "SlimtaStorage", "StorageKit", nioCore,
                nioPosix,
                logging,
            ]),
        tests("SlimtaConfiguration", ["SlimtaMail", "SlimtaRules", "SlimtaSASL", "SlimtaDKIM", "SlimtaSMTP", nioCore]),
        // An executable is tested as a library: SwiftPM gives its main another name.
        tests(
            "slimtad",
            [
                "SlimtaMail", "SlimtaRules", "SlimtaConfiguration", "SlimtaNet", "SlimtaTLS", "SlimtaDNS",
                "SlimtaStorage", "SlimtaRelay", "SlimtaSASL", "SlimtaDKIM", "SlimtaPolicy",
                "SlimtaEdge", "SlimtaControl", "SlimtaSystem", logging, nioCore, nioPosix,
            ]),
    ]
)

// SLIMTAD_TESTS=SlimtaEdgeTests,slimtadTests builds the tests of these targets alone: whoever works on one part need not
// wait for the tests of all others.
if let chosen = Context.environment["SLIMTAD_TESTS"]?.split(separator: ",").map(String.init) {
    package.targets.removeAll { $0.type == .test && !chosen.contains($0.name) }
}
