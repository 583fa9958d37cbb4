#include <moe/stats/cost.hpp>

#include <cmath>
#include <cstddef>
#include <limits>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::cost_test {

namespace {

bool near(double a, double b) { return std::abs(a - b) <= 1e-12 * std::abs(b); }

/// Billions, rounded to one digit behind the point, times ten; or cut off there.
double tenths_of_billions(double parameters) { return std::round(parameters / 1e8); }
double cut_tenths_of_billions(double parameters) { return std::floor(parameters / 1e8); }
double billions(double parameters) { return std::round(parameters / 1e9); }

/// Grouped-query attention without biases: projections of queries and output, of keys and values.
double attention(double d_model, double heads, double kv_heads, double head_dim) {
    return 2 * d_model * heads * head_dim + 2 * d_model * kv_heads * head_dim;
}

// From the config.json of each model. Two norms a layer and one at the end, embeddings that are not tied.

/// mistralai/Mixtral-8x7B-v0.1
moe::CostModel mixtral() {
    const double layers = 32;
    const double d = 4096;
    const double others = layers * (attention(d, 32, 8, 128) + 2 * d) + d + 2 * 32000 * d;
    return moe::CostModel({.n_layers = 32, .n_experts = 8, .experts_per_token = 2, .d_model = 4096, .d_ff = 14336},
                          {others, others});
}

/// Qwen/Qwen3-30B-A3B, with a norm of queries and one of keys
moe::CostModel qwen3_30b() {
    const double layers = 48;
    const double d = 2048;
    const double others = layers * (attention(d, 32, 4, 128) + 2 * 128 + 2 * d) + d + 2 * 151936 * d;
    return moe::CostModel({.n_layers = 48, .n_experts = 128, .experts_per_token = 8, .d_model = 2048, .d_ff = 768},
                          {others, others});
}

/// deepseek-ai/DeepSeek-V3 without the layer of multi-token prediction; the input embedding is looked up, not
/// multiplied with, and so not active
moe::CostModel deepseek_v3() {
    const double d = 7168;
    const double heads = 128;
    const double queries = d * 1536 + 1536 + 1536 * heads * (128 + 64);
    const double keys_and_values = d * (512 + 64) + 512 + 512 * heads * (128 + 128);
    const double latent_attention = queries + keys_and_values + heads * 128 * d;
    const double embedding = 129280 * d;
    const double others = 61 * (latent_attention + 2 * d) + 3 * 3 * d * 18432 + d + 2 * embedding;
    return moe::CostModel({.n_layers = 58,
                           .n_experts = 256,
                           .experts_per_token = 8,
                           .d_model = 7168,
                           .d_ff = 2048,
                           .shared_d_ff = 2048,
                           .router_bias = true},
                          {others, others - embedding});
}

}  // namespace

TEST_CASE("parameters of published models", "[stats]") {
    CHECK(mixtral().total_parameters() == 46702792704.0);  // the elements of the published tensors
    CHECK(tenths_of_billions(mixtral().total_parameters()) == 467);
    CHECK(tenths_of_billions(mixtral().active_parameters()) == 129);
    CHECK(qwen3_30b().total_parameters() == 30532122624.0);
    CHECK(tenths_of_billions(qwen3_30b().total_parameters()) == 305);
    CHECK(cut_tenths_of_billions(qwen3_30b().active_parameters()) == 33);  // 3.353: published as 3.3
    CHECK(billions(deepseek_v3().total_parameters()) == 671);
    CHECK(billions(deepseek_v3().active_parameters()) == 37);
}

TEST_CASE("parameters of a small model by hand", "[stats]") {
    moe::ExpertSizes sizes{.n_layers = 2, .n_experts = 4, .experts_per_token = 2, .d_model = 3, .d_ff = 5};
    CHECK(moe::CostModel(sizes).expert_parameters() == 45);  // 3 * 3 * 5
    CHECK(moe::CostModel(sizes).shared_parameters() == 0);
    CHECK(moe::CostModel(sizes).router_parameters() == 12);
    CHECK(moe::CostModel(sizes, {100, 70}).total_parameters() == 2 * (4 * 45 + 12) + 100);
    CHECK(moe::CostModel(sizes, {100, 70}).active_parameters() == 2 * (2 * 45 + 12) + 70);
    CHECK(moe::CostModel(sizes, {100, 70}).flops_per_token() == 2 * (2 * (2 * 45 + 12) + 70));
    sizes.biases = true;
    CHECK(moe::CostModel(sizes).expert_parameters() == 45 + 5 + 5 + 3);
    sizes.gated = false;
    CHECK(moe::CostModel(sizes).expert_parameters() == 30 + 5 + 3);
    sizes.shared_d_ff = 7;
    sizes.shared_gates = 1;
    CHECK(moe::CostModel(sizes).shared_parameters() == 2 * 3 * 7 + 7 + 3 + 3);
    sizes.router_bias = true;
    CHECK(moe::CostModel(sizes).router_parameters() == 16);
    CHECK(moe::CostModel(sizes).total_parameters() == 2 * (4 * 38 + 55 + 16));
}

TEST_CASE("expected number of distinct experts", "[stats]") {
    using moe::expected_distinct_experts;
    CHECK(near(expected_distinct_experts(8, 2, 1), 2));
    CHECK(near(expected_distinct_experts(8, 2, 2), 8 * (1 - 0.75 * 0.75)));
    CHECK(near(expected_distinct_experts(128, 8, 64), 128 * (1 - std::pow(0.9375, 64))));
    CHECK(near(expected_distinct_experts(1000000000, 1, 2), 2 - 1e-9));  // where 1 - K/E keeps few digits
    CHECK(expected_distinct_experts(8, 8, 1) == 8);
    CHECK(expected_distinct_experts(8, 8, 0) == 0);
    CHECK(expected_distinct_experts(8, 0, 5) == 0);
    CHECK(expected_distinct_experts(8, 2, 1000000) == 8);
    CHECK(expected_distinct_experts(0, 0, 3) == 0);
    // the mean of all pairs of choices of 2 of 3 experts: 3 of 9 pairs are equal and need 2, the others 3
    CHECK(near(expected_distinct_experts(3, 2, 2), (3 * 2 + 6 * 3) / 9.0));
    CHECK(moe_test::error_of([] { (void)expected_distinct_experts(8, 9, 1); }).text ==
          "expected_distinct_experts: 9 experts a token of 8");
}

TEST_CASE("what a batch costs, and the time a machine needs at least", "[stats]") {
    const moe::CostModel model({.n_layers = 2, .n_experts = 4, .experts_per_token = 2, .d_model = 3, .d_ff = 5},
                               {100, 70});
    const moe::BatchCost two = model.batch(2, {.experts = 0.5, .others = 4});
    CHECK(two.tokens == 2);
    CHECK(near(two.distinct_experts, 3));
    CHECK(two.flops == 2 * 548);
    CHECK(near(two.bytes, 2 * 3 * 45 * 0.5 + (2 * 12 + 70) * 4));
    CHECK(two.compute_seconds({.flops_per_second = 100, .bytes_per_second = 1}) == 10.96);
    CHECK(near(two.seconds({.flops_per_second = 100, .bytes_per_second = 1e9}), 10.96));
    CHECK(near(two.seconds({.flops_per_second = 1e9, .bytes_per_second = 100}), 5.11));
    CHECK(near(two.tokens_per_second({.flops_per_second = 1e9, .bytes_per_second = 100}), 2 / 5.11));
    CHECK(model.batch(0).bytes == 0);
    CHECK(model.batch(0).flops == 0);
    // one token reads what is active, and no batch reads more than there is
    CHECK(near(mixtral().batch(1).bytes, 2 * mixtral().active_parameters()));
    CHECK(near(mixtral().batch(100000).bytes, 2 * mixtral().total_parameters()));
}

TEST_CASE("memory holds all weights, whatever a batch reads", "[stats]") {
    const moe::ExpertSizes sizes{
        .n_layers = 2, .n_experts = 4, .experts_per_token = 2, .d_model = 3, .d_ff = 5, .shared_d_ff = 7};
    const moe::CostModel model(sizes, {100, 70});
    CHECK(model.weight_bytes({.experts = 0.5, .others = 4}) == 2 * (4 * 45 + 63) * 0.5 + (2 * 12 + 100) * 4);
    CHECK(mixtral().weight_bytes() == 2 * 46702792704.0);
    CHECK(near(mixtral().batch(100000).bytes, mixtral().weight_bytes()));
}

TEST_CASE("a model of numbers of parameters alone", "[stats]") {
    // sizes give the same model as the numbers that follow from them
    const moe::ExpertSizes sizes{.n_layers = 2, .n_experts = 4, .experts_per_token = 2, .d_model = 3, .d_ff = 5};
    const moe::CostModel sized(sizes, {100, 70});
    const moe::CostModel known = moe::CostModel::of(sizes.parameters(), {100, 70});
    CHECK(known.total_parameters() == sized.total_parameters());
    CHECK(known.active_parameters() == sized.active_parameters());
    CHECK(known.batch(3).bytes == sized.batch(3).bytes);
    CHECK((known.sizes().n_layers == 2 && known.sizes().n_experts == 4 && known.sizes().d_model == 0));
    // 16 experts of 111, two a token, beside 55: 1831 in all, 277 active
    const moe::CostModel sixteen =
        moe::CostModel::of({.n_experts = 16, .experts_per_token = 2, .expert = 111}, {55, 55});
    CHECK(sixteen.total_parameters() == 1831);
    CHECK(sixteen.active_parameters() == 277);
    CHECK(near(sixteen.batch(2).bytes, 2 * (16 * (1 - 0.875 * 0.875) * 111 + 55)));
}

TEST_CASE("a dense model reads and computes all it has for every token", "[stats]") {
    const moe::CostModel dense = moe::CostModel::dense(1000);
    CHECK(dense.total_parameters() == 1000);
    CHECK(dense.active_parameters() == 1000);
    CHECK(dense.flops_per_token() == 2000);
    for (const std::size_t tokens : {1U, 7U, 4096U}) {
        CHECK(near(dense.batch(tokens, {.experts = 0.5}).bytes, 500));
        CHECK(near(dense.batch(tokens).flops, 2000.0 * static_cast<double>(tokens)));
    }
    // a token alone costs in a mixture what it costs in a dense model of the active size; two tokens cost more
    const moe::CostModel active = moe::CostModel::dense(mixtral().active_parameters());
    CHECK(near(mixtral().batch(1).bytes, active.batch(1).bytes));
    CHECK(mixtral().batch(2).bytes > 1.5 * active.batch(2).bytes);
    CHECK(near(mixtral().batch(2).flops, active.batch(2).flops));
}

TEST_CASE("a cost model refuses numbers of parameters that cannot be", "[stats]") {
    const auto refusal = [](const moe::ExpertParameters& parameters, moe::OtherParameters others = {}) {
        return moe_test::error_of([&] { (void)moe::CostModel::of(parameters, others); }).text;
    };
    moe::ExpertParameters good{.n_experts = 4, .experts_per_token = 2, .expert = 10};
    CHECK(moe::CostModel::of(good).total_parameters() == 40);
    CHECK(refusal(good, {10, 11}) == "CostModel: of 10 other parameters 11 are active");
    const auto with = [&](double moe::ExpertParameters::*member, double value) {
        moe::ExpertParameters bad = good;
        bad.*member = value;
        return refusal(bad);
    };
    CHECK(with(&moe::ExpertParameters::experts_per_token, 5) == "ExpertParameters: 5 experts a token of 4");
    CHECK(with(&moe::ExpertParameters::experts_per_token, 0) == "ExpertParameters: 0 experts a token of 4");
    CHECK(with(&moe::ExpertParameters::expert, 0).starts_with("ExpertParameters: 0 parameters an expert"));
    CHECK(with(&moe::ExpertParameters::shared, -1).starts_with("ExpertParameters: 10 parameters an expert, -1 shared"));
    CHECK(with(&moe::ExpertParameters::router, std::nan("")).starts_with("ExpertParameters: 10 parameters"));
    CHECK(
        with(&moe::ExpertParameters::expert, std::numeric_limits<double>::infinity()).starts_with("ExpertParameters"));
    good.n_layers = 0;
    CHECK(refusal(good) == "ExpertParameters: 0 layers of 4 experts; neither may be 0");
    CHECK(moe_test::error_of([] { (void)moe::CostModel::dense(-1); }).text.starts_with("ExpertParameters: -1"));
}

TEST_CASE("a cost model refuses sizes that cannot be", "[stats]") {
    const auto refusal = [](std::size_t n_experts, double k, moe::OtherParameters others = {}) {
        const moe::ExpertSizes sizes{
            .n_layers = 1, .n_experts = n_experts, .experts_per_token = k, .d_model = 3, .d_ff = 5};
        return moe_test::error_of([&] { (void)moe::CostModel(sizes, others); }).text;
    };
    CHECK(refusal(0, 1) == "ExpertSizes: 1 layers of 0 experts, d_model 3, d_ff 5; none may be 0");
    CHECK(refusal(4, 5) == "ExpertSizes: 5 experts a token of 4");
    CHECK(refusal(4, 0) == "ExpertSizes: 0 experts a token of 4");
    CHECK(refusal(4, std::nan("")) == "ExpertSizes: nan experts a token of 4");
    CHECK(refusal(4, 2, {10, 11}) == "CostModel: of 10 other parameters 11 are active");
    CHECK(refusal(4, 2, {-1, -2}) == "CostModel: of -1 other parameters -2 are active");
}

}  // namespace moe_test::cost_test
