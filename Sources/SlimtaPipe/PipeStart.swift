// A request as what execve wants. Made by PipeConnection for each command.

internal import CLinux
internal import Glibc
internal import SlimtaMail

/// The program, its arguments and its environment for one request, and who it is to be.
struct PipeStart {
    /// Why it was not started.
    struct Failure: Error, Hashable {
        let answer: PipeAnswer
    }

    private let request: PipeRequest
    private let account: PipeAccount
    private let changing: Bool

    init(_ request: PipeRequest, _ account: PipeAccount, _ changing: Bool) {
        (self.request, self.account, self.changing) = (request, account, changing)
    }

    /// What every command finds, but for names that slimta.conf gives it itself.
    private var usual: [(name: String, value: String)] {
        [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", account.home), ("LOGNAME", account.name),
            ("SENDER", request.values[.sender]), ("RECIPIENT", request.values[.recipient]),
            ("QUEUE_ID", request.values[.queueID]),
        ]
    }

    /// Starts it. Descriptors stay the caller's.
    func run(input: Int32, output: Int32) -> Result<Int32, Failure> {
        let arguments: [String]
        var environment: [String]
        do {
            arguments = try CommandTemplate(request.pipe.command).filled(request.values)
            environment = try CommandTemplate(request.pipe.environment).filled(request.values)
        } catch {
            return .failure(Failure(answer: PipeAnswer(.notStarted("its command line cannot be made: \(error)"))))
        }
        guard let path = arguments.first, path.utf8.first == UInt8(ascii: "/") else {
            return .failure(Failure(answer: PipeAnswer(.notStarted("its command has no path"))))
        }
        for (name, value) in usual where !environment.contains(where: { $0.utf8.starts(with: "\(name)=".utf8) }) {
            environment.append("\(name)=\(value)")
        }
        var words = arguments.map { strdup($0) } + [nil]
        var variables = environment.map { strdup($0) } + [nil]
        defer { for text in words + variables { free(text) } }
        var command = linux_command()
        command.files = (input, output, output, -1)
        command.changes_identity = changing
        (command.uid, command.gid, command.group_count) = (account.uid, account.gid, account.groups.count)
        var pid: Int32 = 0
        var step: Int32 = 0
        let error = path.withCString { path in
            words.withUnsafeMutableBufferPointer { words in
                variables.withUnsafeMutableBufferPointer { variables in
                    account.groups.withUnsafeBufferPointer { groups in
                        command.path = path
                        command.arguments = UnsafePointer(words.baseAddress)
                        command.environment = UnsafePointer(variables.baseAddress)
                        command.groups = groups.baseAddress
                        return linux_start_command(&command, &pid, &step)
                    }
                }
            }
        }
        guard error != 0 else { return .success(pid) }
        let what =
            switch Int(step) {
            case LINUX_COMMAND_IDENTITY: "cannot become user \(account.name)"
            case LINUX_COMMAND_EXECUTE: "cannot run \(path)"
            default: "cannot start a process"
            }
        return .failure(Failure(answer: .failed(what, error)))
    }
}
