// libunistring for SlimtaSASL: normal forms, letters in lower case, and what Unicode says of a character. Swift does not see names
// that are made of macros, nor fields of bits.
#pragma once
#include <unicase.h>
#include <uninorm.h>
#include <unictype.h>

static inline uninorm_t C_uninorm_nfc(void) { return UNINORM_NFC; }
static inline uninorm_t C_uninorm_nfkc(void) { return UNINORM_NFKC; }

// One of UC_CATEGORY_MASK_*.
static inline uint32_t C_uc_category(ucs4_t uc) { return uc_general_category(uc).bitmask; }

// Scripts are told apart by their names; NULL: it has none.
static inline const char *C_uc_script_name(ucs4_t uc) {
    const uc_script_t *script = uc_script(uc);
    return script ? script->name : NULL;
}
