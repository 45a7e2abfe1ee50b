/* A PAM module that does what the user's name says: for the tests of the back end "pam". The password is "open sesame".
   cc -shared -fPIC -o pam_says.so pam_says.c -lpam */
#include <security/pam_ext.h>
#include <security/pam_modules.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *name_of(pam_handle_t *handle) {
    const char *name = NULL;
    return pam_get_user(handle, &name, NULL) == PAM_SUCCESS && name ? name : "";
}

static int is_item(pam_handle_t *handle, int item, const char *wanted) {
    const void *value = NULL;
    return pam_get_item(handle, item, &value) == PAM_SUCCESS && value && strcmp(value, wanted) == 0;
}

int pam_sm_authenticate(pam_handle_t *handle, int flags, int argc, const char **argv) {
    const char *name = name_of(handle), *password = NULL;
    char *more = NULL;
    if (strcmp(name, "nobody") == 0) return PAM_USER_UNKNOWN;
    if (strcmp(name, "hang") == 0) for (;;) pause();
    if (strcmp(name, "crash") == 0) abort();
    if (strcmp(name, "broken") == 0) return PAM_AUTHINFO_UNAVAIL;
    if (strcmp(name, "system") == 0) return PAM_SYSTEM_ERR;
    pam_fail_delay(handle, 20000000);
    if (pam_get_authtok(handle, PAM_AUTHTOK, &password, NULL) != PAM_SUCCESS) return PAM_CONV_ERR;
    if (strcmp(name, "host") == 0) return is_item(handle, PAM_RHOST, password) ? PAM_SUCCESS : PAM_AUTH_ERR;
    if (strcmp(name, "slow") == 0) sleep(1);
    if (strcmp(password, "open sesame") != 0) return PAM_AUTH_ERR;
    if (strcmp(name, "code") == 0 && pam_prompt(handle, PAM_PROMPT_ECHO_ON, &more, "Code: ") != PAM_SUCCESS) return PAM_CONV_ERR;
    if (strcmp(name, "alias") == 0) pam_set_item(handle, PAM_USER, "maria");
    return is_item(handle, PAM_TTY, "slimtad") ? PAM_SUCCESS : PAM_AUTH_ERR;
}

int pam_sm_acct_mgmt(pam_handle_t *handle, int flags, int argc, const char **argv) {
    const char *name = name_of(handle);
    if (strcmp(name, "expired") == 0) return PAM_ACCT_EXPIRED;
    if (strcmp(name, "old") == 0) return PAM_NEW_AUTHTOK_REQD;
    if (strcmp(name, "closed") == 0) return PAM_PERM_DENIED;
    return PAM_SUCCESS;
}

int pam_sm_setcred(pam_handle_t *handle, int flags, int argc, const char **argv) { return PAM_SUCCESS; }
