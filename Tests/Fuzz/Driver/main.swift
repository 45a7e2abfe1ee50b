// One fuzzer under libFuzzer: `fuzz NAME [options and folders of libFuzzer]`, `fuzz --list` names all. Built by
// Tests/Fuzz/fuzz.py alone, which links libFuzzer; no part of the ordinary build.

import Glibc

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ run: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

private func complain(_ text: String) {
    let octets = Array((text + "\n").utf8)
    _ = write(2, octets, octets.count)
}

private let names = CommandLine.arguments.dropFirst()
if names.first == "--list" {
    for target in FuzzTarget.all { print(target.name, target.maximumLength) }
    exit(0)
}
guard let found = FuzzTarget.all.first(where: { $0.name == names.first }) else {
    complain("usage: fuzz NAME [options of libFuzzer]; fuzz --list names all")
    exit(64)
}
private let target = found

private func one(_ octets: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    do {
        try target.run(Array(UnsafeBufferPointer(start: octets, count: count)))
    } catch {
        complain("\(target.name): \(error)")
        abort()
    }
    return 0
}

// The name is nothing to libFuzzer.
private var count = CommandLine.argc - 1
private var arguments = CommandLine.unsafeArgv + 1
exit(runDriver(&count, &arguments) { one($0, $1) })
