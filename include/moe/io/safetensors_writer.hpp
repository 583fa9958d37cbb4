#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../core/workspace.hpp"
#include "dtype.hpp"
#include "json.hpp"
#include "replaced_file.hpp"
#include "safetensors_header.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

/// A tensor to be stored: `bytes` are its elements, little-endian, row-major, without gaps, in the caller's memory.
struct TensorToWrite {
    std::string name;  ///< unique, not empty, not "__metadata__", UTF-8
    DType dtype = DType::u8;
    std::vector<std::size_t> shape;    ///< empty for a scalar; any extent may be 0
    std::span<const std::byte> bytes;  ///< product of shape * dtype_size(dtype) of them
};

/// A tensor to be stored, of the stored type that matches T.
template <TensorElement T>
[[nodiscard]] TensorToWrite tensor_to_write(std::string name, std::vector<std::size_t> shape,
                                            std::span<const T> values) {
    return {std::move(name), dtype_of<T>, std::move(shape), std::as_bytes(values)};
}

namespace detail {

/// The header of a file (length, JSON and padding) and the order of the data behind it.
struct SafetensorsPlan {
    std::string head;
    std::vector<std::size_t> order;  // indices of the tensors, as their data follow each other
};

inline void check_tensor_to_write(const TensorToWrite& tensor) {
    const std::string where = "write_safetensors: tensor " + in_quotes(tensor.name);
    ensure(!tensor.name.empty() && tensor.name != metadata_key, ErrorCode::header, std::string_view(where),
           ": a name can be neither empty nor ", metadata_key);
    ensure(tensor.shape.size() <= max_dimensions, ErrorCode::range, std::string_view(where), ": ", tensor.shape.size(),
           " dimensions are more than ", max_dimensions);
    std::size_t product = dtype_size(tensor.dtype);
    bool empty = false;
    for (const std::size_t extent : tensor.shape) {
        empty = empty || extent == 0;
        product = checked_multiply(product, std::max<std::size_t>(extent, 1));
    }
    const std::size_t needed = empty ? 0 : product;
    ensure(needed == tensor.bytes.size(), ErrorCode::shape, std::string_view(where), ": its shape and dtype need ",
           needed, " bytes, but ", tensor.bytes.size(), " are given");
}

/// `owner` is what the message calls the string's place, `name` what it is called there.
inline void append_string(std::string& json, std::string_view text, std::string_view owner, std::string_view name) {
    const std::optional<std::string> quoted = json_string(text);
    if (!quoted) {
        raise_error(ErrorCode::header, "write_safetensors: the ", owner, " ", in_quotes(name), " is not UTF-8");
    }
    json += *quoted;
}

inline void append_metadata(std::string& json, const SafetensorsMetadata& metadata) {
    ensure(metadata.size() <= max_metadata_entries, ErrorCode::range, "write_safetensors: ", metadata.size(),
           " metadata entries are more than ", max_metadata_entries);
    constexpr std::string_view owner = "metadata entry";
    json.append("\"").append(metadata_key).append("\":{");
    for (const auto& [key, value] : metadata) {
        json += json.back() == '{' ? "" : ",";
        append_string(json, key, owner, key);
        json += ':';
        append_string(json, value, owner, key);
    }
    json += '}';
}

inline void append_description(std::string& json, const TensorToWrite& tensor, std::size_t begin) {
    append_string(json, tensor.name, "tensor name", tensor.name);
    json += ":{\"dtype\":\"";
    json += dtype_name(tensor.dtype);
    json += "\",\"shape\":[";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
        json += (i == 0 ? "" : ",") + std::to_string(tensor.shape[i]);
    }
    json += "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(begin + tensor.bytes.size()) + "]}";
}

inline void check_names_to_write(std::span<const TensorToWrite> tensors) {
    std::set<std::string_view> names;
    for (const TensorToWrite& tensor : tensors) {
        if (!names.insert(tensor.name).second) {
            raise_error(ErrorCode::duplicate, "write_safetensors: two tensors are named ", in_quotes(tensor.name));
        }
    }
}

/// The tensors by falling element size, those of one size as given. Behind a header padded to a cache line, every
/// tensor of a mapped file is then aligned to its element, which the format does not ask for but vector loads like.
[[nodiscard]] inline std::vector<std::size_t> order_of_data(std::span<const TensorToWrite> tensors) {
    std::vector<std::size_t> order(tensors.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        const std::size_t size_a = dtype_size(tensors[a].dtype);
        const std::size_t size_b = dtype_size(tensors[b].dtype);
        return size_a != size_b ? size_a > size_b : a < b;
    });
    return order;
}

/// `json` padded with spaces, behind its length.
[[nodiscard]] inline std::string head_of_file(std::string json) {
    json.append(round_up(length_bytes + json.size(), buffer_alignment) - length_bytes - json.size(), ' ');
    ensure(json.size() <= max_header_bytes, ErrorCode::header, "write_safetensors: a header of ", json.size(),
           " bytes is larger than ", max_header_bytes);
    std::string head;
    for (std::size_t i = 0; i < length_bytes; ++i) {
        head += static_cast<char>(static_cast<unsigned char>((std::uint64_t{json.size()} >> (8U * i)) & 0xFFU));
    }
    return head + json;
}

[[nodiscard]] inline SafetensorsPlan plan_safetensors(std::span<const TensorToWrite> tensors,
                                                      const SafetensorsMetadata& metadata) {
    for (const TensorToWrite& tensor : tensors) {
        check_tensor_to_write(tensor);
    }
    check_names_to_write(tensors);

    SafetensorsPlan plan;
    plan.order = order_of_data(tensors);
    std::vector<std::size_t> begins(tensors.size());
    std::size_t end = 0;
    for (const std::size_t i : plan.order) {
        begins[i] = end;
        end = checked_add(end, tensors[i].bytes.size());
    }

    std::string json = "{";
    if (!metadata.empty()) {
        append_metadata(json, metadata);
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        json += json.size() == 1 ? "" : ",";
        append_description(json, tensors[i], begins[i]);
    }
    plan.head = head_of_file(std::move(json) + "}");
    return plan;
}

}  // namespace detail

/// The bytes of a safetensors file with these tensors, described in the given order. Throws Error: header (a name or
/// metadata that cannot be stored), duplicate (two tensors of one name), shape (bytes that do not match the shape),
/// overflow, range, unknown_type.
[[nodiscard]] inline std::vector<std::byte> safetensors_bytes(std::span<const TensorToWrite> tensors,
                                                              const SafetensorsMetadata& metadata = {}) {
    const detail::SafetensorsPlan plan = detail::plan_safetensors(tensors, metadata);
    const auto head = std::as_bytes(std::span<const char>(plan.head));
    std::vector<std::byte> result(head.begin(), head.end());
    for (const std::size_t i : plan.order) {
        result.insert(result.end(), tensors[i].bytes.begin(), tensors[i].bytes.end());
    }
    return result;
}

/// Writes a safetensors file, all or nothing: it is written beside `path` under a temporary name, flushed, and renamed
/// over `path` at the end, so a reader sees the old file or the new one and a failure leaves no trace. A symbolic link
/// at `path` is replaced, not followed. Throws as safetensors_bytes, and Error(file).
inline void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                              const SafetensorsMetadata& metadata = {}) {
    const detail::SafetensorsPlan plan = detail::plan_safetensors(tensors, metadata);
    detail::ReplacedFile file(path);
    file.write(std::as_bytes(std::span<const char>(plan.head)));
    for (const std::size_t i : plan.order) {
        file.write(tensors[i].bytes);
    }
    file.commit();
}

}  // namespace moe::inline MOE_ABI
