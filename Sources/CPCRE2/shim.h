// libpcre2 for SlimtaRules: regular expressions over UTF-8, with limits. Swift does not see names that are made of macros,
// as all of PCRE2's are.
#pragma once
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

typedef pcre2_code_8 C_pcre2_code;
typedef pcre2_match_context_8 C_pcre2_match_context;
typedef pcre2_match_data_8 C_pcre2_match_data;
