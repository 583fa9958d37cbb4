#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "../core/error.hpp"
#include "gguf_cursor.hpp"
#include "gguf_layout.hpp"
#include "gguf_value.hpp"

namespace moe::inline MOE_ABI::detail {

[[nodiscard]] inline GgufType read_gguf_type(GgufCursor& cursor, std::string_view of) {
    const auto number = cursor.number<std::uint32_t>("a type");
    if (number >= gguf_type_facts.size()) {
        raise_error(ErrorCode::unknown_type, cursor.where(), ": the type of ", of, " is ", number, ", which is none");
    }
    return static_cast<GgufType>(number);
}

inline void check_booleans(const GgufCursor& cursor, const GgufValue& value) {
    for (const std::byte byte : value.bytes) {
        if (std::to_integer<unsigned>(byte) > 1) {
            raise_error(ErrorCode::range, cursor.where(), ": a BOOL is ", std::to_integer<unsigned>(byte),
                        ", neither 0 nor 1");
        }
    }
}

inline void read_gguf_array(GgufCursor& cursor, GgufValue& value) {
    value.type = read_gguf_type(cursor, "the elements of its array");
    if (value.type == GgufType::array) {
        raise_error(ErrorCode::unknown_type, cursor.where(), ": it is an array of arrays, which is not read");
    }
    const std::size_t size = facts_of(value.type).size;
    value.count = possible_count(cursor, cursor.number<std::uint64_t>("the length of an array"), size,
                                 gguf_type_name(value.type));
    const std::size_t begin = cursor.position();
    if (value.type == GgufType::string) {
        for (std::size_t i = 0; i < value.count; ++i) {
            (void)cursor.string("a string of its array");
        }
    } else {
        (void)cursor.take(value.count * size, "its array");
    }
    value.bytes = cursor.since(begin);
}

/// One entry of the metadata.
[[nodiscard]] inline GgufValue read_gguf_value(GgufCursor& cursor) {
    GgufValue value;
    value.key = cursor.name("metadata");
    value.type = read_gguf_type(cursor, "its value");
    value.is_array = value.type == GgufType::array;
    if (value.is_array) {
        read_gguf_array(cursor, value);
    } else if (value.type == GgufType::string) {
        value.bytes = std::as_bytes(std::span<const char>(cursor.string("its string")));
    } else {
        value.bytes = cursor.take(facts_of(value.type).size, "its value");
    }
    if (value.type == GgufType::boolean) {
        check_booleans(cursor, value);
    }
    return value;
}

/// `alignment`, if it can be one. Throws Error(range).
[[nodiscard]] inline std::size_t possible_alignment(std::string_view context, std::size_t alignment) {
    if (!std::has_single_bit(alignment) || alignment > gguf_max_alignment) {
        raise_error(ErrorCode::range, context, ": ", gguf_alignment_key, " is ", alignment,
                    ", not a power of two up to ", gguf_max_alignment);
    }
    return alignment;
}

/// The alignment that `value` of general.alignment says, or the default one where there is none.
[[nodiscard]] inline std::size_t gguf_alignment(std::string_view context, const GgufValue* value) {
    if (value == nullptr) {
        return gguf_default_alignment;
    }
    if (value->is_array || value->type != GgufType::u32) {
        raise_error(ErrorCode::header, context, ": ", gguf_alignment_key, " is ", value->is_array ? "an array of " : "",
                    gguf_type_name(value->type), ", not UINT32");
    }
    return possible_alignment(context, value->as<std::uint32_t>());
}

}  // namespace moe::inline MOE_ABI::detail
