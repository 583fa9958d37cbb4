#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "../core/borrowed.hpp"
#include "../core/error.hpp"
#include "file_bytes.hpp"
#include "gguf_parser.hpp"
#include "gguf_tensor.hpp"
#include "gguf_value.hpp"
#include "strictness.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

/// A GGUF file (ggml, docs/gguf.md), versions 2 and 3, opened and fully checked: whatever the bytes are, opening either
/// succeeds or throws one Error that names the file, the tensor or key and the offending value. What was split into
/// several files is read by GgufShards.
///
/// | ErrorCode    | the file                                                                                       |
/// |--------------|------------------------------------------------------------------------------------------------|
/// | file         | cannot be opened, read or mapped, or is no regular file                                        |
/// | truncated    | ends before what it announces: a count, a string, an array, the data of a tensor, its padding  |
/// |              | (unless lenient)                                                                               |
/// | header       | does not begin with GGUF; has a name or key that is empty or has a zero byte in it, or an      |
/// |              | alignment that is no UINT32                                                                    |
/// | format       | has another version, or is big-endian                                                          |
/// | duplicate    | has a tensor or a key twice                                                                    |
/// | unknown_type | has a tensor of none of `block_types`, metadata of no GgufType, or an array of arrays          |
/// | range        | has more than 4 dimensions, a BOOL that is neither 0 nor 1, an alignment that is no power of   |
/// |              | two or more than 2^30                                                                          |
/// | overflow     | has a dimension beyond std::ptrdiff_t, a product of them or an offset beyond std::size_t       |
/// | layout       | has rows that are no whole blocks, data at no multiple of the alignment, tensors that overlap  |
/// |              | or leave holes, or bytes after the last (unless lenient)                                       |
///
/// Opening costs O(h + n log n) time for a header of h bytes with n tensors and keys, and memory proportional to h; in
/// ReadMode::map the data are not touched. All const members may be called from several threads.
class GgufFile {
public:
    /// Opens the file `path`; see ReadMode for what each mode promises.
    [[nodiscard]] static GgufFile open(const std::string& path, ReadMode mode = ReadMode::map,
                                       Strictness strictness = Strictness::strict) {
        FileBytes file = FileBytes::open(path, mode);
        GgufFile result("GGUF file " + detail::path_in_quotes(path), file.bytes(), strictness);
        result.file_ = std::move(file);
        return result;
    }

    /// Reads a file already in memory. `bytes` must outlive the result; nothing is copied.
    [[nodiscard]] static GgufFile parse(Borrowed<const std::byte> bytes, Strictness strictness = Strictness::strict) {
        return GgufFile("GGUF bytes", bytes, strictness);
    }

    GgufFile(GgufFile&&) = default;
    GgufFile& operator=(GgufFile&&) = default;
    GgufFile(const GgufFile&) = delete;
    GgufFile& operator=(const GgufFile&) = delete;
    ~GgufFile() = default;

    /// All tensors, in the order of the header. The views, and copies of them, point into the file's memory: they are
    /// valid while this object, or one it was moved into, lives.
    [[nodiscard]] std::span<const GgufTensor> tensors() const& noexcept { return contents_.tensors; }
    std::span<const GgufTensor> tensors() const&& = delete;  // temporary: give the file a name

    /// The tensor of that name, or a null pointer. O(log n).
    [[nodiscard]] const GgufTensor* find(std::string_view name) const& noexcept {
        return detail::find_named(contents_.tensors, contents_.by_name, &GgufTensor::name, name);
    }
    const GgufTensor* find(std::string_view) const&& = delete;  // temporary: give the file a name

    /// The tensor of that name. Throws Error(not_found) with the name and the file. O(log n).
    [[nodiscard]] const GgufTensor& at(std::string_view name) const& {
        const GgufTensor* const tensor = find(name);
        if (tensor == nullptr) {
            raise_error(ErrorCode::not_found, context_, ": none of its ", contents_.tensors.size(),
                        " tensors is named ", detail::in_quotes(name));
        }
        return *tensor;
    }
    const GgufTensor& at(std::string_view) const&& = delete;  // temporary: give the file a name

    /// All metadata, in the order of the file; valid as tensors() are.
    [[nodiscard]] std::span<const GgufValue> metadata() const& noexcept { return contents_.metadata; }
    std::span<const GgufValue> metadata() const&& = delete;  // temporary: give the file a name

    /// The metadata of that key, or a null pointer. O(log n).
    [[nodiscard]] const GgufValue* find_metadata(std::string_view key) const& noexcept {
        return detail::find_named(contents_.metadata, contents_.by_key, &GgufValue::key, key);
    }
    const GgufValue* find_metadata(std::string_view) const&& = delete;  // temporary: give the file a name

    /// The metadata of that key: `file.metadata_at("general.architecture").as<std::string_view>()`. Throws
    /// Error(not_found) with the key and the file. O(log n).
    [[nodiscard]] const GgufValue& metadata_at(std::string_view key) const& {
        const GgufValue* const value = find_metadata(key);
        if (value == nullptr) {
            raise_error(ErrorCode::not_found, context_, ": none of its ", contents_.metadata.size(),
                        " metadata entries is named ", detail::in_quotes(key));
        }
        return *value;
    }
    const GgufValue& metadata_at(std::string_view) const&& = delete;  // temporary: give the file a name

    /// 2 or 3.
    [[nodiscard]] std::uint32_t version() const noexcept { return contents_.version; }
    /// Of the data of each tensor, counted from the beginning of the file: general.alignment, or 32.
    [[nodiscard]] std::size_t alignment() const noexcept { return contents_.alignment; }

private:
    GgufFile(std::string context, std::span<const std::byte> bytes, Strictness strictness)
        : context_(std::move(context)), contents_(detail::GgufParser(bytes, context_, strictness).parse()) {}

    std::string context_;  // what messages call the file
    FileBytes file_;       // empty when the bytes are the caller's
    detail::GgufContents contents_;
};

}  // namespace moe::inline MOE_ABI
