#include "clinux.h"
#include <openssl/crypto.h>
#include <openssl/err.h>
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

int clinux_scrypt(
    const void *password, size_t password_count, const void *salt, size_t salt_count, uint64_t n, uint64_t r,
    uint64_t p, uint8_t *out, size_t out_count) {
    // What the parameters need, and OpenSSL's own overhead with it.
    uint64_t memory = 128 * r * (n + p + 2) + (1 << 20);
    int done = EVP_PBE_scrypt(password, password_count, salt, salt_count, n, r, p, memory, out, out_count);
    if (done != 1) ERR_clear_error();
    return done == 1 ? 0 : -1;
}

int clinux_equal(const void *one, const void *other, size_t count) { return CRYPTO_memcmp(one, other, count) == 0; }
