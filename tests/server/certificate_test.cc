#include "server/certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "absl/time/clock.h"
#include "tests/server/test_certificates.h"

namespace sluice {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class CertificateTest : public testing::Test {
 protected:
  static std::string Write(const std::string& name, const std::string& content) {
    std::string path = testing::TempDir() + "certificate_test." + name;
    ReplaceFile(path, content);
    return path;
  }
  std::string Error(absl::Time now = absl::Now()) const {
    const auto certificate = ReadCertificate(files_, now);
    return certificate.ok() ? "OK" : std::string(certificate.status().message());
  }

  const TestAuthority authority_;
  const KeyPair pair_ = authority_.Issue("server");
  CertificateFiles files_ = {Write("cert", pair_.cert), Write("key", pair_.key),
                             Write("ca", authority_.pem())};
};

TEST_F(CertificateTest, ReadsWhatBelongsTogether) {
  const auto certificate = ReadCertificate(files_, absl::Now());
  ASSERT_TRUE(certificate.ok()) << certificate.status();
  EXPECT_EQ(certificate->cert, pair_.cert);
  EXPECT_EQ(certificate->key, pair_.key);
  EXPECT_EQ(certificate->client_ca, authority_.pem());
  EXPECT_GT(certificate->expires, absl::Now() + absl::Minutes(55));
  EXPECT_LT(certificate->expires, absl::Now() + absl::Minutes(65));
  files_.client_ca = "";
  EXPECT_EQ(Error(), "OK");
}

TEST_F(CertificateTest, NamesAFileThatIsNotThere) {
  files_.cert = "/no/such/file";
  EXPECT_EQ(Error(), "--tls-cert=/no/such/file: cannot be read: No such file or directory");
  files_.cert = "/";
  EXPECT_EQ(Error(), "--tls-cert=/: cannot be read: Is a directory");
  files_.cert = Write("cert", pair_.cert);
  files_.key = "/no/such/key";
  EXPECT_THAT(Error(), StartsWith("--tls-key=/no/such/key: cannot be read"));
  files_.key = Write("key", pair_.key);
  files_.client_ca = "/no/such/ca";
  EXPECT_THAT(Error(), StartsWith("--tls-client-ca=/no/such/ca: cannot be read"));
}

TEST_F(CertificateTest, NamesAFileThatHoldsSomethingElse) {
  Write("cert", "nonsense");
  EXPECT_EQ(Error(), "--tls-cert=" + files_.cert + ": holds no certificate in PEM");
  Write("cert", "");
  EXPECT_THAT(Error(), EndsWith("holds no certificate in PEM"));
  Write("cert", std::string((1 << 20) + 1, 'x'));
  EXPECT_THAT(Error(), EndsWith("is larger than 1048576 bytes"));
  Write("cert", pair_.cert);
  Write("key", pair_.cert);
  EXPECT_THAT(Error(), StartsWith("--tls-key=" + files_.key + ": holds no private key in PEM"));
  Write("key", pair_.key);
  Write("ca", pair_.key);
  EXPECT_EQ(Error(), "--tls-client-ca=" + files_.client_ca + ": holds no certificate in PEM");
}

TEST_F(CertificateTest, NamesAKeyThatIsAnothersKey) {
  Write("key", authority_.Issue("other").key);
  EXPECT_EQ(Error(),
            "--tls-key=" + files_.key + ": not the key of the certificate in " + files_.cert);
}

TEST_F(CertificateTest, RefusesWhatHasExpired) {
  const KeyPair expired = authority_.Issue("expired", -absl::Hours(1));
  Write("cert", expired.cert);
  Write("key", expired.key);
  EXPECT_THAT(Error(), StartsWith("--tls-cert=" + files_.cert + ": expired at 2"));
  EXPECT_EQ(Error(absl::Now() - absl::Hours(2)), "OK");
}

TEST_F(CertificateTest, AChainExpiresWithItsFirst) {
  const KeyPair sooner = authority_.Issue("sooner", absl::Minutes(10));
  Write("cert", pair_.cert + sooner.cert);
  EXPECT_LT(ReadCertificate(files_, absl::Now())->expires, absl::Now() + absl::Minutes(15));
  EXPECT_THAT(Error(absl::Now() + absl::Minutes(20)), HasSubstr("expired at"));
}

TEST_F(CertificateTest, RefusesAKeyThatIsTooWeakForTls) {
  const KeyPair weak = authority_.IssueWeak("weak");
  Write("cert", weak.cert);
  Write("key", weak.key);
  EXPECT_THAT(Error(), HasSubstr("not usable for TLS: ee key too small"));
}

}  // namespace
}  // namespace sluice
