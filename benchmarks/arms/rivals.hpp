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
    eigen,   ///< the naive loop over the experts, with Eigen
    onednn,  ///< the same loop with inner products of oneDNN on weights packed once
    dense,   ///< the library's dense network of equal active cost: what routing costs
};
inline constexpr Rival all_rivals[] = {Rival::eigen, Rival::onednn, Rival::dense};

[[nodiscard]] constexpr std::string_view rival_name(Rival rival) noexcept {
    constexpr std::string_view names[] = {"eigen", "onednn", "dense"};
    return names[static_cast<unsigned>(rival)];
}

/// Those whose libraries were there when this program was built.
[[nodiscard]] std::vector<Rival> available_rivals();

/// Bytes of the weights that one layer of a rival needs.
[[nodiscard]] double rival_layer_bytes(Rival rival, const Shape& shape, Format format);

/// With the values of the library's weights, so rounded to `format`; only the dense network has a `compute`, the others
/// multiply in float32. `rival` must be available.
[[nodiscard]] std::unique_ptr<Arm> make_rival(Rival rival, const Shape& shape, Format format, Compute compute,
                                              std::size_t layers, const Threads& threads);

}  // namespace bench
