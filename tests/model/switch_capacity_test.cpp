// Switch Transformers with its capacity against the stored block of HF transformers: 29 tokens fit in the 64 places of
// an expert, so that the stored weights are those of a router that drops nobody.

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include <moe/gating/adaptors/capacity_presets.hpp>
#include <moe/io.hpp>

#include "gating/gate_support.hpp"
#include "support/catch.hpp"

namespace moe_test::switch_capacity_test {

namespace {

struct SwitchBlock {
    static constexpr std::size_t n_tokens = 29;
    static constexpr std::size_t n_experts = 8;
    std::vector<double> logits;   // (n_tokens, n_experts)
    std::vector<double> weights;  // (n_tokens) as stored
};

SwitchBlock read_block() {
    const auto file =
        moe::SafetensorsFile::open(std::string(MOE_TEST_DATA_DIR) + "/golden/blocks/switch_transformers.safetensors");
    const std::vector<double> x = file.at("input").to_double_vector();
    const std::vector<double> router = file.at("param.router.classifier.weight").to_double_vector();
    const std::size_t d_model = router.size() / SwitchBlock::n_experts;
    SwitchBlock block{{}, file.at("topk_weight").to_double_vector()};
    for (std::size_t t = 0; t < SwitchBlock::n_tokens; ++t) {
        for (std::size_t e = 0; e < SwitchBlock::n_experts; ++e) {
            double sum = 0;
            for (std::size_t i = 0; i < d_model; ++i) {
                sum += x[t * d_model + i] * router[e * d_model + i];
            }
            block.logits.push_back(sum);
        }
    }
    return block;
}

}  // namespace

TEST_CASE("golden Switch block behind a capacity") {
    const SwitchBlock block = read_block();
    REQUIRE(block.weights.size() == SwitchBlock::n_tokens);
    // The stored router ran in float32.
    constexpr double bound = 1e-6;
    const auto run = [&](std::size_t places) {
        return moe_test::choose_batch<double>(moe::switch_gate_fixed(places), block.logits, SwitchBlock::n_tokens,
                                              SwitchBlock::n_experts);
    };
    const auto roomy = run(64);
    for (std::size_t t = 0; t < SwitchBlock::n_tokens; ++t) {
        CHECK(roomy.experts[t] >= 0);
        CHECK(roomy.weights[t] == Approx(block.weights[t]).margin(bound));
    }
    const auto tight = run(3);
    std::vector<std::size_t> used(SwitchBlock::n_experts, 0);
    for (std::size_t t = 0; t < SwitchBlock::n_tokens; ++t) {
        const moe::ExpertId expert = roomy.experts[t];
        const bool fits = used[static_cast<std::size_t>(expert)]++ < 3;
        CHECK(tight.experts[t] == (fits ? expert : moe::dropped(expert)));
        CHECK(tight.weights[t] == roomy.weights[t]);
    }
    CHECK(*std::max_element(used.begin(), used.end()) > 3);
}

}  // namespace moe_test::switch_capacity_test
