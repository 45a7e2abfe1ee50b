// Asks PAM (pam(3)) in a process of its own for each question: modules leak, hang, crash and leave things behind. For the
// helper alone, SlimtaPAM: libpam is loaded when it is first needed, so that slimtad starts without it.
#pragma once

#include <security/_pam_types.h>
#include <stdbool.h>
#include <stdint.h>

// Texts end with NUL.
struct cpam_question {
    const char *folder;    // of service files, instead of the system's; or NULL
    const char *service;
    const char *login;
    const char *password;
    const char *host;      // PAM_RHOST; or NULL
};

// How far it came.
enum {
    CPAM_START,
    CPAM_AUTHENTICATE,
    CPAM_ACCOUNT,
};

// What one writes to a pipe, in one piece. PAM's code of the last phase; 0 there of CPAM_ACCOUNT: it is right.
struct cpam_answer {
    int32_t phase;
    int32_t code;
    bool asks_for_more;    // than one password
    char user[256];        // PAM_USER, which modules may change; empty: it is no text of this length
    char text[128];        // what the code means, or what a module has said, for the log
};

// Loads libpam; NULL, or why not. To be called before the first question.
const char *cpam_load(void);

// Starts a process, in a session of its own and with nothing open but the pipe, which asks and writes the answer. 0, or an
// errno value. *reader does not block. To be called while the process has one thread.
int cpam_ask(const struct cpam_question *question, int32_t *pid, int *reader);
