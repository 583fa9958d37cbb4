#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "blocks/bf16.hpp"
#include "blocks/block.hpp"
#include "blocks/f16.hpp"
#include "blocks/f32.hpp"
#include "blocks/iq4_nl.hpp"
#include "blocks/iq4_xs.hpp"
#include "blocks/mxfp4.hpp"
#include "blocks/nvfp4.hpp"
#include "blocks/q2_k.hpp"
#include "blocks/q3_k.hpp"
#include "blocks/q4_0.hpp"
#include "blocks/q4_1.hpp"
#include "blocks/q4_k.hpp"
#include "blocks/q5_0.hpp"
#include "blocks/q5_1.hpp"
#include "blocks/q5_k.hpp"
#include "blocks/q6_k.hpp"
#include "blocks/q8_0.hpp"

namespace moe::inline MOE_ABI {

/// A type of ggml's tensors as a value: for files, which know theirs only when a program runs.
struct BlockType {
    std::uint32_t number = 0;      ///< in GGUF files
    std::string_view name;         ///< as ggml spells it, "Q4_K"
    std::size_t block_values = 1;  ///< a row has a multiple of it
    std::size_t block_bytes = 1;
    /// Makes `n_blocks * block_values` floats of as many blocks. Null for types whose size is all that is known here.
    void (*decode)(const std::byte* blocks, float* values, std::size_t n_blocks) noexcept = nullptr;
};

namespace detail {

template <BlockFormat F>
void decode_each(const std::byte* blocks, float* values, std::size_t n_blocks) noexcept {
    for (std::size_t b = 0; b < n_blocks; ++b) {
        F::decode(std::span<const std::byte, F::block_bytes>(blocks + b * F::block_bytes, F::block_bytes),
                  std::span<float, F::block_values>(values + b * F::block_values, F::block_values));
    }
}

template <BlockFormat F>
inline constexpr BlockType block_type_of{F::ggml_type, F::name, F::block_values, F::block_bytes, decode_each<F>};

}  // namespace detail

/// All types whose size is known. The first are decoded; the others may be in a file, whose other tensors can be used.
inline constexpr std::array block_types{
    detail::block_type_of<blocks::F32>,
    detail::block_type_of<blocks::F16>,
    detail::block_type_of<blocks::BF16>,
    detail::block_type_of<blocks::Q4_0>,
    detail::block_type_of<blocks::Q4_1>,
    detail::block_type_of<blocks::Q5_0>,
    detail::block_type_of<blocks::Q5_1>,
    detail::block_type_of<blocks::Q8_0>,
    detail::block_type_of<blocks::Q2_K>,
    detail::block_type_of<blocks::Q3_K>,
    detail::block_type_of<blocks::Q4_K>,
    detail::block_type_of<blocks::Q5_K>,
    detail::block_type_of<blocks::Q6_K>,
    detail::block_type_of<blocks::IQ4_NL>,
    detail::block_type_of<blocks::IQ4_XS>,
    detail::block_type_of<blocks::MXFP4>,
    detail::block_type_of<blocks::NVFP4>,
    BlockType{9, "Q8_1", 32, 36},
    BlockType{15, "Q8_K", 256, 292},
    BlockType{16, "IQ2_XXS", 256, 66},
    BlockType{17, "IQ2_XS", 256, 74},
    BlockType{18, "IQ3_XXS", 256, 98},
    BlockType{19, "IQ1_S", 256, 50},
    BlockType{21, "IQ3_S", 256, 110},
    BlockType{22, "IQ2_S", 256, 82},
    BlockType{24, "I8", 1, 1},
    BlockType{25, "I16", 1, 2},
    BlockType{26, "I32", 1, 4},
    BlockType{27, "I64", 1, 8},
    BlockType{28, "F64", 1, 8},
    BlockType{29, "IQ1_M", 256, 56},
    BlockType{34, "TQ1_0", 256, 54},
    BlockType{35, "TQ2_0", 256, 66},
    BlockType{41, "Q1_0", 128, 18},
    BlockType{42, "Q2_0", 64, 18},
};

/// Rows of blocks where they lie: a matrix, or some of its outputs.
struct BlockRows {
    const BlockType* type = nullptr;
    const std::byte* first = nullptr;  ///< of the first output
    std::size_t stride = 0;            ///< bytes from one output to the next
};

/// The type of that number, or a null pointer.
[[nodiscard]] constexpr const BlockType* find_block_type(std::uint32_t number) noexcept {
    for (const BlockType& type : block_types) {
        if (type.number == number) {
            return &type;
        }
    }
    return nullptr;
}

/// The type of that name, which is case-sensitive, or a null pointer.
[[nodiscard]] constexpr const BlockType* find_block_type(std::string_view name) noexcept {
    for (const BlockType& type : block_types) {
        if (type.name == name) {
            return &type;
        }
    }
    return nullptr;
}

/// Decodes whole blocks. Throws Error(unknown_type) if this library cannot decode them, Error(shape) unless `blocks`
/// has the bytes of exactly as many blocks as `values` has room for.
inline void decode_blocks(const BlockType& type, std::span<const std::byte> blocks, std::span<float> values) {
    ensure(type.decode != nullptr, ErrorCode::unknown_type, "decode_blocks: ", type.name,
           " is a type this library cannot decode");
    const std::size_t count = values.size() / type.block_values;
    ensure(values.size() % type.block_values == 0 && blocks.size() % type.block_bytes == 0 &&
               blocks.size() / type.block_bytes == count,
           ErrorCode::shape, "decode_blocks: ", blocks.size(), " bytes are not ", values.size(), " values of ",
           type.name, ", which has ", type.block_bytes, " bytes for ", type.block_values);
    type.decode(blocks.data(), values.data(), count);
}

}  // namespace moe::inline MOE_ABI
