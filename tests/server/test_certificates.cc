#include "tests/server/test_certificates.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <cstdio>
#include <fstream>

#include "kernels/check.h"
#include "tests/server/raw_connection.h"

namespace sluice {
namespace {

std::string Drain(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

std::string CertificatePem(X509* certificate) {
  BIO* bio = BIO_new(BIO_s_mem());
  SLUICE_CHECK(PEM_write_bio_X509(bio, certificate) == 1);
  return Drain(bio);
}

std::string KeyPem(EVP_PKEY* key) {
  BIO* bio = BIO_new(BIO_s_mem());
  SLUICE_CHECK(PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return Drain(bio);
}

void AddExtension(X509* certificate, int kind, const char* value) {
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value);
  SLUICE_CHECK(extension != nullptr);
  SLUICE_CHECK(X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

// Not signed yet.
X509* NewCertificate(EVP_PKEY* key, const std::string& name, absl::Duration valid) {
  static std::atomic<long> serial{1};
  X509* certificate = X509_new();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -24 * 3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), absl::ToInt64Seconds(valid));
  X509_set_pubkey(certificate, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  return certificate;
}

}  // namespace

TestAuthority::TestAuthority()
    : key_(EVP_EC_gen("P-256")), certificate_(NewCertificate(key_, "authority", absl::Hours(24))) {
  X509_set_issuer_name(certificate_, X509_get_subject_name(certificate_));
  AddExtension(certificate_, NID_basic_constraints, "critical,CA:TRUE");
  SLUICE_CHECK(X509_sign(certificate_, key_, EVP_sha256()) > 0);
  pem_ = CertificatePem(certificate_);
}

TestAuthority::~TestAuthority() {
  X509_free(certificate_);
  EVP_PKEY_free(key_);
}

KeyPair TestAuthority::Issue(const std::string& name, absl::Duration valid) const {
  return IssueFor(EVP_EC_gen("P-256"), name, valid);
}

KeyPair TestAuthority::IssueWeak(const std::string& name) const {
  return IssueFor(EVP_RSA_gen(512), name, absl::Hours(1));
}

KeyPair TestAuthority::IssueFor(EVP_PKEY* key, const std::string& name,
                                absl::Duration valid) const {
  X509* certificate = NewCertificate(key, name, valid);
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate_));
  AddExtension(certificate, NID_subject_alt_name,
               ("DNS:localhost,IP:127.0.0.1,DNS:" + name).c_str());
  SLUICE_CHECK(X509_sign(certificate, key_, EVP_sha256()) > 0);
  KeyPair pair = {CertificatePem(certificate), KeyPem(key)};
  X509_free(certificate);
  EVP_PKEY_free(key);
  return pair;
}

void ReplaceFile(const std::string& path, const std::string& content) {
  std::ofstream(path + ".new", std::ios::binary) << content;
  SLUICE_CHECK(std::rename((path + ".new").c_str(), path.c_str()) == 0);
}

Handshake ShakeHands(const std::string& address, const HandshakeOptions& options) {
  Handshake result;
  const RawConnection connection(address);
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_security_level(context, 0);
  SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
  SSL_CTX_set_max_proto_version(context, options.max_version);
  if (options.client != nullptr) {
    BIO* cert = BIO_new_mem_buf(options.client->cert.data(), -1);
    BIO* key = BIO_new_mem_buf(options.client->key.data(), -1);
    X509* certificate = PEM_read_bio_X509(cert, nullptr, nullptr, nullptr);
    EVP_PKEY* private_key = PEM_read_bio_PrivateKey(key, nullptr, nullptr, nullptr);
    SSL_CTX_use_certificate(context, certificate);
    SSL_CTX_use_PrivateKey(context, private_key);
    X509_free(certificate);
    EVP_PKEY_free(private_key);
    BIO_free(cert);
    BIO_free(key);
  }
  SSL* ssl = SSL_new(context);
  static const unsigned char kHttp2[] = {2, 'h', '2'};
  SSL_set_alpn_protos(ssl, kHttp2, sizeof(kHttp2));
  SSL_set_fd(ssl, connection.descriptor());
  if (connection.connected() && SSL_connect(ssl) == 1) {
    // In TLS 1.3 a server that refuses the client says so after the client's side is done.
    char byte = 0;
    result.ok = SSL_read(ssl, &byte, 1) == 1;
    result.version = SSL_get_version(ssl);
    X509* certificate = SSL_get1_peer_certificate(ssl);
    char name[256] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                              sizeof(name));
    result.name = name;
    X509_free(certificate);
  }
  SSL_free(ssl);
  SSL_CTX_free(context);
  return result;
}

}  // namespace sluice
