// OpenSSL for SlimtaCrypto and SlimtaTLS: the headers, and what Swift cannot import (macros that cast or call) as static inline
// functions and constants. Each has the name of what it stands for, behind a C_.
#pragma once
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <openssl/x509_vfy.h>

static const uint64_t C_SSL_OP_NO_COMPRESSION = SSL_OP_NO_COMPRESSION;
static const uint64_t C_SSL_OP_NO_RENEGOTIATION = SSL_OP_NO_RENEGOTIATION;
static const uint64_t C_SSL_OP_CIPHER_SERVER_PREFERENCE = SSL_OP_CIPHER_SERVER_PREFERENCE;
static const uint64_t C_SSL_OP_PRIORITIZE_CHACHA = SSL_OP_PRIORITIZE_CHACHA;

static inline int C_SSL_CTX_set_min_proto_version(SSL_CTX *context, int version) {
    return (int)SSL_CTX_set_min_proto_version(context, version);
}

static inline void C_SSL_CTX_set_mode(SSL_CTX *context, long mode) { SSL_CTX_set_mode(context, mode); }

static inline void C_SSL_CTX_set_session_cache_mode(SSL_CTX *context, long mode) {
    SSL_CTX_set_session_cache_mode(context, mode);
}

static inline int C_SSL_CTX_add0_chain_cert(SSL_CTX *context, X509 *certificate) {
    return (int)SSL_CTX_add0_chain_cert(context, certificate);
}

typedef int (*C_servername_callback)(SSL *ssl, int *alert, void *argument);

static inline void C_SSL_CTX_set_servername(SSL_CTX *context, C_servername_callback callback, void *argument) {
    SSL_CTX_set_tlsext_servername_callback(context, callback);
    SSL_CTX_set_tlsext_servername_arg(context, argument);
}

static inline int C_SSL_set_tlsext_host_name(SSL *ssl, const char *name) {
    return (int)SSL_set_tlsext_host_name(ssl, name);
}

static inline int C_SSL_get_extms_support(SSL *ssl) { return (int)SSL_get_extms_support(ssl); }

static inline void C_BIO_set_retry_read(BIO *bio) { BIO_set_retry_read(bio); }

static inline void C_BIO_clear_retry_flags(BIO *bio) { BIO_clear_retry_flags(bio); }

static inline int C_ERR_is(unsigned long error, int library, int reason) {
    return ERR_GET_LIB(error) == library && ERR_GET_REASON(error) == reason;
}

// The errno that an error stands for; 0 if it is OpenSSL's own.
static inline int C_ERR_errno(unsigned long error) {
    return ERR_SYSTEM_ERROR(error) ? ERR_GET_REASON(error) : 0;
}

// Calls `each` with every name of a type (GEN_DNS, GEN_EMAIL) among the certificate's subject alternative names.
static inline void C_X509_each_name(
    X509 *certificate, int type, void *context,
    void (*each)(void *context, const unsigned char *name, int count)) {
    GENERAL_NAMES *names = (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != type) continue;
        if (type == GEN_OTHERNAME) {  // mail addresses of RFC 9598 alone
            const OTHERNAME *other = name->d.otherName;
            if (OBJ_obj2nid(other->type_id) != NID_id_on_SmtpUTF8Mailbox) continue;
            if (ASN1_TYPE_get(other->value) != V_ASN1_UTF8STRING) continue;
            const ASN1_STRING *text = other->value->value.utf8string;
            each(context, ASN1_STRING_get0_data(text), ASN1_STRING_length(text));
            continue;
        }
        each(context, ASN1_STRING_get0_data(name->d.ia5), ASN1_STRING_length(name->d.ia5));
    }
    GENERAL_NAMES_free(names);
}

// Has lists of revoked certificates (RFC 5280 section 5) looked at, where there are any in the file of those that a context
// trusts; says when the first of them ends, NULL if none does.
static inline const ASN1_TIME *C_SSL_CTX_use_revocations(SSL_CTX *context) {
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    const STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);
    const ASN1_TIME *first = NULL;
    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        X509_CRL *list = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
        if (!list) continue;
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
        const ASN1_TIME *end = X509_CRL_get0_nextUpdate(list);
        if (end && (!first || ASN1_TIME_compare(end, first) < 0)) first = end;
    }
    return first;
}

// Whether the certificate's chain, made of `issuers`, leads to a root that the system trusts, whatever the time: 0, or
// why not (X509_V_ERR_...).
static inline int C_X509_chain_error(X509 *certificate, X509 **issuers, int count) {
    int error = X509_V_ERR_UNSPECIFIED;
    X509_STORE *store = X509_STORE_new();
    STACK_OF(X509) *chain = sk_X509_new_null();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    if (store && chain && context && X509_STORE_set_default_paths(store) == 1) {
        for (int i = 0; i < count; i++) sk_X509_push(chain, issuers[i]);
        if (X509_STORE_CTX_init(context, store, certificate, chain) == 1) {
            X509_STORE_CTX_set_flags(context, X509_V_FLAG_NO_CHECK_TIME);
            error = X509_verify_cert(context) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(context);
        }
    }
    X509_STORE_CTX_free(context);
    sk_X509_free(chain);
    X509_STORE_free(store);
    return error;
}

// Whether the chain that the peer has sent leads to a root in the store of `roots`, and its certificate is for `host`: 0, or
// why not (X509_V_ERR_...). Beside what the session itself has verified.
static inline int C_SSL_chain_error(SSL *ssl, SSL_CTX *roots, const char *host, unsigned int flags) {
    int error = X509_V_ERR_UNSPECIFIED;
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    if (context && certificate
        && X509_STORE_CTX_init(context, SSL_CTX_get_cert_store(roots), certificate, SSL_get_peer_cert_chain(ssl)) == 1) {
        X509_STORE_CTX_set_default(context, "ssl_server");
        X509_VERIFY_PARAM *parameters = X509_STORE_CTX_get0_param(context);
        X509_VERIFY_PARAM_set_auth_level(parameters, SSL_CTX_get_security_level(roots));
        X509_VERIFY_PARAM_set_hostflags(parameters, flags);
        if (X509_VERIFY_PARAM_set1_host(parameters, host, 0) == 1) {
            int isGood = X509_verify_cert(context) == 1;
            int found = X509_STORE_CTX_get_error(context);
            error = isGood ? X509_V_OK : found != X509_V_OK ? found : X509_V_ERR_UNSPECIFIED;
        }
    }
    X509_STORE_CTX_free(context);
    return error;
}

// Verifies a chain, the server's own certificate first, as a handshake would with the DANE records and names that `ssl` has:
// 1, or 0 and SSL_get_verify_result says why not.
static inline int C_SSL_verify_chain(SSL *ssl, X509 **certificates, int count) {
    int result = 0, error = X509_V_ERR_UNSPECIFIED;
    STACK_OF(X509) *chain = sk_X509_new_null();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    if (chain && context && count > 0) {
        for (int i = 0; i < count; i++) sk_X509_push(chain, certificates[i]);
        if (X509_STORE_CTX_init(context, SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl)), certificates[0], chain) == 1
            && X509_STORE_CTX_set_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx(), ssl) == 1) {
            X509_STORE_CTX_set_default(context, "ssl_server");
            X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(context), SSL_get0_param(ssl));
            X509_STORE_CTX_set0_dane(context, SSL_get0_dane(ssl));
            result = X509_verify_cert(context) == 1;
            error = X509_STORE_CTX_get_error(context);
        }
    }
    SSL_set_verify_result(ssl, result ? X509_V_OK : error != X509_V_OK ? error : X509_V_ERR_UNSPECIFIED);
    X509_STORE_CTX_free(context);
    sk_X509_free(chain);
    return result;
}
