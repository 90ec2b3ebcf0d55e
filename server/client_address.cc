#include "server/client_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace sluice {
namespace {

constexpr size_t kNetworkBytes = 8;

// "[2001:db8::1%eth0]" as "2001:db8::/64".
std::string Network(std::string_view bracketed) {
  std::string host(bracketed.substr(1, bracketed.find_first_of("]%") - 1));
  in6_addr address = {};
  if (inet_pton(AF_INET6, host.c_str(), &address) != 1) return host;
  std::array<char, INET6_ADDRSTRLEN> text = {};
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    inet_ntop(AF_INET, &address.s6_addr[12], text.data(), text.size());
    return text.data();
  }
  std::fill(address.s6_addr + kNetworkBytes, std::end(address.s6_addr), uint8_t{0});
  inet_ntop(AF_INET6, &address, text.data(), text.size());
  return absl::StrCat(text.data(), "/64");
}

}  // namespace

std::string ClientOfPeer(std::string_view peer) {
  if (absl::StartsWith({peer.data(), peer.size()}, "unix")) return "unix";
  const size_t scheme = peer.find(':');
  const size_t port = peer.rfind(':');
  if (scheme == std::string_view::npos || port == scheme) return std::string(peer);
  const std::string host =
      absl::StrReplaceAll(absl::string_view(peer.data() + scheme + 1, port - scheme - 1),
                          {{"%5B", "["}, {"%5D", "]"}, {"%25", "%"}});
  return absl::StartsWith(host, "[") ? Network(host) : host;
}

}  // namespace sluice
