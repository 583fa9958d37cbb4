// All definitions in one program: no two of them may share a name.

#include <moe/reference/balanced_assignment.hpp>
#include <moe/reference/baselines.hpp>
#include <moe/reference/capacity.hpp>
#include <moe/reference/chosen_weights.hpp>
#include <moe/reference/cosine.hpp>
#include <moe/reference/expert_choice.hpp>
#include <moe/reference/forced.hpp>
#include <moe/reference/gshard.hpp>
#include <moe/reference/hierarchical.hpp>
#include <moe/reference/layer.hpp>
#include <moe/reference/masked.hpp>
#include <moe/reference/neuron_layer.hpp>
#include <moe/reference/noisy_top_k.hpp>
#include <moe/reference/product_keys.hpp>
#include <moe/reference/routing.hpp>
#include <moe/reference/sinkhorn.hpp>
#include <moe/reference/soft_moe.hpp>
#include <moe/reference/threshold.hpp>
#include <moe/reference/top_k_per_group.hpp>
#include <moe/reference/top_n_threshold.hpp>
#include <moe/reference/top_p.hpp>
#include <moe/reference/without_null.hpp>

#include <cmath>

#include "support/catch.hpp"

namespace reference = moe::reference;
using reference::Vector;

TEST_CASE("the two ways to make a vector one of unit length are told apart by name", "[reference]") {
    CHECK(reference::unit({3, 4}) == Vector{3.0 / 5, 4.0 / 5});
    CHECK(reference::unit({0, 0}) == Vector{0, 0});
    const double length = std::sqrt(1e-6 + 9 + 16);
    CHECK(reference::to_unit_length({3, 4}) == Vector{3 / length, 4 / length});
    CHECK(reference::to_unit_length({0, 0}) == Vector{0, 0});
}
