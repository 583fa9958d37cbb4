#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <moe/io.hpp>
#include <moe/moe.hpp>

#include "support/catch.hpp"
#include "support/compare.hpp"

/// Layers out of GGUF files that ggml has written, held against values in float64: tests/golden/quantised/README.md.
namespace moe_test::gguf_layers_test {

namespace {

struct GoldenModel {
    std::string file;
    std::string preset;
    std::size_t d_model, d_ff, n_experts, top_k;
    std::vector<std::string> types;  // of the weights of gate, up and down
};

std::vector<GoldenModel> golden_models() {
    return {{"mixtral_q4_k_m", "mixtral", 256, 512, 4, 2, {"Q4_K", "Q4_K", "Q6_K"}},
            {"qwen3moe_q8_0", "qwen3_moe", 64, 96, 8, 4, {"Q8_0", "Q8_0", "Q8_0"}},
            {"gpt_oss_mxfp4", "gpt_oss", 96, 64, 8, 4, {"MXFP4", "MXFP4", "MXFP4"}}};
}

std::string path_of(const std::string& name) {
    return std::string(MOE_TEST_DATA_DIR) + "/golden/quantised/layers/" + name;
}

/// The layer as the metadata describes it, where that differs from the preset.
moe::MoEConfig config_of(const moe::GgufFile& file, const std::string& preset) {
    const auto architecture = file.metadata_at("general.architecture").as<std::string>();
    const auto size = [&](const std::string& key) {
        return file.metadata_at(architecture + "." + key).as<std::size_t>();
    };
    moe::MoEConfig config = moe::presets::find(preset).in_gguf();
    config.n_experts = size("expert_count");
    config.d_model = size("embedding_length");
    // older architectures have no key of their own for the width of an expert
    const bool own = file.find_metadata(architecture + ".expert_feed_forward_length") != nullptr;
    config.d_ff = size(own ? "expert_feed_forward_length" : "feed_forward_length");
    config.routing.top_k = static_cast<int>(size("expert_used_count"));
    return config;
}

/// The tensors of one block, decoded to T and kept while a layer looks at them.
template <class T>
class Block {
public:
    Block(const moe::GgufFile& file, std::size_t number, const moe::MoEConfig& config)
        : file_(file),
          prefix_("blk." + std::to_string(number) + "."),
          config_(config),
          router_(decoded("ffn_gate_inp.weight", {config.n_experts, config.d_model})),
          gate_(decoded("ffn_gate_exps.weight", {config.n_experts, config.d_ff, config.d_model})),
          up_(decoded("ffn_up_exps.weight", {config.n_experts, config.d_ff, config.d_model})),
          down_(decoded("ffn_down_exps.weight", {config.n_experts, config.d_model, config.d_ff})) {
        if (config.expert_bias) {
            router_bias_ = decoded("ffn_gate_inp.bias", {config.n_experts});
            gate_bias_ = decoded("ffn_gate_exps.bias", {config.n_experts, config.d_ff});
            up_bias_ = decoded("ffn_up_exps.bias", {config.n_experts, config.d_ff});
            down_bias_ = decoded("ffn_down_exps.bias", {config.n_experts, config.d_model});
        }
    }

    [[nodiscard]] moe::AnyLayer<T> layer() const {
        const std::size_t n = config_.n_experts;
        moe::StackedExperts<T> experts;
        experts.gate = moe::stacked(gate_.data(), n, config_.d_ff, config_.d_model);
        experts.up = moe::stacked(up_.data(), n, config_.d_ff, config_.d_model);
        experts.down = moe::stacked(down_.data(), n, config_.d_model, config_.d_ff);
        moe::LayerWeights<T> weights;
        weights.router = moe::view(router_.data(), n, config_.d_model);
        if (config_.expert_bias) {
            experts.gate_bias = moe::stacked(gate_bias_.data(), n, config_.d_ff, 1);
            experts.up_bias = moe::stacked(up_bias_.data(), n, config_.d_ff, 1);
            experts.down_bias = moe::stacked(down_bias_.data(), n, config_.d_model, 1);
            weights.router_bias = router_bias_;
        }
        weights.experts = moe::expert_weights<T>(config_, experts);
        return moe::make_layer(config_, weights);
    }

private:
    [[nodiscard]] std::vector<T> decoded(const std::string& name, const std::vector<std::size_t>& shape) const {
        const moe::GgufTensor& tensor = file_.at(prefix_ + name);
        INFO(tensor.name);
        REQUIRE(tensor.shape == shape);
        const std::vector<float> values = tensor.to_float_vector();
        return {values.begin(), values.end()};
    }

    const moe::GgufFile& file_;
    std::string prefix_;
    moe::MoEConfig config_;
    std::vector<T> router_, gate_, up_, down_;
    std::vector<T> router_bias_, gate_bias_, up_bias_, down_bias_;
};

/// Expert ids with their weights, in order of the ids.
using Choice = std::vector<std::pair<std::int32_t, double>>;

template <class Ids, class Weights>
Choice choice(const Ids& ids, const Weights& weights) {
    Choice result;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        result.emplace_back(ids[i], static_cast<double>(weights[i]));
    }
    std::sort(result.begin(), result.end());
    return result;
}

template <class T>
void check_block(const moe::AnyLayer<T>& layer, const moe::SafetensorsFile& expected, const std::string& prefix,
                 const GoldenModel& model, double nmse_bound, double weight_bound) {
    const std::vector<float> values = expected.at("x").to_float_vector();
    const std::vector<T> x(values.begin(), values.end());
    const std::size_t n_tokens = x.size() / model.d_model;
    REQUIRE(n_tokens > 0);
    moe::Workspace workspace;
    moe::RoutingPlan<T> plan;
    layer.route(moe::view(x.data(), n_tokens, model.d_model), plan, workspace);
    const auto ids = expected.at(prefix + "ids").to_vector<std::int32_t>();
    const std::vector<double> weights = expected.at(prefix + "weights").to_double_vector();
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const Choice chosen = choice(plan.view().experts_of(t), plan.view().weights_of(t));
        const Choice right = choice(std::span(ids).subspan(t * model.top_k, model.top_k),
                                    std::span(weights).subspan(t * model.top_k, model.top_k));
        REQUIRE(chosen.size() == right.size());
        for (std::size_t i = 0; i < right.size(); ++i) {
            CHECK(chosen[i].first == right[i].first);
            CHECK(std::abs(chosen[i].second - right[i].second) <= weight_bound);
        }
    }
    std::vector<T> y(x.size());
    layer.forward(moe::view(x.data(), n_tokens, model.d_model), moe::view(y.data(), n_tokens, model.d_model),
                  workspace);
    CHECK(moe_test::nmse(y, expected.at(prefix + "y").to_double_vector()) <= nmse_bound);

    std::vector<T> packed(x.size());
    moe::pack(layer).forward(moe::view(x.data(), n_tokens, model.d_model),
                             moe::view(packed.data(), n_tokens, model.d_model), workspace);
    CHECK(moe_test::same_bits(packed, y));
}

template <class T>
void check_models(double nmse_bound, double weight_bound) {
    for (const GoldenModel& model : golden_models()) {
        INFO(model.file);
        const auto file = moe::GgufFile::open(path_of(model.file + ".gguf"));
        const auto expected = moe::SafetensorsFile::open(path_of(model.file + ".expected.safetensors"));
        const moe::MoEConfig config = config_of(file, model.preset);
        CHECK(config.d_model == model.d_model);
        CHECK(config.d_ff == model.d_ff);
        CHECK(config.n_experts == model.n_experts);
        CHECK(config.routing.top_k == static_cast<int>(model.top_k));
        const auto architecture = file.metadata_at("general.architecture").as<std::string>();
        const auto n_blocks = file.metadata_at(architecture + ".block_count").as<std::size_t>();
        CHECK(n_blocks == (model.preset == "qwen3_moe" ? 2U : 1U));
        for (std::size_t i = 0; i < n_blocks; ++i) {
            const std::string prefix = "blk." + std::to_string(i) + ".";
            INFO(prefix);
            CHECK(file.at(prefix + "ffn_gate_exps.weight").type->name == model.types[0]);
            CHECK(file.at(prefix + "ffn_up_exps.weight").type->name == model.types[1]);
            CHECK(file.at(prefix + "ffn_down_exps.weight").type->name == model.types[2]);
            const Block<T> block(file, i, config);
            check_block(block.layer(), expected, prefix, model, nmse_bound, weight_bound);
        }
    }
}

}  // namespace

// A weight is a few operations away from logits that are sums of up to 256 products.
TEST_CASE("layers of GGUF files, decoded to double, are those of ggml's values", "[io][gguf]") {
    check_models<double>(1e-24, 1e-12);
}

TEST_CASE("layers of GGUF files, decoded to float, are those of ggml's values", "[io][gguf]") {
    check_models<float>(1e-12, 256 * static_cast<double>(std::numeric_limits<float>::epsilon()));
}

}  // namespace moe_test::gguf_layers_test
