#include "server/version.h"

namespace sluice {

std::string_view ServerVersion() { return SLUICE_VERSION; }
std::string_view ServerCommit() { return SLUICE_COMMIT; }

}  // namespace sluice
