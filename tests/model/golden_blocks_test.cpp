#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <moe/io.hpp>
#include <moe/moe.hpp>

#include "golden_blocks.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::golden_blocks_test {

namespace {

using moe_test::GoldenBlock;

/// The tensors of one file, converted to T and kept while a layer looks at them.
template <class T>
class Tensors {
public:
    explicit Tensors(const std::string& name)
        : file_(
              moe::SafetensorsFile::open(std::string(MOE_TEST_DATA_DIR) + "/golden/blocks/" + name + ".safetensors")) {}

    const std::vector<T>& at(const std::string& name) {
        auto& values = kept_[name];
        if (values.empty()) {
            if constexpr (std::is_same_v<T, float>) {
                values = file_.at(name).to_float_vector();
            } else {
                values = file_.at(name).to_double_vector();
            }
        }
        return values;
    }
    const T* parameter(const std::string& name) { return at("param." + name).data(); }
    const std::vector<std::size_t>& shape(const std::string& name) const { return file_.at("param." + name).shape; }
    const moe::SafetensorsFile& file() const { return file_; }

private:
    moe::SafetensorsFile file_;
    std::map<std::string, std::vector<T>> kept_;
};

/// Experts as the state dict of the architecture holds them.
template <class T>
moe::ExpertWeights<T> experts_of(const GoldenBlock& block, Tensors<T>& tensors) {
    const moe::MoEConfig& config = block.config;
    if (block.file == "switch_transformers") {  // one matrix an expert
        std::vector<const T*> up;
        std::vector<const T*> down;
        for (std::size_t e = 0; e < config.n_experts; ++e) {
            const std::string prefix = "experts.expert_" + std::to_string(e);
            up.push_back(tensors.parameter(prefix + ".wi.weight"));
            down.push_back(tensors.parameter(prefix + ".wo.weight"));
        }
        moe::ExpertWeights<T> weights;
        weights.up = moe::separate(up, config.d_ff, config.d_model);
        weights.down = moe::separate(down, config.d_model, config.d_ff);
        return weights;
    }
    const std::size_t n = config.n_experts;
    const auto stack = [&](const std::string& name, std::size_t rows, std::size_t columns) {
        return moe::stacked(tensors.parameter(name), n, rows, columns);
    };
    moe::StackedExperts<T> stacked;
    if (block.file == "dbrx") {
        stacked.gate = stack("experts.mlp.w1", config.d_ff, 40);
        stacked.up = stack("experts.mlp.v1", config.d_ff, 40);
        stacked.down = stack("experts.mlp.w2", config.d_ff, 40);
    } else {
        const std::vector<std::size_t> gate_up = tensors.shape(block.experts + block.gate_up);
        const std::vector<std::size_t> down = tensors.shape(block.experts + block.down);
        stacked.gate_up = stack(block.experts + block.gate_up, gate_up.at(1), gate_up.at(2));
        stacked.down = stack(block.experts + block.down, down.at(1), down.at(2));
    }
    if (config.expert_bias) {
        stacked.gate_up_bias = stack("experts.gate_up_proj_bias", 2 * config.d_ff, 1);
        stacked.down_bias = stack("experts.down_proj_bias", 40, 1);
    }
    return moe::expert_weights(config, stacked);
}

template <class T>
moe::AnyLayer<T> layer_of(const GoldenBlock& block, Tensors<T>& tensors, const std::vector<float>& selection_bias) {
    const moe::MoEConfig& config = block.config;
    moe::LayerWeights<T> weights;
    weights.router = moe::view(tensors.parameter(block.router), config.n_routed(), 40);
    if (config.router_bias) {
        weights.router_bias = tensors.at("param." + block.router_bias);
    }
    weights.selection_bias = selection_bias;
    weights.experts = experts_of(block, tensors);
    if (config.shared_d_ff != 0) {
        const auto matrix = [&](const std::string& name, std::size_t rows, std::size_t columns) {
            return moe::stacked(tensors.parameter(block.shared + name), 1, rows, columns);
        };
        const std::size_t d_ff = config.shared_d_ff;
        weights.shared = moe::shared_weights<T>(config, {.gate = matrix("gate_proj.weight", d_ff, 40),
                                                         .up = matrix("up_proj.weight", d_ff, 40),
                                                         .down = matrix("down_proj.weight", 40, d_ff)});
    }
    if (!block.shared_gate.empty()) {
        weights.shared_gate = moe::stacked(tensors.parameter(block.shared_gate), 1, 1, 40);
    }
    if (config.output_bias) {
        weights.output_bias = tensors.at("param." + block.output_bias);
    }
    return moe::make_layer(config, weights);
}

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
    Tensors<T> tensors(block.file);
    std::vector<float> selection_bias;
    if (block.config.selection_bias) {
        selection_bias = tensors.file().at("param." + block.selection_bias).to_float_vector();
    }
    const auto layer = layer_of<T>(block, tensors, selection_bias);
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
