#include "tests/server/http_get.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>

namespace sluice {

std::string HttpGet(const std::string& url) {
  const std::string rest = url.substr(std::string("http://").size());
  const size_t colon = rest.find(':');
  const size_t slash = rest.find('/');
  const std::string host = rest.substr(0, colon);
  const int port = std::atoi(rest.substr(colon + 1, slash - colon - 1).c_str());

  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  std::string answer;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = "GET " + rest.substr(slash) + " HTTP/1.1\r\nHost: " + host +
                                "\r\nConnection: close\r\n\r\n";
    (void)!write(fd, request.data(), request.size());
    std::array<char, 4096> buffer{};
    ssize_t count = 0;
    while ((count = read(fd, buffer.data(), buffer.size())) > 0) {
      answer.append(buffer.data(), static_cast<size_t>(count));
    }
  }
  close(fd);
  return answer;
}

}  // namespace sluice
