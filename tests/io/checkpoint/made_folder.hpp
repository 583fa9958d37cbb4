#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint/made_folder_rows.hpp"

/// Folders of two layers as each architecture has them, the second of which has experts.
namespace moe_test::made_folder {

/// What the row says in words of this library.
inline MoEConfig expected_config(const Row& row) {
    MoEConfig config = row.preset();
    config.n_experts = n_experts;
    config.d_model = d_model;
    config.d_ff = d_ff;
    config.routing.top_k = config.routing.top_k > 1 ? 2 : 1;
    config.n_identity_experts = config.n_identity_experts > 0 ? 4 : 0;
    if (config.shared_d_ff > 0) {
        config.shared_d_ff = row.extra.find("12") != std::string::npos ? shared_width : d_ff;
    }
    if (row.extra.find("n_group") != std::string::npos) {
        config.routing.groups.n_groups = 4;
        config.routing.groups.kept = row.type == "deepseek_v2" ? 3 : 2;
    }
    return config;
}

/// The weights of a row, its layer composed by hand, and its folder.
class Made {
public:
    Made(const Row& row, DType dtype, Draw& draw)
        : row_(row),
          config_(expected_config(row)),
          experts_(
              exact(StoredExperts::random(draw, n_experts, d_model, d_ff, config_.form.gated(), config_.expert_bias))),
          shared_(exact(StoredExperts::random(draw, 1, d_model, (std::max)(config_.shared_d_ff, std::size_t{1}),
                                              config_.form_of_shared().gated(), false))),
          order_(config_.published.known ? config_.published.experts : StorageOrder{}),
          by_hand_(experts_, {}),
          shared_by_hand_(shared_, {}),
          in_file_(experts_, order_),
          shared_in_file_(shared_,
                          {row.shared.size() == 2 ? JoinedAs::concatenated : JoinedAs::separate, false, false}),
          router_(values(draw, config_.n_routed() * d_model)),
          router_bias_(values(draw, config_.router_bias ? n_experts : 0)),
          choice_bias_(values(draw, config_.selection_bias ? config_.n_routed() : 0)),
          scale_(values(draw, config_.per_expert_scale ? n_experts : 0)),
          output_bias_(values(draw, config_.output_bias ? d_model : 0)),
          shared_gate_(values(draw, config_.shared_mode == moe::SharedMode::gated ? d_model : 0)) {
        write(dtype);
    }

    [[nodiscard]] moe::AnyLayer<float> layer() const {
        MoEConfig config = config_.in_gguf();  // all apart
        moe::LayerWeights<float> weights;
        weights.router = moe::view(router_.data(), config.n_routed(), d_model);
        weights.router_bias = router_bias_;
        weights.selection_bias = choice_bias_;
        weights.per_expert_scale = scale_;
        weights.output_bias = output_bias_;
        weights.experts = moe::expert_weights(config, by_hand_.tensors());
        if (config.shared_d_ff > 0) {
            weights.shared = moe::shared_weights(config, shared_by_hand_.tensors());
        }
        if (!shared_gate_.empty()) {
            weights.shared_gate = moe::stacked(shared_gate_.data(), 1, 1, d_model);
        }
        return moe::make_layer(config, weights);
    }

    [[nodiscard]] std::string config_text() const {
        std::string text = R"({"model_type":")" + row_.type + R"(","hidden_size":28,"num_hidden_layers":2)";
        const std::string counts[] = {"8", std::to_string(config_.routing.top_k), "20"};
        for (std::size_t i = 0; i < 3; ++i) {
            text += ",\"" + row_.size_keys[i] + "\":" + counts[i];
        }
        return text + row_.extra + "}";
    }
    [[nodiscard]] const std::vector<moe::TensorToWrite>& tensors() const { return made_.tensors; }

private:
    static StoredExperts exact(StoredExperts experts) {
        for (std::vector<float>* const part :
             {&experts.gate, &experts.up, &experts.down, &experts.gate_bias, &experts.up_bias, &experts.down_bias}) {
            for (float& value : *part) {
                value = std::round(value * 32) / 32;
            }
        }
        return experts;
    }

    /// A matrix of expert e, as the file has it.
    void put(const std::string& name, const moe::WeightStack<float>& stack, DType dtype,
             std::vector<std::size_t> shape) {
        std::size_t count = 1;
        for (const std::size_t extent : shape) {
            count *= extent;
        }
        made_.add(name, std::move(shape), {stack.block(0, 0, 1).data, count}, dtype);
    }

    void write(DType dtype) {
        const auto vector = [&](const std::string& name, const std::vector<float>& data) {
            if (!data.empty()) {
                made_.add(name, {data.size()}, data, DType::f32);
            }
        };
        const std::string& place = row_.place;
        made_.add(place + row_.router, {config_.n_routed(), d_model}, router_, dtype);
        vector(place + "router.bias", router_bias_);
        if (row_.type == "ernie4_5_moe") {
            made_.add(place + row_.bias, {1, n_experts}, choice_bias_);
        } else {
            vector(place + row_.bias, choice_bias_);
        }
        vector(place + row_.bias, output_bias_);
        vector(place + "router.per_expert_scale", scale_);
        if (!shared_gate_.empty()) {
            made_.add(place + "shared_expert_gate.weight", {1, d_model}, shared_gate_, dtype);
        }
        const moe::StackedExperts<float>& stored = in_file_.tensors();
        const std::vector<std::string>& names = row_.experts;
        if (names.size() == 2) {
            const auto both = std::vector<std::size_t>{n_experts, stored.gate_up.outputs(), stored.gate_up.inputs()};
            put(place + names[0], stored.gate_up, dtype, both);
            put(place + names[1], stored.down, dtype, {n_experts, stored.down.outputs(), stored.down.inputs()});
            if (config_.expert_bias) {
                put(place + names[0] + "_bias", stored.gate_up_bias, dtype, {n_experts, 2 * d_ff});
                put(place + names[1] + "_bias", stored.down_bias, dtype, {n_experts, d_model});
            }
        } else {
            const moe::WeightStack<float>* const stacks[] = {&stored.gate, &stored.up, &stored.down};
            for (std::size_t i = 0; i < 3; ++i) {
                if (!names[i].empty()) {
                    each(place + names[i], *stacks[i], dtype);
                }
            }
        }
        const moe::StackedExperts<float>& shared = shared_in_file_.tensors();
        const bool joined = row_.shared.size() == 2;
        for (std::size_t i = 0; i < row_.shared.size(); ++i) {
            const std::string& name = row_.shared[i];
            const moe::WeightStack<float>& stack = joined ? (i == 0 ? shared.gate_up : shared.down)
                                                          : (i == 0   ? shared.gate
                                                             : i == 1 ? shared.up
                                                                      : shared.down);
            if (!name.empty()) {
                put(name.starts_with("model.") ? name : place + name, stack, dtype, {stack.outputs(), stack.inputs()});
            }
        }
    }

    void each(const std::string& name, const moe::WeightStack<float>& stack, DType dtype) {
        const std::size_t at = name.find('#');
        if (row_.type == "dbrx") {
            put(name, stack, dtype, {n_experts * stack.outputs(), stack.inputs()});
        } else if (at == std::string::npos) {
            put(name, stack, dtype, {n_experts, stack.outputs(), stack.inputs()});
        } else {
            for (std::size_t e = 0; e < n_experts; ++e) {
                put(name.substr(0, at) + std::to_string(e) + name.substr(at + 1) + ".weight", stack.expert(e), dtype,
                    {stack.outputs(), stack.inputs()});
            }
        }
    }

    Row row_;
    MoEConfig config_;
    StoredExperts experts_, shared_;
    StorageOrder order_;
    moe_test::StoredTensors by_hand_, shared_by_hand_, in_file_, shared_in_file_;
    std::vector<float> router_, router_bias_, choice_bias_, scale_, output_bias_, shared_gate_;
    MadeTensors made_;
};

}  // namespace moe_test::made_folder
