// Starting a command as somebody else, and what a helper needs that does it for another process.
// Each returns 0 (or what it says) on success and an errno value on failure.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What a command is started with. It gets a session of its own, umask 077, / as its directory, no signal blocked or ignored,
// no_new_privs, and no descriptor but those in `files`.
struct linux_command {
    const char *path;
    char *const *arguments;    // ended by NULL, as the environment
    char *const *environment;
    int files[4];              // standard input, output, error, and a fourth one or -1
    bool changes_identity;     // to these; only for a process that may
    uint32_t uid;
    uint32_t gid;
    const uint32_t *groups;    // all supplementary ones
    size_t group_count;
    bool keeps_privileges;     // no no_new_privs: for a program of ours
};

// What was being done when a start failed.
enum {
    LINUX_COMMAND_FORK,
    LINUX_COMMAND_FILES,
    LINUX_COMMAND_IDENTITY,
    LINUX_COMMAND_EXECUTE,
};

// Starts it; returns when it runs, or with why it does not. To be called while the process has one thread.
int linux_start_command(const struct linux_command *command, int32_t *pid, int *step);

// A descriptor that is readable once the process has ended; negative: an errno value.
int linux_watch_process(int32_t pid);

// Waits for the end of a child: its status as waitpid(2) has it.
int linux_reap(int32_t pid, int *status);

// Sends octets over a UNIX socket, all or none of them, and a descriptor with them.
int linux_send_file(int socket, const void *octets, size_t count, int file);

// Receives octets, and a descriptor into *file if one comes with them (one that is there already is closed); 0 at the end,
// negative: an errno value.
long linux_receive_file(int socket, void *octets, size_t count, int *file);

// Accepts a connection of a UNIX socket, non-blocking, and says who has made it; negative: an errno value.
int linux_accept(int listener, uint32_t *uid);

// A pipe for the output of a command: whose reader does not block.
int linux_output_pipe(int *reader, int *writer);

// A file in `folder` that has no name and goes with its last descriptor; negative: an errno value.
int linux_temporary_file(const char *folder);

// The same file from its beginning, to be read alone, by whoever gets the descriptor; negative: an errno value.
int linux_open_for_others(int file);
