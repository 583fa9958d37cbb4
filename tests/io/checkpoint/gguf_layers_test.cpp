#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <unistd.h>

#include "io/checkpoint/checkpoint_support.hpp"
#include "io/gguf_support.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"

/// GGUF files as checkpoints: those that ggml has written, and one made up for each architecture.
namespace moe_test::checkpoint_gguf_test {

namespace {

using namespace moe_test::checkpoint;
using moe::MoEConfig;
namespace presets = moe::presets;

constexpr std::size_t n_experts = 8;
constexpr std::size_t d_model = 32;
constexpr std::size_t d_ff = 64;
constexpr std::size_t shared_width = 96;

using Values = std::vector<moe::GgufValueToWrite>;

/// One architecture: which preset it is, what its metadata say beside sizes, and what that makes of the preset.
struct Row {
    std::string name;
    MoEConfig (*preset)();
    std::function<void(MoEConfig&)> change;
    Values more{};
    bool choice_bias = false;
    bool shared = false;
};

void none(MoEConfig&) {}
void sum(MoEConfig& config) { config.routing.normalize = true; }
void plain(MoEConfig& config) { config.routing.normalize = false; }
void sigmoid_sum(MoEConfig& config) {
    config.routing.score.kind = moe::ScoreKind::sigmoid;
    config.routing.normalize = moe::Normalize::sum(1e-20);
    config.routing.scale = 2.5;
    config.routing.groups = {};
}

std::vector<Row> rows() {
    const moe::GgufValueToWrite sigmoid{"expert_gating_func", std::uint64_t{2}};
    const moe::GgufValueToWrite norm{"expert_weights_norm", true};
    const moe::GgufValueToWrite scale{"expert_weights_scale", 2.5F};
    const auto unscaled = [](MoEConfig& config) { config.routing.scale = 1; };
    const auto grouped = [](MoEConfig& config) {
        sigmoid_sum(config);
        config.routing.groups.n_groups = 4;
        config.routing.groups.kept = 2;
    };
    const auto softmax = [](MoEConfig& config) {
        config.routing = {};
        config.routing.top_k = 2;
    };
    return {
        {"llama", presets::mixtral, none},
        {"qwen2moe", presets::qwen2_moe, plain, {}, false, true},
        {"qwen3moe", presets::qwen3_moe, sum},
        {"qwen3vlmoe", presets::qwen3_vl, sum},
        {"qwen3next", presets::qwen3_next, sum, {}, false, true},
        {"qwen35moe", presets::qwen3_5_moe, sum, {}, false, true},
        {"olmoe", presets::olmoe, plain},
        {"dbrx", presets::dbrx, none},
        {"hunyuan-moe", presets::hunyuan_v1, sum, {}, false, true},
        {"ernie4_5-moe", presets::ernie4_5_moe, none, {}, true, true},
        {"arctic", presets::arctic, sum},
        {"phimoe", presets::mixtral, sum},
        {"granitemoe", presets::granitemoe, none},
        {"granitehybrid", presets::granitemoehybrid, none, {}, false, true},
        {"grok", presets::grok_1, sum},
        {"gpt-oss", presets::gpt_oss, none},
        {"llama4", presets::llama4, none, {{"interleave_moe_layer_step", std::uint32_t{2}}}, false, true},
        {"deepseek", presets::deepseek_v2_lite, plain, {}, false, true},
        {"deepseek2", presets::deepseek_v2_lite, softmax, {}, false, true},
        {"deepseek2", presets::deepseek_v3, sigmoid_sum, {sigmoid, norm, scale}, true, true},
        {"deepseek2",
         presets::deepseek_v3,
         grouped,
         {sigmoid, norm, scale, {"expert_group_count", std::int32_t{4}}, {"expert_group_used_count", std::uint8_t{2}}},
         true,
         true},
        {"deepseek4",
         presets::deepseek_v4,
         sigmoid_sum,
         {sigmoid, norm, scale, {"swiglu_clamp_exp", std::vector<float>{0.0F, 10.0F}}},
         true,
         true},
        {"glm4moe",
         presets::glm4_moe,
         sigmoid_sum,
         {norm, scale, {"leading_dense_block_count", std::int64_t{1}}},
         true,
         true},
        {"glm-dsa", presets::glm_moe_dsa, sigmoid_sum, {norm, scale}, true, true},
        {"dots1", presets::dots1, sigmoid_sum, {norm, scale}, true, true},
        {"bailingmoe", presets::bailing_moe, sum, {norm}, false, true},
        {"bailingmoe2", presets::bailing_moe_v2, sigmoid_sum, {norm, scale}, true, true},
        {"minimax-m2", presets::minimax_m2, none, {sigmoid}, true},
        {"lfm2moe", presets::lfm2_moe, none, {}, true},
        {"afmoe", presets::afmoe, sigmoid_sum, {norm, scale}, true, true},
        {"exaone-moe", presets::exaone_moe, sigmoid_sum, {norm, scale}, true, true},
        {"mimo2", presets::mimo_v2_flash, unscaled, {norm}, true},
        {"nemotron_h_moe", presets::nemotron_h, sigmoid_sum, {norm, scale}, true, true},
        {"jamba", presets::jamba, plain},
    };
}

/// A made-up model of two blocks, the second of which is looked at.
class Made {
public:
    /// `type` of the experts, "mixed" for one type for each projection.
    Made(const Row& row, const std::string& type, Draw& draw) : config_(row.preset().in_gguf()) {
        config_.n_experts = n_experts;
        config_.d_model = d_model;
        config_.d_ff = d_ff;
        config_.routing.top_k = config_.routing.top_k > 1 ? 2 : 1;
        config_.shared_d_ff = row.shared ? shared_width : 0;
        config_.selection_bias = row.choice_bias;
        row.change(config_);
        const bool gated = config_.form.gated();
        router_ = add("ffn_gate_inp.weight", {n_experts, d_model}, "F32", draw);
        gate_ = gated ? add("ffn_gate_exps.weight", {n_experts, d_ff, d_model}, type == "mixed" ? "F16" : type, draw)
                      : nullptr;
        up_ = add("ffn_up_exps.weight", {n_experts, d_ff, d_model}, type == "mixed" ? "BF16" : type, draw);
        down_ = add("ffn_down_exps.weight", {n_experts, d_model, d_ff}, type == "mixed" ? "Q8_0" : type, draw);
        if (config_.expert_bias) {
            router_bias_ = add("ffn_gate_inp.bias", {n_experts}, "F32", draw);
            gate_bias_ = add("ffn_gate_exps.bias", {n_experts, d_ff}, "F32", draw);
            up_bias_ = add("ffn_up_exps.bias", {n_experts, d_ff}, "F32", draw);
            down_bias_ = add("ffn_down_exps.bias", {n_experts, d_model}, "F32", draw);
        }
        choice_bias_ = row.choice_bias ? add("exp_probs_b.bias", {n_experts}, "F32", draw) : nullptr;
        if (row.shared) {
            shared_gate_ = gated ? add("ffn_gate_shexp.weight", {shared_width, d_model}, "F32", draw) : nullptr;
            shared_up_ = add("ffn_up_shexp.weight", {shared_width, d_model}, "F32", draw);
            shared_down_ = add("ffn_down_shexp.weight", {d_model, shared_width}, "F32", draw);
        }
        if (config_.shared_mode == moe::SharedMode::gated) {
            gate_of_shared_ = add("ffn_gate_inp_shexp.weight", {d_model}, "F32", draw);
        }
        const auto value = [&](const std::string& key, moe::GgufMetadataValue what) {
            metadata_.push_back({row.name + "." + key, std::move(what)});
        };
        metadata_.push_back({"general.architecture", row.name});
        value("block_count", std::uint32_t{2});
        value("embedding_length", std::uint64_t{d_model});
        value("expert_count", std::int32_t{n_experts});
        const auto chosen = static_cast<std::uint32_t>(config_.routing.top_k);
        value("expert_used_count", std::vector<std::uint32_t>{1, chosen});
        if (row.name == "qwen3moe") {
            value("feed_forward_length", std::uint32_t{d_ff} * chosen);
        } else if (row.name == "llama" || row.name == "olmoe" || row.name == "grok" || row.name == "dbrx") {
            value("feed_forward_length", std::uint16_t{d_ff});
        } else {
            value("feed_forward_length", std::uint32_t{100});
            value("expert_feed_forward_length", std::vector<std::int32_t>{7, d_ff});
        }
        for (const moe::GgufValueToWrite& one : row.more) {
            value(one.key, one.value);
        }
        if (row.more.empty()) {
            value("leading_dense_block_count", std::uint32_t{1});
        }
    }

    [[nodiscard]] moe::AnyLayer<float> layer() const {
        moe::LayerWeights<float> weights;
        weights.router = moe::view(router_->data(), n_experts, d_model);
        const auto stack = [](const std::vector<float>* values, std::size_t n, std::size_t rows, std::size_t columns) {
            return values == nullptr ? moe::WeightStack<float>() : moe::stacked(values->data(), n, rows, columns);
        };
        weights.experts = {stack(gate_, n_experts, d_ff, d_model), stack(up_, n_experts, d_ff, d_model),
                           stack(down_, n_experts, d_model, d_ff), stack(gate_bias_, n_experts, d_ff, 1),
                           stack(up_bias_, n_experts, d_ff, 1),    stack(down_bias_, n_experts, d_model, 1)};
        weights.shared = {stack(shared_gate_, 1, shared_width, d_model),
                          stack(shared_up_, 1, shared_width, d_model),
                          stack(shared_down_, 1, d_model, shared_width),
                          {},
                          {},
                          {}};
        weights.shared_gate = stack(gate_of_shared_, 1, 1, d_model);
        if (router_bias_ != nullptr) {
            weights.router_bias = *router_bias_;
        }
        if (choice_bias_ != nullptr) {
            weights.selection_bias = *choice_bias_;
        }
        return moe::make_layer(config_, weights);
    }

    void write(const std::string& path) const { moe::write_gguf(path, tensors_, metadata_); }
    [[nodiscard]] std::size_t n_tensors() const { return tensors_.size(); }

private:
    const std::vector<float>* add(const std::string& name, std::vector<std::size_t> shape, const std::string& type,
                                  Draw& draw) {
        std::size_t count = 1;
        for (const std::size_t extent : shape) {
            count *= extent;
        }
        const std::vector<float>& kept = values_.emplace_back(values(draw, count));
        std::vector<std::byte>& bytes = bytes_.emplace_back();
        const auto put = [&](const auto& value) {
            bytes.resize(bytes.size() + sizeof value);
            std::memcpy(bytes.data() + bytes.size() - sizeof value, &value, sizeof value);
        };
        for (std::size_t i = 0; i < count; ++i) {
            if (type == "F32") {
                put(kept[i]);
            } else if (type == "F16") {
                put(moe::to_float16(kept[i]));
            } else if (type == "BF16") {
                put(moe::to_bfloat16(kept[i]));
            } else {
                if (i % 32 == 0) {
                    put(moe::to_float16(1.0F / 32));
                }
                put(static_cast<std::int8_t>(kept[i] * 32));
            }
        }
        tensors_.push_back({"blk.1." + name, moe::find_block_type(type), std::move(shape), bytes});
        return &kept;
    }

    MoEConfig config_;
    std::deque<std::vector<float>> values_;
    std::deque<std::vector<std::byte>> bytes_;
    std::vector<moe::GgufTensorToWrite> tensors_;
    Values metadata_;
    const std::vector<float>*router_, *gate_, *up_, *down_, *choice_bias_;
    const std::vector<float>*router_bias_ = nullptr, *gate_bias_ = nullptr, *up_bias_ = nullptr, *down_bias_ = nullptr;
    const std::vector<float>*shared_gate_ = nullptr, *shared_up_ = nullptr, *shared_down_ = nullptr;
    const std::vector<float>* gate_of_shared_ = nullptr;
};

/// Expert ids, in order.
std::vector<std::int32_t> sorted(std::vector<std::int32_t> ids) {
    std::sort(ids.begin(), ids.end());
    return ids;
}

std::size_t resident_bytes() {
    std::ifstream file("/proc/self/statm");
    std::size_t all = 0;
    std::size_t resident = 0;
    file >> all >> resident;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("a GGUF file of each architecture is the layer that its weights compose", "[io][checkpoint]") {
    Draw draw(23);
    const moe_test::TemporaryDirectory folder;
    const std::string path = folder.file("model.gguf");
    for (const Row& row : rows()) {
        for (const char* const type : {"F32", "Q8_0", "mixed"}) {
            INFO(row.name << " " << row.more.size() << " " << type);
            const Made made(row, type, draw);
            made.write(path);
            const auto checkpoint = moe::Checkpoint::open(path);
            REQUIRE(checkpoint.n_layers() == 2);
            REQUIRE(checkpoint.is_sparse(1));
            const std::vector<float> x = values(draw, 5 * d_model);
            const std::vector<float> wanted = outputs_of(made.layer(), x);
            CHECK(moe_test::same_bits(outputs_of(checkpoint.layer(1), x), wanted));
            const auto packed =
                checkpoint.pack(1, moe::Format::as_stored, moe_test::ThreadExecutor(2), moe::Compute::exact);
            CHECK(moe_test::same_bits(outputs_of(packed, x), wanted));
            CHECK(checkpoint.tensors(1).size() == made.n_tensors());
        }
    }
}

TEST_CASE("layers that ggml has written are those of its values, in place and packed", "[io][checkpoint]") {
    const std::string folder = std::string(MOE_TEST_DATA_DIR) + "/golden/quantised/layers/";
    for (const std::string name : {"mixtral_q4_k_m", "qwen3moe_q8_0", "gpt_oss_mxfp4"}) {
        const auto checkpoint = moe::Checkpoint::open(folder + name + ".gguf");
        const auto file = moe::GgufFile::open(folder + name + ".gguf");
        const auto expected = moe::SafetensorsFile::open(folder + name + ".expected.safetensors");
        const std::vector<float> x = expected.at("x").to_float_vector();
        for (std::size_t i = 0; i < checkpoint.n_layers(); ++i) {
            INFO(name << " " << i);
            const std::string prefix = "blk." + std::to_string(i) + ".";
            const std::vector<double> wanted = expected.at(prefix + "y").to_double_vector();
            const auto ids = expected.at(prefix + "ids").to_vector<std::int32_t>();
            const moe::AnyLayer<float> layer = checkpoint.layer(i);
            CHECK(moe_test::nmse(outputs_of(layer, x), wanted) <= 1e-12);
            std::size_t bytes = 0;
            for (const moe::GgufTensor& tensor : file.tensors()) {
                bytes +=
                    tensor.name.starts_with(prefix) && tensor.name.ends_with("_exps.weight") ? tensor.bytes.size() : 0;
            }
            REQUIRE(bytes > 0);
            CHECK(brings_experts(checkpoint, i, x, outputs_of(layer, x), bytes / checkpoint.config(i).n_experts));
            CHECK(moe_test::nmse(outputs_of(checkpoint.pack(i, moe::Format::float32), x), wanted) <= 1e-12);
            const auto as_stored = [&](moe::Compute compute) {
                return outputs_of(checkpoint.pack(i, moe::Format::as_stored, moe::SerialExecutor{}, compute), x);
            };
            CHECK(moe_test::same_bits(as_stored(moe::Compute::exact), outputs_of(layer, x)));
            const std::vector<float> integers = outputs_of(checkpoint.pack(i), x);
            CHECK(moe_test::same_bits(as_stored(moe::Compute::int8), integers));
            CHECK(moe_test::nmse(integers, wanted) <= 2e-4);
            CHECK(moe_test::nmse(integers, wanted) >= 1e-7);
            CHECK(moe_test::nmse(as_stored(moe::Compute::bf16), wanted) <= 2e-5);
            moe::Workspace workspace;
            moe::RoutingPlan<float> plan;
            const std::size_t n_tokens = x.size() / layer.d_model();
            const std::size_t k = ids.size() / n_tokens;
            layer.route(moe::view(x.data(), n_tokens, layer.d_model()), plan, workspace);
            for (std::size_t t = 0; t < n_tokens; ++t) {
                const auto chosen = plan.view().experts_of(t);
                const auto first = ids.begin() + static_cast<std::ptrdiff_t>(t * k);
                CHECK(sorted({chosen.begin(), chosen.end()}) ==
                      sorted({first, first + static_cast<std::ptrdiff_t>(k)}));
            }
        }
    }
}

TEST_CASE("a GGUF file of 60 GB opens without being read", "[io][checkpoint]") {
    using namespace moe_test::raw_gguf;
    const auto metadata = [](const char* key, std::uint32_t value) {
        return u32_entry(std::string("llama.") + key, value);
    };
    constexpr std::uint64_t n = 86;
    constexpr std::uint64_t wide = 14336;
    constexpr std::uint64_t narrow = 4096;
    constexpr std::uint64_t bytes = n * wide * narrow * 4;  // of each projection
    const Bytes header = file({entry("general.architecture", 8, text("llama")), metadata("block_count", 1),
                               metadata("embedding_length", narrow), metadata("feed_forward_length", wide),
                               metadata("expert_count", n), metadata("expert_used_count", 2)},
                              {tensor("blk.0.ffn_gate_exps.weight", {narrow, wide, n}, 0, 0),
                               tensor("blk.0.ffn_up_exps.weight", {narrow, wide, n}, 0, bytes),
                               tensor("blk.0.ffn_down_exps.weight", {wide, narrow, n}, 0, 2 * bytes),
                               tensor("blk.0.ffn_gate_inp.weight", {narrow, n}, 0, 3 * bytes)});
    const moe_test::TemporaryDirectory folder;
    const std::string path = folder.file("large.gguf");
    moe_test::write_file(path, header);
    std::error_code refused;
    std::filesystem::resize_file(path, header.size() + 3 * bytes + n * narrow * 4, refused);
    if (refused) {
        WARN("skipped: the file system holds no file of 60 GB with nothing in it: " << refused.message());
        return;
    }
    const std::size_t before = resident_bytes();
    REQUIRE(before > 0);
    const auto checkpoint = moe::Checkpoint::open(path);
    const moe::AnyLayer<float> layer = checkpoint.layer(0);
    CHECK(layer.d_model() == narrow);
    CHECK(resident_bytes() < before + (std::size_t{64} << 20U));
}

}  // namespace moe_test::checkpoint_gguf_test
