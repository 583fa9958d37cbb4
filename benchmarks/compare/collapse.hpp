#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "report.hpp"

namespace compare {

/// Trainings of one layer on the same tokens, some of which collapse. Eight clusters of tokens have a map each
/// (ClusterTask), the layer has 8 experts of one map's size and takes 1 a token by the sigmoid of its logit, the router
/// starts with a bias of 2 for expert 0 and is trained with all the rest, 256 fresh tokens a step. The runs:
///
/// - without balancing: all tokens stay with expert 0, which learns what one expert can
/// - z-loss (0.01): keeps logits small, which is no balance
/// - balance loss: add_load_balance, 0.03
/// - sign bias: SignBalancer, 0.03 a step on the logits; no loss
/// - noisy top-2: NoisyTopK, add_importance and add_load, 0.1; with K = 1 its router would learn nothing
/// - expert choice: by sigmoid, 2 experts a token on average; even by nature
/// - balanced but dead: the balance loss once more, with normalised weights: that of a token's only expert is 1, so the
///   task teaches the router nothing, and tokens are spread evenly by anything but their maps
/// - dense: a single expert, which has no choice: equal active size, but for the two runs with 2 experts a token
///
/// Rows of 0 to `steps` done, about 60 a run, of the batch of the next step: its loss (with the noise of training),
/// counts of choices, and the norm of the gradient of that loss alone by router and bias. A function of seed and steps,
/// by one thread; what a row says does not depend on how many steps follow. 600 steps take some two seconds.
[[nodiscard]] std::vector<CollapseRow> collapse(std::uint64_t seed, std::size_t steps);

}  // namespace compare
