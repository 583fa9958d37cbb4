#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../formats/block_type.hpp"
#include "gguf_layout.hpp"
#include "gguf_metadata.hpp"
#include "gguf_tensor.hpp"
#include "gguf_value.hpp"
#include "replaced_file.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

/// What metadata can be: the type says how it is stored, `std::uint32_t{4}` as UINT32.
using GgufMetadataValue =
    std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t, float, bool,
                 std::string, std::uint64_t, std::int64_t, double, std::vector<std::uint8_t>, std::vector<std::int8_t>,
                 std::vector<std::uint16_t>, std::vector<std::int16_t>, std::vector<std::uint32_t>,
                 std::vector<std::int32_t>, std::vector<float>, std::vector<bool>, std::vector<std::string>,
                 std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;

/// An entry of the metadata to be stored.
struct GgufValueToWrite {
    std::string key;  ///< unique, not empty, without zero bytes
    GgufMetadataValue value;
};

/// A tensor to be stored: `bytes` are its blocks, row by row, without gaps, in the caller's memory.
struct GgufTensorToWrite {
    std::string name;                  ///< unique, not empty, without zero bytes, below 64 bytes
    const BlockType* type = nullptr;   ///< one of `block_types`: find_block_type("Q4_K")
    std::vector<std::size_t> shape;    ///< the last dimension runs fastest, as GgufTensor has it; at most 4 of them
    std::span<const std::byte> bytes;  ///< as many as shape and type need
};

/// A tensor to be stored, of the type that matches T.
template <GgufTensorElement T>
[[nodiscard]] GgufTensorToWrite gguf_tensor_to_write(std::string name, std::vector<std::size_t> shape,
                                                     std::span<const T> values) {
    return {std::move(name), find_block_type(detail::ggml_type_for<T>()), std::move(shape), std::as_bytes(values)};
}

namespace detail {

/// ggml reads no longer names, but for the zero byte it adds.
inline constexpr std::size_t gguf_max_name = 63;

template <class T>
[[nodiscard]] consteval GgufType gguf_type_for() {
    if constexpr (std::same_as<T, bool>) {
        return GgufType::boolean;
    } else if constexpr (std::same_as<T, std::string>) {
        return GgufType::string;
    } else if constexpr (std::floating_point<T>) {
        return sizeof(T) == 4 ? GgufType::f32 : GgufType::f64;
    } else if constexpr (sizeof(T) == 8) {
        return std::is_signed_v<T> ? GgufType::i64 : GgufType::u64;
    } else {
        constexpr std::uint32_t unsigned_type = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 2 : 4;
        return static_cast<GgufType>(unsigned_type + (std::is_signed_v<T> ? 1U : 0U));
    }
}

template <class Number>
void append_number(std::string& head, Number value) {
    std::array<char, sizeof(Number)> bytes{};
    std::memcpy(bytes.data(), &value, sizeof value);
    head.append(bytes.data(), bytes.size());
}

inline void append_text(std::string& head, std::string_view text) {
    append_number(head, std::uint64_t{text.size()});
    head.append(text);
}

template <class T>
void append_element(std::string& head, const T& value) {
    if constexpr (std::same_as<T, std::string>) {
        append_text(head, value);
    } else if constexpr (std::same_as<T, bool>) {
        append_number(head, static_cast<std::uint8_t>(value ? 1 : 0));
    } else {
        append_number(head, value);
    }
}

template <class T>
void append_value(std::string& head, const T& value) {
    append_number(head, static_cast<std::uint32_t>(gguf_type_for<T>()));
    append_element(head, value);
}

template <class T>
void append_value(std::string& head, const std::vector<T>& values) {
    append_number(head, static_cast<std::uint32_t>(GgufType::array));
    append_number(head, static_cast<std::uint32_t>(gguf_type_for<T>()));
    append_number(head, std::uint64_t{values.size()});
    for (std::size_t i = 0; i < values.size(); ++i) {
        append_element<T>(head, values[i]);  // of std::vector<bool> it is a proxy
    }
}

/// Names that a reader would refuse, alone or together.
class GgufNames {
public:
    explicit GgufNames(const char* kind) noexcept : kind_(kind) {}

    void add(std::string_view name) {
        if (name.empty() || name.find('\0') != std::string_view::npos) {
            raise_error(ErrorCode::header, "write_gguf: the name of ", kind_, ", ", in_quotes(name),
                        ", is empty or has a zero byte in it");
        }
        if (!seen_.insert(name).second) {
            raise_error(ErrorCode::duplicate, "write_gguf: there already is ", kind_, " named ", in_quotes(name));
        }
    }

private:
    const char* kind_;
    std::set<std::string_view> seen_;
};

inline void check_gguf_tensor_to_write(const GgufTensorToWrite& tensor) {
    const auto where = [&] { return std::string("write_gguf: tensor ").append(in_quotes(tensor.name)); };
    if (tensor.name.size() > gguf_max_name) {
        raise_error(ErrorCode::range, where(), ": a name of ", tensor.name.size(), " bytes is longer than ",
                    gguf_max_name);
    }
    if (tensor.shape.size() > gguf_max_dimensions) {
        raise_error(ErrorCode::range, where(), ": ", tensor.shape.size(), " dimensions are more than ",
                    gguf_max_dimensions);
    }
    if (tensor.type == nullptr || find_block_type(tensor.type->number) != tensor.type) {
        raise_error(ErrorCode::unknown_type, where(), ": its type is none of block_types");
    }
    for (const std::size_t extent : tensor.shape) {
        if (!std::in_range<std::ptrdiff_t>(extent)) {
            raise_error(ErrorCode::overflow, where(), ": a dimension is ", extent);
        }
    }
    const std::size_t needed = gguf_tensor_bytes(*tensor.type, tensor.shape, where);
    if (needed != tensor.bytes.size()) {
        raise_error(ErrorCode::shape, where(), ": its shape and type need ", needed, " bytes, but ",
                    tensor.bytes.size(), " are given");
    }
}

[[nodiscard]] inline std::size_t alignment_to_write(std::span<const GgufValueToWrite> metadata) {
    for (const GgufValueToWrite& entry : metadata) {
        if (entry.key == gguf_alignment_key) {
            const auto* const alignment = std::get_if<std::uint32_t>(&entry.value);
            ensure(alignment != nullptr, ErrorCode::header, "write_gguf: ", gguf_alignment_key,
                   " is not a std::uint32_t");
            return possible_alignment("write_gguf", *alignment);
        }
    }
    return gguf_default_alignment;
}

/// What a file begins with: all up to the data, padded.
struct GgufPlan {
    std::string head;
    std::size_t alignment;
};

[[nodiscard]] inline GgufPlan plan_gguf(std::span<const GgufTensorToWrite> tensors,
                                        std::span<const GgufValueToWrite> metadata) {
    GgufNames keys("a metadata entry");
    for (const GgufValueToWrite& entry : metadata) {
        keys.add(entry.key);
    }
    GgufNames names("a tensor");
    for (const GgufTensorToWrite& tensor : tensors) {
        names.add(tensor.name);
        check_gguf_tensor_to_write(tensor);
    }
    GgufPlan plan{std::string(gguf_magic), alignment_to_write(metadata)};
    append_number(plan.head, gguf_version);
    append_number(plan.head, std::uint64_t{tensors.size()});
    append_number(plan.head, std::uint64_t{metadata.size()});
    for (const GgufValueToWrite& entry : metadata) {
        append_text(plan.head, entry.key);
        std::visit([&](const auto& value) { append_value(plan.head, value); }, entry.value);
    }
    std::size_t offset = 0;
    for (const GgufTensorToWrite& tensor : tensors) {
        append_text(plan.head, tensor.name);
        append_number(plan.head, static_cast<std::uint32_t>(tensor.shape.size()));
        for (std::size_t i = tensor.shape.size(); i-- > 0;) {
            append_number(plan.head, std::uint64_t{tensor.shape[i]});
        }
        append_number(plan.head, tensor.type->number);
        append_number(plan.head, std::uint64_t{offset});
        // rounded up to the alignment, a power of two
        offset = checked_add(checked_add(offset, tensor.bytes.size()), plan.alignment - 1) & ~(plan.alignment - 1);
    }
    plan.head.append(round_up(plan.head.size(), plan.alignment) - plan.head.size(), '\0');
    return plan;
}

/// Hands the whole file to `write`, piece by piece.
template <class Write>
void write_gguf_pieces(const GgufPlan& plan, std::span<const GgufTensorToWrite> tensors, Write write) {
    constexpr std::array<std::byte, 4096> zeros{};
    write(std::as_bytes(std::span<const char>(plan.head)));
    for (const GgufTensorToWrite& tensor : tensors) {
        write(tensor.bytes);
        std::size_t padding = round_up(tensor.bytes.size(), plan.alignment) - tensor.bytes.size();
        while (padding > 0) {
            const std::size_t count = (std::min)(padding, zeros.size());
            write(std::span<const std::byte>(zeros).first(count));
            padding -= count;
        }
    }
}

}  // namespace detail

/// The bytes of a GGUF file, version 3, with these tensors and this metadata, in the given order; `general.alignment`
/// among the metadata, a std::uint32_t, says where data may begin. Throws Error: header (a name or key that cannot be
/// stored, an alignment of another type), duplicate, range (a name too long for ggml, more than 4 dimensions, an
/// alignment that cannot be), layout (rows of no whole blocks), shape (bytes that do not match shape and type),
/// overflow, unknown_type (a tensor whose type is none of `block_types`).
[[nodiscard]] inline std::vector<std::byte> gguf_bytes(std::span<const GgufTensorToWrite> tensors,
                                                       std::span<const GgufValueToWrite> metadata = {}) {
    std::vector<std::byte> result;
    detail::write_gguf_pieces(detail::plan_gguf(tensors, metadata), tensors, [&](std::span<const std::byte> piece) {
        result.insert(result.end(), piece.begin(), piece.end());
    });
    return result;
}

/// Writes a GGUF file, all or nothing: it is written beside `path` under a temporary name, flushed, and renamed over
/// `path` at the end, so a reader sees the old file or the new one and a failure leaves no trace. A symbolic link at
/// `path` is replaced, not followed. Throws as gguf_bytes, and Error(file).
inline void write_gguf(const std::string& path, std::span<const GgufTensorToWrite> tensors,
                       std::span<const GgufValueToWrite> metadata = {}) {
    const detail::GgufPlan plan = detail::plan_gguf(tensors, metadata);
    detail::ReplacedFile file(path);
    detail::write_gguf_pieces(plan, tensors, [&](std::span<const std::byte> piece) { file.write(piece); });
    file.commit();
}

}  // namespace moe::inline MOE_ABI
