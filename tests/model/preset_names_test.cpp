#include <set>
#include <string>

#include "moe/model/presets.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::preset_names_test {

using moe_test::contains;
using moe_test::error_of;

namespace {

std::string found(const char* name) { return moe::presets::find(name).name; }

std::string refusal(const char* name) {
    const auto error = error_of([&] { (void)moe::presets::find(name); });
    CHECK(error.code == moe::ErrorCode::not_found);
    return error.text;
}

}  // namespace

TEST_CASE("presets are found under the names people use", "[config][presets]") {
    CHECK(found("mixtral") == "mixtral");
    CHECK(found("MixtralForCausalLM") == "mixtral");
    CHECK(found("Mixtral-8x7B-v0.1") == "Mixtral-8x7B-v0.1");
    CHECK(found("mistralai/Mixtral-8x7B-Instruct-v0.1") == "Mixtral-8x7B-v0.1");
    CHECK(found("mixtral_8x7b") == "Mixtral-8x7B-v0.1");
    CHECK(found("qwen/QWEN3 30B a3b") == "Qwen3-30B-A3B");
    CHECK(found("Qwen3-30B-A3B-Instruct-2507-FP8") == "Qwen3-30B-A3B");
    CHECK(found("Qwen3MoeForCausalLM") == "qwen3_moe");
    CHECK(found("Qwen3VLMoeForConditionalGeneration") == "qwen3_vl_moe");
    CHECK(found("deepseek-ai/DeepSeek-V3-0324") == "deepseek_v3");
    CHECK(found("moonshotai/Kimi-K2-Instruct-0905") == "Kimi-K2");
    CHECK(found("rednote-hilab/dots.llm1.inst") == "dots.llm1");
    CHECK(found("skt/A.X-K1") == "axk1");
    CHECK(found("CohereLabs/command-a-plus-05-2026") == "command-a-plus");
    CHECK(found("microsoft/Phi-3.5-MoE-instruct") == "Phi-3.5-MoE");
    CHECK(found("ai21labs/Jamba-v0.1") == "jamba");
    CHECK(found("zai-org/GLM-4.5") == "GLM-4.5");
    CHECK(found("MiniMaxM2ForCausalLM") == "minimax_m2");
    CHECK(found("tencent/Hy4-preview") == "Hy4");
    for (const char* const name : {"qwen3_next",
                                   "glm4_moe",
                                   "deepseek_v4",
                                   "jamba",
                                   "minimax_m3",
                                   "hunyuan_v1",
                                   "afmoe",
                                   "cohere2_moe",
                                   "hy_v3",
                                   "hy_v4",
                                   "kimi_linear",
                                   "mistral4",
                                   "laguna",
                                   "lfm2_moe",
                                   "aria",
                                   "axk2",
                                   "dots1",
                                   "step3p7",
                                   "openai_privacy_filter",
                                   "arctic",
                                   "grok_1",
                                   "bailing",
                                   "qwen3_vl",
                                   "granitemoehybrid",
                                   "granitemoeshared",
                                   "hunyuan_v1_moe"}) {
        CHECK(found(name) == name);
    }
}

TEST_CASE("a checkpoint has its own sizes", "[config][presets]") {
    const auto sizes = [](const char* name, std::size_t n_experts, int top_k, std::size_t d_model, std::size_t d_ff,
                          std::size_t shared_d_ff) {
        INFO(name);
        const moe::MoEConfig config = moe::presets::find(name);
        CHECK(config.n_experts == n_experts);
        CHECK(config.routing.top_k == top_k);
        CHECK(config.d_model == d_model);
        CHECK(config.d_ff == d_ff);
        CHECK(config.shared_d_ff == shared_d_ff);
        return config;
    };
    sizes("Qwen3-30B-A3B", 128, 8, 2048, 768, 0);
    CHECK(sizes("Qwen3-235B-A22B", 128, 8, 4096, 1536, 0).routing.normalize.kind == moe::Normalize::Kind::sum);
    sizes("gpt-oss-20b", 32, 4, 2880, 2880, 0);
    CHECK(sizes("openai/gpt-oss-120b", 128, 4, 2880, 2880, 0).router_bias);
    sizes("Mixtral-8x22B-Instruct-v0.1", 8, 2, 6144, 16384, 0);
    sizes("Llama-4-Maverick-17B-128E-Instruct", 128, 1, 5120, 8192, 8192);
    sizes("granite-4.0-h-tiny", 64, 6, 1536, 512, 1024);
    const moe::MoEConfig kimi = sizes("Kimi-K2-Instruct", 384, 8, 7168, 2048, 2048);
    CHECK(kimi.routing.scale == 2.827);
    CHECK(kimi.routing.groups.n_groups == 1);
    CHECK(sizes("GLM-4.5-Air", 128, 8, 4096, 1408, 1408).routing.scale == 1);
    CHECK(sizes("Laguna-S-2.1", 256, 10, 3072, 1024, 1024).routed_scale == 2.5);
}

TEST_CASE("every checkpoint is found under its own name and nothing else is", "[config][presets]") {
    std::set<std::string> plain;
    for (moe::MoEConfig (*preset)() : moe::presets::all) {
        const std::string name = preset().name;
        INFO(name);
        CHECK(plain.insert(moe::presets::detail::plain_name(name)).second);
        CHECK(found(name.c_str()) == name);
    }
    for (const moe::presets::Checkpoint& checkpoint : moe::presets::checkpoints) {
        INFO(checkpoint.name);
        CHECK(plain.insert(moe::presets::detail::plain_name(checkpoint.name)).second);
        CHECK(found(checkpoint.name) == checkpoint.name);
        CHECK_NOTHROW(checkpoint.config().validate());
    }
}

TEST_CASE("an unknown name suggests the nearest and no long list", "[config][presets]") {
    CHECK_THAT(refusal("mixtrall"), contains("no preset is called mixtrall; the nearest are mixtral,"));
    CHECK_THAT(refusal("Qwen3-30B"), contains("the nearest are Qwen3-30B-A3B,"));
    CHECK_THAT(refusal("deepseek_v33"), contains("DeepSeek-V3.1") || contains("deepseek_v3"));
    CHECK_THAT(refusal("Nous-Hermes-2-Mixtral-8x7B-DPO"), contains("the nearest are Mixtral-8x7B-v0.1,"));
    CHECK_THAT(refusal("GLM-4.6"), contains("GLM-4.5"));
    CHECK_THAT(refusal("gpt-oss-21b"), contains("the nearest are gpt-oss-20b,"));
    CHECK(refusal("").size() < 100);
    CHECK(refusal("a model of another kind").size() < 150);
}

}  // namespace moe_test::preset_names_test
