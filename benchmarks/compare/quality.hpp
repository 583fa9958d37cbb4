#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../../examples/generate/model.hpp"
#include "../threads.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "routed_input.hpp"
#include "strategies.hpp"

namespace compare {

/// Bytes of a text, each a token.
[[nodiscard]] std::vector<std::int32_t> read_text(const std::string& path);

/// The text in parts of as many bytes as the model was trained on.
inline constexpr std::size_t window_bytes = 256;

struct QualityPlan {
    std::span<const std::int32_t> text;         ///< whole windows; what is left over is not read
    std::span<const Calibration> calibrations;  ///< one for each layer of the model
    std::uint64_t seed = 0;
};

/// What the model makes of each window when `strategies` read its routers in all layers. The bytes of a window are one
/// batch. Figures depend on `model` and `plan` only, not on the threads.
[[nodiscard]] std::vector<QualityRow> measure_quality(const generate::Model& model, const QualityPlan& plan,
                                                      std::span<const Strategy* const> strategies,
                                                      const bench::Threads& threads, Progress& progress);

/// Work of that, in guessed seconds.
[[nodiscard]] double quality_work(const QualityPlan& plan, std::size_t n_strategies, const bench::Threads& threads);

}  // namespace compare
