#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/borrowed.hpp"
#include "../core/error.hpp"
#include "file_bytes.hpp"
#include "safetensors_parser.hpp"
#include "tensor_view.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

/// A safetensors file (https://github.com/huggingface/safetensors, "Format"), opened and fully checked: whatever the
/// bytes are, opening either succeeds or throws one Error that names the file, the tensor and the offending value.
///
/// | ErrorCode    | the file                                                                                       |
/// |--------------|------------------------------------------------------------------------------------------------|
/// | file         | cannot be opened, read or mapped, or is no regular file                                        |
/// | truncated    | ends before its header, or before the data of a tensor                                         |
/// | header       | announces a header of 0 or more than 100 MB; does not begin with '{'; has a string that is not  |
/// |              | UTF-8, a missing or unknown field, a value of the wrong JSON type, an empty tensor name, or    |
/// |              | (lenient) an unknown field whose values nest deeper than 32 levels                             |
/// | syntax       | has a header that is not JSON, or has a zero byte in it                                        |
/// | duplicate    | has a tensor, a field or a metadata key twice                                                  |
/// | unknown_type | has a dtype that DType does not list                                                           |
/// | range        | has a negative number, more than 64 dimensions, more than 65,536 metadata entries              |
/// | overflow     | has a number, or a product of extents, beyond std::size_t; in an unknown field: beyond double  |
/// | layout       | has a tensor whose bytes do not match its shape; tensors that overlap or leave holes; bytes    |
/// |              | after the last tensor (unless lenient)                                                         |
///
/// Opening costs O(h + n log n) time for a header of h bytes with n tensors, and memory proportional to h; in
/// ReadMode::map the data are not touched. All const members may be called from several threads.
class SafetensorsFile {
public:
    /// Opens the file `path`; see ReadMode for what each mode promises.
    [[nodiscard]] static SafetensorsFile open(const std::string& path, ReadMode mode = ReadMode::map,
                                              Strictness strictness = Strictness::strict) {
        FileBytes file = FileBytes::open(path, mode);
        SafetensorsFile result("safetensors file " + detail::path_in_quotes(path), file.bytes(), strictness);
        result.file_ = std::move(file);
        return result;
    }

    /// Reads a file already in memory. `bytes` must outlive the result; nothing is copied.
    [[nodiscard]] static SafetensorsFile parse(Borrowed<const std::byte> bytes,
                                               Strictness strictness = Strictness::strict) {
        return SafetensorsFile("safetensors bytes", bytes, strictness);
    }

    SafetensorsFile(SafetensorsFile&&) = default;
    SafetensorsFile& operator=(SafetensorsFile&&) = default;
    SafetensorsFile(const SafetensorsFile&) = delete;
    SafetensorsFile& operator=(const SafetensorsFile&) = delete;
    ~SafetensorsFile() = default;

    /// All tensors, in the order of the header. The views, and copies of them, point into the file's memory: they are
    /// valid while this object, or one it was moved into, lives.
    [[nodiscard]] std::span<const TensorView> tensors() const& noexcept { return contents_.tensors; }
    std::span<const TensorView> tensors() const&& = delete;  // temporary: give the file a name

    /// The tensor of that name, or a null pointer. O(log n).
    [[nodiscard]] const TensorView* find(std::string_view name) const& noexcept {
        const auto found = std::lower_bound(
            contents_.by_name.begin(), contents_.by_name.end(), name,
            [this](std::size_t index, std::string_view wanted) { return contents_.tensors[index].name < wanted; });
        if (found == contents_.by_name.end() || contents_.tensors[*found].name != name) {
            return nullptr;
        }
        return &contents_.tensors[*found];
    }
    const TensorView* find(std::string_view) const&& = delete;  // temporary: give the file a name

    /// The tensor of that name. Throws Error(not_found) with the name and the file. O(log n).
    [[nodiscard]] const TensorView& at(std::string_view name) const& {
        const TensorView* const tensor = find(name);
        if (tensor == nullptr) {
            raise_error(ErrorCode::not_found, context_, ": none of its ", contents_.tensors.size(),
                        " tensors is named ", detail::in_quotes(name));
        }
        return *tensor;
    }
    const TensorView& at(std::string_view) const&& = delete;  // temporary: give the file a name

    /// The free text of the file's "__metadata__", empty if it has none.
    [[nodiscard]] const SafetensorsMetadata& metadata() const& noexcept { return contents_.metadata; }
    [[nodiscard]] SafetensorsMetadata metadata() && { return std::move(contents_.metadata); }

private:
    SafetensorsFile(std::string context, std::span<const std::byte> bytes, Strictness strictness)
        : context_(std::move(context)), contents_(detail::SafetensorsParser(bytes, context_, strictness).parse()) {}

    std::string context_;  // what messages call the file
    FileBytes file_;       // empty when the bytes are the caller's
    detail::SafetensorsContents contents_;
};

}  // namespace moe::inline MOE_ABI
