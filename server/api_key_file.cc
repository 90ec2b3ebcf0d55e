#include "server/api_key_file.h"

#include <utility>

#include "engine/json.h"
#include "engine/status_macros.h"

namespace sluice {

ApiKeyFile::ApiKeyFile(std::string path, Listener listener)
    : path_(std::move(path)), listener_(std::move(listener)) {}

absl::StatusOr<std::unique_ptr<ApiKeyFile>> ApiKeyFile::Open(const std::string& path,
                                                             absl::Duration interval,
                                                             Listener listener) {
  std::unique_ptr<ApiKeyFile> file(new ApiKeyFile(path, std::move(listener)));
  // The watch comes first, so that no change falls between it and the first reading.
  file->watch_ =
      std::make_unique<FileWatch>(std::vector<std::string>{path}, interval,
                                  [self = file.get()] { self->listener_(self->Read()); });
  SLUICE_RETURN_IF_ERROR(file->Read().status());
  return file;
}

absl::StatusOr<size_t> ApiKeyFile::Read() {
  const std::lock_guard<std::mutex> reading(reading_);
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path_, ApiKeys::kMaxFileBytes));
  SLUICE_ASSIGN_OR_RETURN(ApiKeys keys, ApiKeys::Parse(text, path_));
  const size_t count = keys.size();
  auto next = std::make_shared<const ApiKeys>(std::move(keys));
  const std::lock_guard<std::mutex> lock(mutex_);
  current_ = std::move(next);
  return count;
}

std::shared_ptr<const ApiKeys> ApiKeyFile::Current() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return current_;
}

}  // namespace sluice
