#pragma once

#include <span>
#include <string>

#include <moe/train.hpp>

namespace finetune {

/// How the load of the experts has moved: a row an expert, a column a layer, the share of the layer's choices before
/// and after in percent; below that the part of each layer's choices that went elsewhere, and the largest change. Both
/// have the same layers and experts, of which some were chosen.
[[nodiscard]] std::string load_drift(std::span<const moe::RoutingCounts> before,
                                     std::span<const moe::RoutingCounts> after);

}  // namespace finetune
