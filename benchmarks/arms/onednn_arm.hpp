#pragma once

#include <memory>
#include <string>

#include "../formats.hpp"
#include "../threads.hpp"
#include "arm.hpp"
#include "rivals.hpp"

namespace bench {

/// The loop over the experts with inner products of oneDNN in float32, bfloat16 (rows and weights rounded) or 8-bit
/// integers (a scale for each row and each output), whose weights were reordered once to the format it likes best; gate
/// and up are one product. Runs either with oneDNN's own threads inside each product, or with the experts spread over
/// the threads; prepare() finds out which is faster for the batch.
[[nodiscard]] std::unique_ptr<Arm> make_onednn_arm(Rival rival, const Shape& shape, Format format, std::size_t layers,
                                                   const Threads& threads);

/// Whether oneDNN can do so on this machine.
[[nodiscard]] bool onednn_has(Rival rival);

[[nodiscard]] std::string onednn_version();

}  // namespace bench
