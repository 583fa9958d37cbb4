#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "../formats.hpp"
#include "../threads.hpp"
#include "arm.hpp"

namespace bench {

/// What the library is compared with.
enum class Rival : unsigned char {
    eigen,        ///< the naive loop over the experts, with Eigen
    onednn,       ///< the same loop with inner products of oneDNN on weights packed once
    dense,        ///< the library's dense network of equal active cost: what routing costs
    onednn_bf16,  ///< oneDNN in bfloat16, beside formats of 16 bits
    onednn_int8,  ///< oneDNN in 8-bit integers, beside formats of integers
};
inline constexpr Rival all_rivals[] = {Rival::eigen, Rival::onednn, Rival::dense, Rival::onednn_bf16,
                                       Rival::onednn_int8};

[[nodiscard]] constexpr std::string_view rival_name(Rival rival) noexcept {
    constexpr std::string_view names[] = {"eigen", "onednn", "dense", "onednn_bf16", "onednn_int8"};
    return names[static_cast<unsigned>(rival)];
}

/// Those whose libraries were there when this program was built.
[[nodiscard]] std::vector<Rival> available_rivals();

/// Whether it is compared with rows of this format: what rounds is no rival of what does not.
[[nodiscard]] constexpr bool is_rival_of(Rival rival, Format format) noexcept {
    return rival == Rival::onednn_bf16   ? format == Format::bf16 || format == Format::f16
           : rival == Rival::onednn_int8 ? quantized(format)
                                         : true;
}

/// Largest normalised mean squared difference from the library that is no mistake of a rival that rounds more: four
/// times what it is on normal inputs.
[[nodiscard]] constexpr double rival_rounding(Rival rival) noexcept {
    return rival == Rival::onednn_bf16 ? 1e-4 : rival == Rival::onednn_int8 ? 4e-3 : 0;
}

/// Bytes of the weights that one layer of a rival needs.
[[nodiscard]] double rival_layer_bytes(Rival rival, const Shape& shape, Format format);

/// With the values of the library's weights, so rounded to `format`; only the dense network has a `compute`, the others
/// multiply in what their names say, float32 where they say nothing. `rival` must be available.
[[nodiscard]] std::unique_ptr<Arm> make_rival(Rival rival, const Shape& shape, Format format, Compute compute,
                                              std::size_t layers, const Threads& threads);

}  // namespace bench
