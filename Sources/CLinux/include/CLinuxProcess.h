// Calls about the process itself, for SlimtaSystem: the double fork, identity, capabilities, signals, limits.
// Each returns 0 (or what it says) on success and an errno value on failure; none touches Swift's runtime.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Becomes a daemon: fork, setsid, fork, umask 077, chdir /, standard input, output and error to /dev/null.
//
// Returns in the daemon only, with the write end of the readiness pipe in *readiness. The first process waits until
// something is said there: one octet, the exit status, then text for its standard error. It exits with that status, or
// with `died` if the daemon ends without a word. To be called while the process has one thread.
int linux_daemonize(int *readiness, int died);

// The number of threads of this process; 0 if /proc does not tell.
int linux_thread_count(void);

// Sets the real, effective and saved ids (of all threads), groups first.
int linux_set_identity(uint32_t uid, uint32_t gid, const uint32_t *groups, size_t count);

// Whether real, effective and saved ids are all these.
bool linux_has_identity(uint32_t uid, uint32_t gid);

// Whether root's ids can be had again: tries each way. Must not be called with a process that may go on if true.
bool linux_can_regain_root(void);

// PR_SET_KEEPCAPS: whether what is permitted outlives the change of root's id to another one.
int linux_keep_capabilities(bool keep);

// Starts a thread that keeps CAP_NET_BIND_SERVICE permitted, if this thread has it; all other capabilities of this thread
// are given up. A process whose first thread kept it could not be looked at by its reporter of crashes, which has none.
int linux_start_binder(void);

// Runs a job in that thread, with the capability in effect, and waits for its end; without such a thread in this one.
void linux_run_in_binder(void (*job)(void *), void *context);

// Gives up all capabilities of this thread: ambient, inheritable, permitted, effective.
int linux_clear_capabilities(void);

// Gives up all capabilities of this thread but those to become other users and to end their processes.
int linux_keep_capabilities_for_commands(void);

// Whether this thread has no permitted and no effective capability.
bool linux_has_no_capabilities(void);

// PR_SET_NO_NEW_PRIVS: no execve gives more rights than there are.
int linux_set_no_new_privileges(void);

// PR_SET_DUMPABLE 1: a change of ids clears it, and without it a crash report has no symbols.
int linux_set_dumpable(void);

// From now on each of these signals, instead of what it does, is an octet (its number) in a pipe; *reader is the end to
// read it from. Every other signal that somebody else may send and that would end the process is ignored. To be called
// once; where the process is the daemon, all of these wait from its first instruction until then.
int linux_catch_signals(const int *numbers, size_t count, int *reader);

// Waits for the next signal: its number, or a negative errno value.
int linux_next_signal(int reader);

// flock(LOCK_EX | LOCK_NB): EWOULDBLOCK if another open file has it.
int linux_lock_file(int descriptor);

// Raises the soft limit of open files to the hard one, and says what it is now.
int linux_raise_file_limit(uint64_t *limit);

// RLIMIT_CORE 0: no core file of this process or its children.
int linux_forbid_core(void);

// syslog(3), facility mail, as slimtad[PID].
void linux_syslog(int priority, const char *line);
