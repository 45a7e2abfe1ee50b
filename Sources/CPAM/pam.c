// PAM in a process of its own: see CPAM.h.
#define _GNU_SOURCE
#include "CPAM.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    typeof(pam_start) *start;
    typeof(pam_start_confdir) *start_confdir;
    typeof(pam_set_item) *set_item;
    typeof(pam_get_item) *get_item;
    typeof(pam_authenticate) *authenticate;
    typeof(pam_acct_mgmt) *acct_mgmt;
    typeof(pam_strerror) *strerror;
    typeof(pam_end) *end;
} pam;

const char *cpam_load(void) {
    if (pam.start != NULL) return NULL;
    void *library = dlopen("libpam.so.0", RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL) return dlerror();
    *(void **)&pam.start_confdir = dlsym(library, "pam_start_confdir");
    *(void **)&pam.set_item = dlsym(library, "pam_set_item");
    *(void **)&pam.get_item = dlsym(library, "pam_get_item");
    *(void **)&pam.authenticate = dlsym(library, "pam_authenticate");
    *(void **)&pam.acct_mgmt = dlsym(library, "pam_acct_mgmt");
    *(void **)&pam.strerror = dlsym(library, "pam_strerror");
    *(void **)&pam.end = dlsym(library, "pam_end");
    if (!pam.start_confdir || !pam.set_item || !pam.get_item || !pam.authenticate || !pam.acct_mgmt || !pam.strerror
        || !pam.end)
        return "libpam.so.0 is older than 1.4";
    *(void **)&pam.start = dlsym(library, "pam_start");
    return pam.start != NULL ? NULL : "libpam.so.0 has no pam_start";
}

// ---- the conversation ----

struct talk {
    const char *password;  // NULL: it was given
    struct cpam_answer *answer;
};

static void note(char *to, size_t size, const char *text) {
    if (text == NULL) return;
    strncpy(to, text, size - 1);
    to[size - 1] = 0;
}

// One hidden prompt gets the password. Nobody is there who could answer another one, or one that is shown.
static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
    struct talk *talk = data;
    if (count <= 0 || count > PAM_MAX_NUM_MSG) return PAM_CONV_ERR;
    // The caller frees it, and what is in it, with free().
    struct pam_response *answers = calloc((size_t)count, sizeof *answers);
    if (answers == NULL) return PAM_BUF_ERR;
    for (int i = 0; i < count; i++) {
        int style = messages[i]->msg_style;
        if (style == PAM_TEXT_INFO || style == PAM_ERROR_MSG) {
            note(talk->answer->text, sizeof talk->answer->text, messages[i]->msg);
        } else if (style == PAM_PROMPT_ECHO_OFF && talk->password != NULL) {
            answers[i].resp = strdup(talk->password);
            talk->password = NULL;
        } else {
            talk->answer->asks_for_more = true;
            for (int j = 0; j < i; j++) {
                if (answers[j].resp == NULL) continue;
                explicit_bzero(answers[j].resp, strlen(answers[j].resp));
                free(answers[j].resp);
            }
            free(answers);
            return PAM_CONV_ERR;
        }
    }
    *responses = answers;
    return PAM_SUCCESS;
}

// Instead of sleeping, as libpam does without this: the helper delays what has to be, and holds no process for it.
static void pass_over_delay(int status, unsigned microseconds, void *data) {
    (void)status, (void)microseconds, (void)data;
}

static void ask(const struct cpam_question *question, struct cpam_answer *answer) {
    struct talk talk = {question->password, answer};
    const struct pam_conv conversation = {converse, &talk};
    pam_handle_t *handle = NULL;
    const int flags = PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK;
    int code = question->folder != NULL
        ? pam.start_confdir(question->service, question->login, &conversation, question->folder, &handle)
        : pam.start(question->service, question->login, &conversation, &handle);
    if (code == PAM_SUCCESS) code = pam.set_item(handle, PAM_TTY, "slimtad");
    if (code == PAM_SUCCESS) code = pam.set_item(handle, PAM_RUSER, "");
    if (code == PAM_SUCCESS && question->host != NULL) code = pam.set_item(handle, PAM_RHOST, question->host);
    if (code == PAM_SUCCESS) code = pam.set_item(handle, PAM_FAIL_DELAY, (const void *)pass_over_delay);
    if (code == PAM_SUCCESS) {
        answer->phase = CPAM_AUTHENTICATE;
        code = pam.authenticate(handle, flags);
        talk.password = NULL;
    }
    if (answer->phase == CPAM_AUTHENTICATE && code == PAM_SUCCESS) {
        answer->phase = CPAM_ACCOUNT;
        code = pam.acct_mgmt(handle, flags);
    }
    answer->code = code;
    if (answer->text[0] == 0) note(answer->text, sizeof answer->text, pam.strerror(handle, code));
    if (handle == NULL) return;
    const void *user = NULL;
    if (pam.get_item(handle, PAM_USER, &user) == PAM_SUCCESS && user != NULL
        && strlen(user) < sizeof answer->user)
        note(answer->user, sizeof answer->user, user);
    pam.end(handle, code);
}

// ---- the process ----

static void work(const struct cpam_question *question, int writer) {
    setsid();
    // It must not outlive who kills it when it takes too long.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);  // of SIGKILL and its like it fails: fine
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int kept = fcntl(writer, F_DUPFD_CLOEXEC, 16);
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3 && null >= 0; i++) dup2(null, i);
    // Connections of other clients, with their passwords, are not for modules.
    if (kept < 0 || syscall(SYS_close_range, 3U, (unsigned)kept - 1, 0) != 0
        || syscall(SYS_close_range, (unsigned)kept + 1, ~0U, 0) != 0 || chdir("/") != 0)
        _exit(127);
    struct cpam_answer answer;
    memset(&answer, 0, sizeof answer);
    ask(question, &answer);
    ssize_t written = write(kept, &answer, sizeof answer);
    _exit(written == sizeof answer ? 0 : 127);
}

int cpam_ask(const struct cpam_question *question, pid_t *pid, int *reader) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return errno;
    pid_t child = fork();
    if (child == 0) work(question, ends[1]);
    int error = errno;
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return error;
    }
    *pid = child;
    *reader = ends[0];
    return 0;
}
