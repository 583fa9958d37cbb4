#include <algorithm>
#include <string>
#include <vector>

#include <moe/io.hpp>
#include <moe/moe.hpp>

#include "golden_layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::golden_blocks_test {

namespace {

using moe_test::GoldenBlock;

/// Expert ids and weights of a token as pairs in order of id, so that orders and pairings can be compared.
template <class T>
std::vector<std::pair<moe::ExpertId, double>> pairs(std::span<const moe::ExpertId> experts,
                                                    std::span<const T> weights) {
    std::vector<std::pair<moe::ExpertId, double>> result;
    for (std::size_t i = 0; i < experts.size(); ++i) {
        result.emplace_back(experts[i], static_cast<double>(weights[i]));
    }
    std::sort(result.begin(), result.end());
    return result;
}

template <class T>
void check_routing(const moe::PlanView<T>& plan, const moe::SafetensorsFile& file, double bound) {
    if (file.find("topk_weight") == nullptr) {
        return;  // the block does not expose its routing; its output still depends on it
    }
    const std::vector<double> weights = file.at("topk_weight").to_double_vector();
    const std::size_t k = weights.size() / plan.n_tokens;
    std::vector<std::int32_t> ids;
    if (file.find("topk_index") != nullptr) {
        ids = file.at("topk_index").to_vector<std::int32_t>();
    }
    for (std::size_t t = 0; t < plan.n_tokens; ++t) {
        const auto expected_weights = std::span<const double>(weights).subspan(t * k, k);
        REQUIRE(plan.experts_of(t).size() == k);
        const std::vector<moe::ExpertId> chosen(plan.experts_of(t).begin(), plan.experts_of(t).end());
        const auto expected_ids = ids.empty() ? std::span<const moe::ExpertId>(chosen)
                                              : std::span<const moe::ExpertId>(ids).subspan(t * k, k);
        const auto actual = pairs<T>(plan.experts_of(t), plan.weights_of(t));
        const auto expected = pairs<double>(expected_ids, expected_weights);
        for (std::size_t i = 0; i < k; ++i) {
            CHECK(actual[i].first == expected[i].first);
            CHECK(std::abs(actual[i].second - expected[i].second) <=
                  bound * std::max(1.0, std::abs(expected[i].second)));
        }
    }
}

template <class T>
void check_block(const GoldenBlock& block, double nmse_bound, double weight_bound) {
    GoldenTensors<T> tensors(block.file);
    std::vector<float> selection_bias;
    if (block.config.selection_bias) {
        selection_bias = tensors.file().at("param." + block.selection_bias).to_float_vector();
    }
    const moe::AnyLayer<T> layer = golden_layer<T>(block, tensors, selection_bias);
    const std::vector<T>& x = tensors.at("input");
    const std::size_t n_tokens = x.size() / 40;
    std::vector<T> y(x.size());
    moe::Workspace workspace;

    moe::RoutingPlan<T> plan;
    layer.route(moe::view(x.data(), n_tokens, 40), plan, workspace);
    moe::check_plan(plan.view());
    check_routing<T>(plan, tensors.file(), weight_bound);

    layer.forward(moe::view(x.data(), n_tokens, 40), moe::view(y.data(), n_tokens, 40), workspace);
    CHECK(moe_test::nmse(y, tensors.file().at("output").to_double_vector()) <= nmse_bound);

    std::vector<T> packed(x.size());
    moe::pack(layer).forward(moe::view(x.data(), n_tokens, 40), moe::view(packed.data(), n_tokens, 40), workspace);
    CHECK(moe_test::same_bits(packed, y));
}

}  // namespace

TEST_CASE("golden blocks in float") {
    const auto blocks = moe_test::golden_blocks();
    REQUIRE(blocks.size() == 17);
    for (const GoldenBlock& block : blocks) {
        INFO(block.file);
        // A weight is a few operations away from logits that are sums of 40 products.
        check_block<float>(block, 1e-12, 64 * static_cast<double>(std::numeric_limits<float>::epsilon()));
    }
}

TEST_CASE("golden blocks in double") {
    for (const GoldenBlock& block : moe_test::golden_blocks()) {
        INFO(block.file);
        // The Switch router alone was run in float32 when the values were made, so its output is only as exact as that.
        const bool float_router = block.file == "switch_transformers";
        check_block<double>(block, float_router ? 1e-12 : 1e-24, float_router ? 1e-6 : 1e-12);
    }
}

}  // namespace moe_test::golden_blocks_test
