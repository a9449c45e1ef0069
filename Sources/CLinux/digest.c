#include "clinux.h"
#include <openssl/evp.h>


clinux_sha256 *clinux_sha256_new(void) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(context);
        return NULL;
    }
    return (clinux_sha256 *)context;
}

void clinux_sha256_update(clinux_sha256 *digest, const void *bytes, size_t count) {
    EVP_DigestUpdate((EVP_MD_CTX *)digest, bytes, count);
}

void clinux_sha256_finish(clinux_sha256 *digest, uint8_t *out) {
    EVP_DigestFinal_ex((EVP_MD_CTX *)digest, out, NULL);
    EVP_MD_CTX_free((EVP_MD_CTX *)digest);
}
