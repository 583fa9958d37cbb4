#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <moe/io.hpp>
#include <moe/moe.hpp>

#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::fullsize_test {

// Layers at the size of released models. Their weights are made by the generator that made the golden outputs:
// value i of the tensor with seed s is amplitude * (2 * random_uniform(s, i) - 1).

namespace {

#if defined(_OPENMP)
using Threads = moe::OpenMpExecutor;
#else
using Threads = moe::SerialExecutor;
#endif

using Values = std::unique_ptr<float[]>;

Values generate(std::uint64_t seed, float amplitude, std::size_t count) {
    Values values(new float[count]);
    constexpr std::size_t chunk = 1U << 16U;
    moe::TaskQueue queue;
    moe::ExecutorRef(Threads{}).run([&](std::size_t, std::size_t) {
        for (std::size_t c = queue.take(); c * chunk < count; c = queue.take()) {
            for (std::size_t i = c * chunk; i < std::min(count, (c + 1) * chunk); ++i) {
                values[i] = amplitude * (2 * moe::random_uniform(seed, i) - 1);
            }
        }
    });
    return values;
}

/// Highest resident size of this process in GiB, or 0 where the system does not tell.
double peak_memory_gib() {
    double kib = 0;
    if (std::FILE* const status = std::fopen("/proc/self/status", "r")) {
        char line[256];
        while (std::fgets(line, sizeof line, status) != nullptr) {
            std::sscanf(line, "VmHWM: %lf kB", &kib);
        }
        std::fclose(status);
    }
    return kib / (1024.0 * 1024.0);
}

template <class Layer>
void check_layer(const Layer& layer, const moe::SafetensorsFile& golden, const Values& x, std::size_t n_tokens) {
    const std::size_t d = layer.d_model();
    moe::Workspace workspace;
    moe::RoutingPlan<float> plan;
    layer.route(moe::view(x.get(), n_tokens, d), plan, workspace, Threads{});

    std::vector<std::int32_t> ids = golden.at("topk_index").to_vector<std::int32_t>();
    const std::size_t k = ids.size() / n_tokens;
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const auto experts = plan.view().experts_of(t);
        std::vector<std::int32_t> chosen(experts.begin(), experts.end());
        const auto expected = ids.begin() + static_cast<std::ptrdiff_t>(t * k);
        std::sort(chosen.begin(), chosen.end());
        std::sort(expected, expected + static_cast<std::ptrdiff_t>(k));
        CHECK(std::equal(chosen.begin(), chosen.end(), expected, expected + static_cast<std::ptrdiff_t>(k)));
    }
    std::vector<float> y(n_tokens * d);
    layer.forward(moe::view(x.get(), n_tokens, d), moe::view(y.data(), n_tokens, d), workspace, Threads{});
    CHECK(moe_test::nmse(y, golden.at("output").to_double_vector()) <= 4e-12);
}

void check_model(const std::string& name, const moe::MoEConfig& preset, std::size_t n_tokens) {
    const moe::MoEConfig config = preset.in_gguf();
    const std::size_t d = config.d_model;
    const std::size_t weights = config.n_experts * config.d_ff * d;
    constexpr float amplitude = 0x1p-5F;

    const Values router = generate(1, 0x1p-4F, config.n_experts * d);
    const Values x = generate(5, 2.0F, n_tokens * d);
    Values gate = generate(2, amplitude, weights);
    Values up = generate(3, amplitude, weights);
    Values down = generate(4, amplitude, weights);
    moe::LayerWeights<float> given;
    given.router = moe::view<const float>(router.get(), config.n_experts, d);
    const auto experts = [d](const Values& g, const Values& u, const Values& w, std::size_t n, std::size_t d_ff) {
        return moe::StackedExperts<float>{.gate = moe::stacked<float>(g.get(), n, d_ff, d),
                                          .up = moe::stacked<float>(u.get(), n, d_ff, d),
                                          .down = moe::stacked<float>(w.get(), n, d, d_ff)};
    };
    given.experts = moe::expert_weights(config, experts(gate, up, down, config.n_experts, config.d_ff));
    const std::size_t shared = config.shared_d_ff * d;
    const Values shared_gate = generate(6, amplitude, shared);
    const Values shared_up = generate(7, amplitude, shared);
    const Values shared_down = generate(8, amplitude, shared);
    if (shared != 0) {
        given.shared = moe::shared_weights(config, experts(shared_gate, shared_up, shared_down, 1, config.shared_d_ff));
    }
    const auto golden =
        moe::SafetensorsFile::open(std::string(MOE_TEST_DATA_DIR) + "/golden/fullsize/" + name + ".safetensors");
    const moe::AnyLayer<float> layer = moe::make_layer(config, given);
    check_layer(layer, golden, x, n_tokens);

    const auto packed = moe::pack(layer, Threads{});
    gate.reset();  // the packed layer must not look at them again
    up.reset();
    down.reset();
    check_layer(packed, golden, x, n_tokens);
    CHECK(peak_memory_gib() < 14.0);
}

}  // namespace

TEST_CASE("a DeepSeek-V2-Lite layer at full size") {
    check_model("deepseek_v2_lite", moe::presets::deepseek_v2_lite(), 48);
}

TEST_CASE("a Qwen3-30B-A3B layer at full size") { check_model("qwen3_30b_a3b", moe::presets::qwen3_moe(), 48); }

TEST_CASE("a Mixtral 8x7B layer at full size") { check_model("mixtral_8x7b", moe::presets::mixtral(), 24); }

}  // namespace moe_test::fullsize_test
