// Text to token ids and back, as the tokenizer files of a Hugging Face model say.
//
// Of `tokenizer.json` two families are read: byte-level BPE (GPT-2, NeoX, Llama 3) and BPE over
// characters with byte fallback (Llama 2, Mistral), with the normalizers, pre-tokenizers,
// post-processors and decoders that their files use. Ids and text are those of the `tokenizers`
// package 0.23. Where there is none, SentencePiece's `tokenizer.model` (BPE and unigram) is read,
// with the ids and text of the `sentencepiece` package, or RWKV's world vocabulary; what stands
// around them is then read from `tokenizer_config.json`. Whatever else a file asks for is refused
// with the key's path and value.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace sluice {

class DecodeRun;
struct TokenizerParts;

// Immutable, so that every method may be called from any number of threads at once.
class Tokenizer {
 public:
  // The tokenizer of a model directory: the first of tokenizer.json, tokenizer.model (64 MiB at
  // most), rwkv_vocab_v20230424.txt (16 MiB at most) and, if tokenizer_config.json names one of
  // RWKV's tokenizers, vocab.txt. NotFound naming them when none is there, else as Load.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadDirectory(
      const std::filesystem::path& directory);

  // Reads a tokenizer.json of at most 128 MiB. NotFound, or InvalidArgument naming what is refused.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Load(const std::filesystem::path& file);
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Parse(std::string_view json);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // `add_special_tokens` applies the file's post-processor, which may put tokens before and after.
  // Time is O(n log n) in the bytes of `text`. InvalidArgument with the byte offset when `text` is
  // not valid UTF-8; ResourceExhausted when the file's patterns take too long on it.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special_tokens) const;

  // Valid UTF-8 always: bytes that make no character become U+FFFD as Hugging Face makes them.
  // OutOfRange naming the id when it is not in the vocabulary.
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const;

  // The highest id + 1. Ids below it may be missing.
  int32_t vocab_size() const;

  // The token as the file writes it, empty when there is none with this id. Lives as long as this.
  // Tokens of RWKV's vocabulary are bytes, which need not be UTF-8.
  std::string_view IdToToken(int32_t id) const;

  std::optional<int32_t> TokenToId(std::string_view token) const;

  // Whether `skip_special_tokens` is about this id.
  bool IsSpecial(int32_t id) const;

 private:
  friend class StreamDecoder;

  explicit Tokenizer(std::unique_ptr<const TokenizerParts> parts);

  std::unique_ptr<const TokenizerParts> parts_;
};

// Turns a stream of ids into increments of text, each of them valid UTF-8. All increments and the
// flush together are what Decode gives for all the ids.
//
// What the next id may still change is held back: a character's bytes until it is complete and,
// with the byte fallback of tokenizer.json, a run of byte tokens until it ends, since Hugging Face
// turns the whole run into U+FFFD if any of it is broken. O(length of the token) amortised for an
// id. Not thread-safe; the tokenizer outlives it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer* tokenizer, bool skip_special_tokens = true);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  // An id that is not in the vocabulary adds nothing.
  std::string Push(int32_t id);

  // What was held back; the decoder is then as new.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::unique_ptr<DecodeRun> run_;
};

}  // namespace sluice
