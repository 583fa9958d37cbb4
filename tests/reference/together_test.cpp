// All definitions in one program: no two of them may share a name.

#include <moe/reference/adaptors/capacity.hpp>
#include <moe/reference/adaptors/cosine.hpp>
#include <moe/reference/adaptors/forced.hpp>
#include <moe/reference/adaptors/masked.hpp>
#include <moe/reference/adaptors/with_shared.hpp>
#include <moe/reference/adaptors/without_null.hpp>
#include <moe/reference/backward/expert.hpp>
#include <moe/reference/backward/form.hpp>
#include <moe/reference/backward/gate/adaptors.hpp>
#include <moe/reference/backward/gate/cosine.hpp>
#include <moe/reference/backward/gate/gate.hpp>
#include <moe/reference/backward/gate/noisy_top_k.hpp>
#include <moe/reference/backward/gate/normalized.hpp>
#include <moe/reference/backward/gate/pairs.hpp>
#include <moe/reference/backward/gate/product_keys.hpp>
#include <moe/reference/backward/gate/scores.hpp>
#include <moe/reference/backward/gate/sparse_mixer.hpp>
#include <moe/reference/backward/layer/gradients.hpp>
#include <moe/reference/backward/layer/hierarchical.hpp>
#include <moe/reference/backward/layer/layer.hpp>
#include <moe/reference/backward/layer/neuron_layer.hpp>
#include <moe/reference/backward/layer/null_expert.hpp>
#include <moe/reference/backward/layer/soft_moe.hpp>
#include <moe/reference/backward/layer/token.hpp>
#include <moe/reference/backward/linear.hpp>
#include <moe/reference/backward/loss/load_balance.hpp>
#include <moe/reference/backward/loss/logits.hpp>
#include <moe/reference/backward/loss/orthogonality.hpp>
#include <moe/reference/backward/loss/variation.hpp>
#include <moe/reference/chosen_weights.hpp>
#include <moe/reference/layer/hierarchical.hpp>
#include <moe/reference/layer/layer.hpp>
#include <moe/reference/layer/neuron_layer.hpp>
#include <moe/reference/layer/soft_moe.hpp>
#include <moe/reference/routing.hpp>
#include <moe/reference/strategies/balanced_assignment.hpp>
#include <moe/reference/strategies/baselines.hpp>
#include <moe/reference/strategies/expert_choice.hpp>
#include <moe/reference/strategies/gshard.hpp>
#include <moe/reference/strategies/noisy_top_k.hpp>
#include <moe/reference/strategies/product_keys.hpp>
#include <moe/reference/strategies/sinkhorn.hpp>
#include <moe/reference/strategies/sparse_mixer.hpp>
#include <moe/reference/strategies/threshold.hpp>
#include <moe/reference/strategies/top_k_per_group.hpp>
#include <moe/reference/strategies/top_n_threshold.hpp>
#include <moe/reference/strategies/top_p.hpp>

#include <cmath>

#include "support/catch.hpp"

namespace moe_test::together_test {

namespace reference = moe::reference;
using reference::Vector;

TEST_CASE("the two ways to make a vector one of unit length are told apart by name", "[reference]") {
    CHECK(reference::unit({3, 4}) == Vector{3.0 / 5, 4.0 / 5});
    CHECK(reference::unit({0, 0}) == Vector{0, 0});
    const double length = std::sqrt(1e-6 + 9 + 16);
    CHECK(reference::to_unit_length({3, 4}) == Vector{3 / length, 4 / length});
    CHECK(reference::to_unit_length({0, 0}) == Vector{0, 0});
}

}  // namespace moe_test::together_test
