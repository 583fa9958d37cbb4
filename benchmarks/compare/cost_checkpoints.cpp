#include "cost_checkpoints.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace compare {

namespace {

/// Projections of grouped-query attention. Biases: of queries, keys and values; of the output.
constexpr double attention(double d_model, double heads, double kv_heads, double head_dim, bool qkv_bias = false,
                           bool output_bias = false) {
    return 2 * d_model * (heads + kv_heads) * head_dim + (qkv_bias ? (heads + 2 * kv_heads) * head_dim : 0) +
           (output_bias ? d_model : 0);
}

/// Multi-head latent attention (DeepSeek-V2, section 2.1) with keys of 128 + 64, values of 128 and a latent of 512;
/// `query_rank` 0: queries without a latent.
constexpr double latent_attention(double d_model, double heads, double query_rank) {
    const double query = heads * (128 + 64);
    const double queries = query_rank > 0 ? query_rank * (d_model + 1 + query) : d_model * query;
    return queries + d_model * (512 + 64) + 512 + 512 * heads * (128 + 128) + heads * 128 * d_model;
}

constexpr double swiglu(double d_model, double d_ff) { return 3 * d_model * d_ff; }

/// All of the embeddings active, or only the matrix of the output.
constexpr moe::OtherParameters counting_input(double body, double embedding) {
    return {body + 2 * embedding, body + 2 * embedding};
}
constexpr moe::OtherParameters without_input(double body, double embedding) {
    return {body + 2 * embedding, body + embedding};
}
/// One matrix for input and output.
constexpr moe::OtherParameters tied(double body, double embedding) { return {body + embedding, body + embedding}; }

constexpr moe::ExpertSizes sizes(std::size_t layers, std::size_t experts, double per_token, std::size_t d_model,
                                 std::size_t d_ff, std::size_t shared_d_ff = 0) {
    return {.n_layers = layers,
            .n_experts = experts,
            .experts_per_token = per_token,
            .d_model = d_model,
            .d_ff = d_ff,
            .shared_d_ff = shared_d_ff};
}

constexpr moe::ExpertSizes with_router_bias(moe::ExpertSizes of) {
    of.router_bias = true;
    return of;
}

constexpr moe::ExpertSizes with_biases(moe::ExpertSizes of) {
    of.biases = true;
    return with_router_bias(of);
}

constexpr moe::ExpertSizes with_shared_gate(moe::ExpertSizes of) {
    of.shared_gates = 1;
    return of;
}

constexpr moe::ExpertSizes not_gated(moe::ExpertSizes of) {
    of.gated = false;
    return of;
}

/// Two norms a layer and one at the end.
constexpr double norms(double layers, double d_model) { return (2 * layers + 1) * d_model; }

/// With a norm of queries and one of keys, each of one head.
constexpr moe::OtherParameters qwen3(double layers, double d_model, double heads) {
    return counting_input(layers * (attention(d_model, heads, 4, 128) + 2 * 128) + norms(layers, d_model),
                          151936 * d_model);
}

constexpr moe::OtherParameters mixtral(double layers, double d_model, double heads, double vocabulary) {
    return counting_input(layers * attention(d_model, heads, 8, 128) + norms(layers, d_model), vocabulary * d_model);
}

/// Grouped-query attention in all layers, with biases and norms of queries and keys of one head or without, and dense
/// layers first.
constexpr double body(double layers, double d_model, double heads, double kv_heads, double dense_layers = 0,
                      double dense_d_ff = 0, bool qkv_bias = false, bool head_norms = false) {
    return layers * (attention(d_model, heads, kv_heads, 128, qkv_bias) + (head_norms ? 2 * 128 : 0)) +
           dense_layers * swiglu(d_model, dense_d_ff) + norms(layers, d_model);
}

/// Some dense layers first.
constexpr moe::OtherParameters deepseek(double layers, double d_model, double heads, double query_rank,
                                        double dense_layers, double dense_d_ff, double vocabulary) {
    return without_input(layers * latent_attention(d_model, heads, query_rank) +
                             dense_layers * swiglu(d_model, dense_d_ff) + norms(layers, d_model),
                         vocabulary * d_model);
}

/// With one sink a head.
constexpr moe::OtherParameters gpt_oss(double layers) {
    return without_input(layers * (attention(2880, 64, 8, 64, true, true) + 64) + norms(layers, 2880), 201088 * 2880.0);
}

/// T5 with an encoder and a decoder of 12 layers, every second of them with experts: 36 blocks of attention, since the
/// decoder has two a layer, 62 norms, two tables of relative positions.
constexpr moe::OtherParameters switch_base() {
    return tied(36 * 4 * 768.0 * 768 + 12 * 2 * 768.0 * 3072 + 62 * 768 + 2 * 32 * 12, 32128 * 768.0);
}

/// Norms of queries and keys as wide as all heads.
constexpr moe::OtherParameters olmoe() {
    return counting_input(16 * (attention(2048, 16, 16, 128) + 2 * 2048) + norms(16, 2048), 50304 * 2048.0);
}

constexpr moe::OtherParameters minimax_m2() {
    return without_input(62 * (attention(3072, 48, 8, 128) + (48 + 8) * 128) + norms(62, 3072), 200064 * 3072.0);
}

/// Norms with a bias, and a bias of the output.
constexpr moe::OtherParameters phi() {
    return counting_input(32 * attention(4096, 32, 8, 128, true, true) + 2 * norms(32, 4096) + 32064, 32064 * 4096.0);
}

/// Queries and output of attention are 8 experts as well, of which a token takes two; keys and values, the router, the
/// output's biases and the norms are there for all.
constexpr moe::OtherParameters jetmoe() {
    const double expert = 2 * 2048.0 * 2048;
    const double rest = 2048 * 2 * 2048.0 + 8 * 2048 + 2 * 2048;
    const auto others = [&](double experts) {
        return 24 * (experts * expert + rest) + norms(24, 2048) + 32000 * 2048.0;
    };
    return {others(8), others(2)};
}

/// Four layers of attention, 28 of Mamba (8192 channels of 16 states, a step of rank 256), 16 dense networks.
constexpr moe::OtherParameters jamba() {
    const double inner = 8192;
    const double mamba = 3 * 4096 * inner + 5 * inner + (256 + 2 * 16) * inner + 257 * inner + 17 * inner + 288;
    const double layers = 4 * attention(4096, 32, 8, 128) + 28 * mamba + 16 * swiglu(4096, 14336);
    return counting_input(layers + norms(32, 4096), 65536 * 4096.0);
}

/// 18 layers of short convolutions, 6 of attention, two dense networks.
constexpr moe::OtherParameters lfm2() {
    const double convolutions = 18 * (4 * 2048.0 * 2048 + 3 * 2048);
    const double layers = convolutions + 6 * (attention(2048, 32, 8, 64) + 2 * 64) + 2 * swiglu(2048, 7168);
    return tied(layers + norms(24, 2048), 65536 * 2048.0);
}

/// Every fourth layer of attention with 2 heads of keys and values of 256 and a gate of the output, the others of a
/// gated delta rule with 16 heads of keys, all of 128.
constexpr moe::OtherParameters qwen3_next(double layers, double d_model, double heads, double value_heads,
                                          double vocabulary) {
    const double full = d_model * 256 * (3 * heads + 2 * 2) + 2 * 256;
    const double keys = 16 * 128;
    const double values = value_heads * 128;
    const double linear =
        d_model * (2 * keys + 3 * values + 2 * value_heads) + 4 * (2 * keys + values) + 2 * value_heads + 128;
    return without_input(layers / 4 * (full + 3 * linear) + norms(layers, d_model), vocabulary * d_model);
}

/// 10 layers of attention, 70 of linear attention with a gate of the output.
constexpr moe::OtherParameters minimax_text() {
    const double layers = 10 * attention(6144, 64, 8, 128) + 70 * (5 * 6144 * 8192.0 + 8192);
    return without_input(layers + norms(80, 6144), 200064 * 6144.0);
}

/// A dense network as wide as the model beside every mixture.
constexpr moe::OtherParameters arctic() {
    return counting_input(body(35, 7168, 56, 8) + 35 * (swiglu(7168, 7168) + 7168), 32000 * 7168.0);
}

/// A layer is two of attention, two dense networks and one mixture; its router also chooses among 256 experts that do
/// nothing, so that of 12 chosen ones 8 compute in the mean.
constexpr moe::OtherParameters longcat() {
    const double d_model = 6144;
    const double twice = latent_attention(d_model, 64, 1536) + swiglu(d_model, 12288) + 2 * d_model;
    return without_input(28 * (2 * twice + 256 * d_model + 768) + d_model, 131072 * d_model);
}

constexpr std::array all_checkpoints{
    Checkpoint{"Switch-base-8", "switch_transformer switch_transformers switch-base-8",
               not_gated(sizes(12, 8, 1, 768, 3072)), switch_base()},
    Checkpoint{"Granite-3.0-1B-A400M", "granitemoe granite-3.0-1b-a400m granite-1b-a400m", sizes(24, 32, 8, 1024, 512),
               tied(24 * attention(1024, 16, 8, 64) + norms(24, 1024), 49155 * 1024.0)},
    Checkpoint{"Granite-3.0-3B-A800M", "granite-3.0-3b-a800m", sizes(32, 40, 8, 1536, 512),
               tied(32 * attention(1536, 24, 8, 64) + norms(32, 1536), 49155 * 1536.0)},
    Checkpoint{"OLMoE-1B-7B", "olmoe olmoe-1b-7b", sizes(16, 64, 8, 2048, 1024), olmoe()},
    Checkpoint{"LFM2-8B-A1B", "lfm2_moe", with_router_bias(sizes(22, 32, 4, 2048, 1792)), lfm2()},
    Checkpoint{"JetMoE-8B", "jetmoe", sizes(24, 8, 2, 2048, 5632), jetmoe()},
    Checkpoint{"Qwen1.5-MoE-A2.7B", "qwen2_moe", with_shared_gate(sizes(24, 60, 4, 2048, 1408, 5632)),
               counting_input(body(24, 2048, 16, 16, 0, 0, true), 151936 * 2048.0)},
    Checkpoint{"DeepSeek-V2-Lite", "deepseek_v2_lite deepseek-v2-lite", sizes(26, 64, 6, 2048, 1408, 2816),
               deepseek(27, 2048, 16, 0, 1, 10944, 102400)},
    Checkpoint{"Moonlight-16B-A3B", "", with_router_bias(sizes(26, 64, 6, 2048, 1408, 2816)),
               deepseek(27, 2048, 16, 0, 1, 11264, 163840)},
    Checkpoint{"Ling-mini-2.0", "bailing_moe_v2 Ring-mini-2.0", with_router_bias(sizes(19, 256, 8, 2048, 512, 512)),
               counting_input(body(20, 2048, 16, 4, 1, 5120, false, true), 157184 * 2048.0)},
    Checkpoint{"gpt-oss-20b", "gpt_oss", with_biases(sizes(24, 32, 4, 2880, 2880)), gpt_oss(24)},
    Checkpoint{"ERNIE-4.5-21B-A3B", "ernie4_5_moe", with_router_bias(sizes(27, 64, 6, 2560, 1536, 3072)),
               tied(body(28, 2560, 20, 4, 1, 12288), 103424 * 2560.0)},
    Checkpoint{"Qwen3-30B-A3B", "qwen3_moe qwen3-30b-a3b qwen3_vl qwen3_vl_moe Qwen3-VL-30B-A3B",
               sizes(48, 128, 8, 2048, 768), qwen3(48, 2048, 32)},
    Checkpoint{"Qwen3.5-35B-A3B", "qwen3_5_moe Qwen3.6-35B-A3B", with_shared_gate(sizes(40, 256, 8, 2048, 512, 512)),
               qwen3_next(40, 2048, 16, 32, 248320)},
    Checkpoint{"Phi-3.5-MoE", "phimoe", sizes(32, 16, 2, 4096, 6400), phi()},
    Checkpoint{"Mixtral-8x7B", "mixtral mixtral-8x7b Mixtral-8x7B-v0.1", sizes(32, 8, 2, 4096, 14336),
               mixtral(32, 4096, 32, 32000)},
    Checkpoint{"Jamba-v0.1", "jamba AI21-Jamba-v0.1", sizes(16, 16, 2, 4096, 14336), jamba()},
    Checkpoint{"Qwen2-57B-A14B", "", with_shared_gate(sizes(28, 64, 8, 3584, 2560, 20480)),
               counting_input(body(28, 3584, 28, 4, 0, 0, true), 151936 * 3584.0)},
    Checkpoint{"Qwen3-Next-80B-A3B", "qwen3_next", with_shared_gate(sizes(48, 512, 10, 2048, 512, 512)),
               qwen3_next(48, 2048, 16, 32, 151936)},
    Checkpoint{"Hunyuan-A13B", "hunyuan_v1 hunyuan_v1_moe", sizes(32, 64, 8, 4096, 3072, 3072),
               tied(body(32, 4096, 32, 8, 0, 0, false, true), 128167 * 4096.0)},
    Checkpoint{"Solar-Open-100B", "solar_open", with_router_bias(sizes(48, 128, 8, 4096, 1280, 1280)),
               counting_input(body(48, 4096, 64, 8), 196608 * 4096.0)},
    Checkpoint{"GLM-4.5-Air", "", with_router_bias(sizes(45, 128, 8, 4096, 1408, 1408)),
               without_input(body(46, 4096, 96, 8, 1, 10944, true), 151552 * 4096.0)},
    Checkpoint{"Llama-4-Scout", "llama4 Llama-4-Scout-17B-16E", sizes(48, 16, 1, 5120, 8192, 8192),
               counting_input(body(48, 5120, 40, 8), 202048 * 5120.0)},
    Checkpoint{"gpt-oss-120b", "", with_biases(sizes(36, 128, 4, 2880, 2880)), gpt_oss(36)},
    Checkpoint{"DBRX", "dbrx", sizes(40, 16, 4, 6144, 10752), counting_input(body(40, 6144, 48, 8), 100352 * 6144.0)},
    Checkpoint{"Mixtral-8x22B", "Mixtral-8x22B-v0.1", sizes(56, 8, 2, 6144, 16384), mixtral(56, 6144, 48, 32768)},
    Checkpoint{"dots.llm1", "dots1", with_router_bias(sizes(61, 128, 6, 4096, 1408, 2816)),
               counting_input(body(62, 4096, 32, 32, 1, 10944, false, true), 152064 * 4096.0)},
    Checkpoint{"MiniMax-M2", "minimax_m2", with_router_bias(sizes(62, 256, 8, 3072, 1536)), minimax_m2()},
    Checkpoint{"Qwen3-235B-A22B", "Qwen3-VL-235B-A22B", sizes(94, 128, 8, 4096, 1536), qwen3(94, 4096, 64)},
    Checkpoint{"DeepSeek-V2", "deepseek_v2", sizes(59, 160, 6, 5120, 1536, 3072),
               deepseek(60, 5120, 128, 1536, 1, 12288, 102400)},
    Checkpoint{"ERNIE-4.5-300B-A47B", "", with_router_bias(sizes(51, 64, 8, 8192, 3584)),
               without_input(body(54, 8192, 64, 8, 3, 28672), 103424 * 8192.0)},
    Checkpoint{"Grok-1", "grok_1", sizes(64, 8, 2, 6144, 32768),
               tied(body(64, 6144, 48, 8) + 2 * 64 * 6144, 131072 * 6144.0)},
    Checkpoint{"GLM-4.5", "glm4_moe", with_router_bias(sizes(89, 160, 8, 5120, 1536, 1536)),
               without_input(body(92, 5120, 96, 8, 3, 12288, true, true), 151552 * 5120.0)},
    Checkpoint{"Llama-4-Maverick", "Llama-4-Maverick-17B-128E", sizes(24, 128, 1, 5120, 8192, 8192),
               counting_input(body(48, 5120, 40, 8, 24, 16384), 202048 * 5120.0)},
    Checkpoint{"Qwen3.5-397B-A17B", "", with_shared_gate(sizes(60, 512, 10, 4096, 1024, 1024)),
               qwen3_next(60, 4096, 32, 64, 248320)},
    Checkpoint{"MiniMax-Text-01", "minimax", sizes(80, 32, 2, 6144, 9216), minimax_text()},
    Checkpoint{"Arctic", "arctic snowflake-arctic", sizes(35, 128, 2, 7168, 4864), arctic()},
    Checkpoint{"LongCat-Flash", "longcat_flash", sizes(28, 512, 8, 6144, 2048), longcat()},
    Checkpoint{"DeepSeek-V3", "deepseek_v3 deepseek-v3-slice DeepSeek-R1 DeepSeek-V3.1 DeepSeek-V3.2",
               with_router_bias(sizes(58, 256, 8, 7168, 2048, 2048)), deepseek(61, 7168, 128, 1536, 3, 18432, 129280)},
    Checkpoint{"Kimi-K2", "", with_router_bias(sizes(60, 384, 8, 7168, 2048, 2048)),
               deepseek(61, 7168, 64, 1536, 1, 18432, 163840)},
};

}  // namespace

std::span<const Checkpoint> checkpoints() noexcept { return all_checkpoints; }

const Checkpoint* find_checkpoint(std::string_view name, const moe::ExpertSizes& layer) {
    const auto means = [&](const Checkpoint& checkpoint) {
        const std::string also = " " + std::string(checkpoint.also) + " ";
        return checkpoint.name == name || also.find(" " + std::string(name) + " ") != also.npos;
    };
    const auto same_experts = [&](const moe::ExpertSizes& sizes) {
        return sizes.n_experts == layer.n_experts && sizes.experts_per_token == layer.experts_per_token &&
               sizes.d_model == layer.d_model && sizes.d_ff == layer.d_ff && sizes.shared_d_ff == layer.shared_d_ff &&
               sizes.gated == layer.gated;
    };
    const auto found = std::ranges::find_if(all_checkpoints, [&](const Checkpoint& checkpoint) {
        return means(checkpoint) && same_experts(checkpoint.sizes);
    });
    return found == all_checkpoints.end() ? nullptr : &*found;
}

}  // namespace compare
