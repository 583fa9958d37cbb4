// One layer from weights in every storage order, at sizes that tell rows from columns and at sizes that do not.

#include <string>
#include <vector>

#include "model/stored_experts.hpp"
#include "moe/model/make_layer.hpp"
#include "moe/model/presets.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"

namespace moe_test::storage_order_test {

using moe_test::contains;
using moe_test::StoredExperts;
using moe_test::StoredTensors;

namespace {

constexpr std::size_t n_tokens = 9;
constexpr std::size_t n_experts = 5;

/// GPT-OSS, of which all sizes may be equal, with a shared expert.
moe::MoEConfig small_gpt_oss(std::size_t d_model, std::size_t d_ff) {
    moe::MoEConfig config = moe::presets::gpt_oss();
    config.n_experts = n_experts;
    config.routing.top_k = 2;
    config.d_model = d_model;
    config.d_ff = d_ff;
    config.router_bias = false;
    config.shared_d_ff = d_ff;
    config.shared_bias = true;
    return config;
}

struct Weights {
    explicit Weights(const moe::MoEConfig& config)
        : experts(StoredExperts::random(draw, n_experts, config.d_model, config.d_ff, true, true)),
          shared(StoredExperts::random(draw, 1, config.d_model, config.shared_d_ff, true, true)),
          router(moe_test::random_elements<float>(draw, n_experts * config.d_model, 1)),
          x(moe_test::random_elements<float>(draw, n_tokens * config.d_model, 1)) {}

    [[nodiscard]] std::vector<float> result(const moe::MoEConfig& config, const StoredTensors& stored,
                                            const StoredTensors& stored_shared) const {
        moe::LayerWeights<float> weights;
        weights.router = moe::view(router.data(), n_experts, config.d_model);
        weights.experts = moe::expert_weights(config, stored.tensors());
        weights.shared = moe::shared_weights(config, stored_shared.tensors());
        const auto layer = moe::make_layer(config, weights);
        std::vector<float> y(x.size());
        moe::Workspace workspace;
        layer.forward(moe::view(x.data(), n_tokens, config.d_model), moe::view(y.data(), n_tokens, config.d_model),
                      workspace);
        return y;
    }

    moe_test::Draw draw{5};
    StoredExperts experts;
    StoredExperts shared;
    std::vector<float> router;
    std::vector<float> x;
};

std::vector<moe::StorageOrder> all_orders() {
    std::vector<moe::StorageOrder> orders;
    for (const auto joined : {moe::JoinedAs::separate, moe::JoinedAs::concatenated, moe::JoinedAs::interleaved}) {
        for (const bool up : {false, true}) {
            for (const bool down : {false, true}) {
                orders.push_back({joined, up, down});
            }
        }
    }
    return orders;
}

}  // namespace

TEST_CASE("experts in any storage order are the same layer", "[config][storage]") {
    for (const auto& [d_model, d_ff] : {std::pair<std::size_t, std::size_t>{6, 11}, {8, 8}}) {
        moe::MoEConfig config = small_gpt_oss(d_model, d_ff);
        const Weights weights(config);
        const auto run = [&] {
            return weights.result(config, StoredTensors(weights.experts, config.storage),
                                  StoredTensors(weights.shared, config.shared_storage));
        };
        const std::vector<float> y = run();
        for (const moe::StorageOrder& order : all_orders()) {
            config.storage = order;
            config.shared_storage = {};
            CHECK(moe_test::same_bits(run(), y));
            config.storage = {};
            config.shared_storage = order;
            CHECK(moe_test::same_bits(run(), y));
        }
    }
}

TEST_CASE("the memory of transformers and the published file of GPT-OSS are not taken for each other", "[storage]") {
    const moe::MoEConfig memory = small_gpt_oss(8, 8);  // as in the model, d_model = d_ff
    const moe::MoEConfig file = memory.in_published_file();
    CHECK(file.storage == moe::StorageOrder{moe::JoinedAs::interleaved, false, false});
    CHECK(memory.storage == moe::StorageOrder{moe::JoinedAs::interleaved, true, true});
    const Weights weights(memory);
    const StoredTensors in_memory(weights.experts, memory.storage);
    const StoredTensors in_file(weights.experts, file.storage);
    const StoredTensors shared(weights.shared, memory.shared_storage);
    CHECK(moe_test::same_bits(weights.result(memory, in_memory, shared), weights.result(file, in_file, shared)));

    const auto refused = [&](const moe::MoEConfig& config, const StoredTensors& stored, const char* text) {
        const auto error = moe_test::error_of([&] { (void)weights.result(config, stored, shared); });
        CHECK(error.code == moe::ErrorCode::shape);
        CHECK_THAT(error.text, contains(text) && contains("in_published_file()"));
    };
    refused(memory, in_file, "gate_up is 5 x 16 x 8, but gpt_oss has it stored as 5 x 8 x 16");
    refused(file, in_memory, "gate_up is 5 x 8 x 16, but gpt_oss has it stored as 5 x 16 x 8");
}

TEST_CASE("one tensor an expert is a stack as well", "[config][storage]") {
    const moe::MoEConfig config = small_gpt_oss(6, 11).in_gguf();
    const Weights weights(config);
    const StoredTensors stored(weights.experts, config.storage);
    const StoredTensors shared(weights.shared, config.shared_storage);
    const auto one_each = [](const std::vector<float>& values, std::size_t rows, std::size_t columns) {
        std::vector<const float*> pointers;
        for (std::size_t e = 0; e < n_experts; ++e) {
            pointers.push_back(values.data() + e * rows * columns);
        }
        return moe::separate(pointers, rows, columns);
    };
    moe::StackedExperts<float> tensors = stored.tensors();
    tensors.gate = one_each(weights.experts.gate, 11, 6);
    tensors.up = one_each(weights.experts.up, 11, 6);
    tensors.down = one_each(weights.experts.down, 6, 11);
    moe::LayerWeights<float> given;
    given.router = moe::view(weights.router.data(), n_experts, 6);
    given.experts = moe::expert_weights(config, tensors);
    given.shared = moe::shared_weights(config, shared.tensors());
    std::vector<float> y(weights.x.size());
    moe::Workspace workspace;
    moe::make_layer(config, given)
        .forward(moe::view(weights.x.data(), n_tokens, 6), moe::view(y.data(), n_tokens, 6), workspace);
    CHECK(moe_test::same_bits(y, weights.result(config, stored, shared)));
}

}  // namespace moe_test::storage_order_test
