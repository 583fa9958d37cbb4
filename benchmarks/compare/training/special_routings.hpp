#pragma once

#include <cstdint>
#include <memory>

#include "routing.hpp"

namespace compare {

/// Strategies whose blocks are more than a layer of the model under another gate.

/// Shazeer's noisy top-k, whose noise is learnt by a second half of the router, with the losses of importance and load.
[[nodiscard]] std::unique_ptr<TrainedRouting> make_noisy_routing(const trainer::Config& config, std::uint64_t seed);

/// Top-k of a softmax over all experts whose others give a token what they give on average (DefaultVectors).
[[nodiscard]] std::unique_ptr<TrainedRouting> make_default_routing(const trainer::Config& config);

/// Soft MoE of the tokens that stand at the same place of the sequences of a batch, which keeps the order of time: a
/// slot mixes tokens of other texts, never later ones (as in Mixture of Tokens, Antoniak et al. 2023, 2310.15961).
[[nodiscard]] std::unique_ptr<TrainedRouting> make_soft_routing(const trainer::Config& config, std::size_t batch);

}  // namespace compare
