#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/checkpoint/checkpoint_support.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

/// Folders as each architecture has them, against the same weights composed by hand.
namespace moe_test::hugging_face_test {

namespace {

using namespace moe_test::checkpoint;
using moe::DType;
using moe::JoinedAs;
using moe::MoEConfig;
using moe::StorageOrder;
namespace presets = moe::presets;

constexpr std::size_t n_experts = 8;
constexpr std::size_t d_model = 28;
constexpr std::size_t d_ff = 20;
constexpr std::size_t shared_width = 12;

/// How one architecture writes a layer.
struct Row {
    std::string type;
    MoEConfig (*preset)();
    std::vector<std::string> size_keys;  // experts, experts a token, width of an expert
    std::string place;                   // up to the router
    std::string router;
    std::vector<std::string> experts;   // gate, up, down, of each expert; or gate_up and down of all
    std::string bias{};                 // of the choice, or of the outputs
    std::vector<std::string> shared{};  // gate, up, down or gate_up, down; behind `place`, or whole names
    std::string extra{};                // more of config.json
};

const std::vector<std::string> local{"num_local_experts", "num_experts_per_tok", "intermediate_size"};
const std::vector<std::string> own{"num_experts", "num_experts_per_tok", "moe_intermediate_size"};
const std::vector<std::string> routed{"n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"};
const std::vector<std::string> by_w{"experts.#.w1", "experts.#.w3", "experts.#.w2"};
const std::vector<std::string> by_proj{"experts.#.gate_proj", "experts.#.up_proj", "experts.#.down_proj"};
const std::vector<std::string> fused{"experts.gate_up_proj", "experts.down_proj"};
const std::string correction = "gate.e_score_correction_bias";

std::vector<std::string> shared_in(const std::string& room) {
    return {room + ".gate_proj.weight", room + ".up_proj.weight", room + ".down_proj.weight"};
}

std::vector<Row> rows() {
    const std::string mlp = "model.layers.1.mlp.";
    const std::string sparse = "model.layers.1.block_sparse_moe.";
    const std::string forward = "model.layers.1.feed_forward.";
    const std::string gate = "gate.weight";
    const std::string qwen_shared = R"(,"shared_expert_intermediate_size":12)";
    const std::string one_shared = R"(,"n_shared_experts":1)";
    std::vector<Row> result{
        {"mixtral", presets::mixtral, local, sparse, gate, by_w},
        {"minimax_text_01", presets::minimax, local, sparse, gate, by_w},
        {"arctic", presets::arctic, local, sparse, gate, by_w, "", {}, R"(,"moe_layer_frequency":2)"},
        {"phimoe", presets::phimoe, local, sparse, gate, by_w},
        {"grok-1",
         presets::grok_1,
         own,
         "model.layers.1.moe_block.",
         gate,
         {"experts.#.linear", "experts.#.linear_v", "experts.#.linear_1"}},
        {"qwen2_moe", presets::qwen2_moe, own, mlp, gate, by_proj, "", shared_in("shared_expert"), qwen_shared},
        {"qwen3_moe", presets::qwen3_moe, own, mlp, gate, by_proj, "", {}, R"(,"norm_topk_prob":true)"},
        {"qwen3_vl_moe", presets::qwen3_vl, own, "model.language_model.layers.1.mlp.", gate, fused},
        {"qwen3_next", presets::qwen3_next, own, mlp, gate, by_proj, "", shared_in("shared_expert"), qwen_shared},
        {"qwen3_5_moe", presets::qwen3_5_moe, own, "model.language_model.layers.1.mlp.", gate, fused, "",
         shared_in("shared_expert"), qwen_shared},
        {"qwen4_exp", presets::qwen4_exp, own, mlp, gate, by_proj, "", shared_in("shared_expert"), qwen_shared},
        {"mellum", presets::mellum, own, mlp, gate, by_proj},
        {"olmoe", presets::olmoe, {"num_experts", "num_experts_per_tok", "intermediate_size"}, mlp, gate, by_proj},
        {"flex_olmo",
         presets::flex_olmo,
         {"num_experts", "num_experts_per_tok", "intermediate_size"},
         mlp,
         gate,
         by_proj},
        {"jamba",
         presets::jamba,
         {"num_experts", "num_experts_per_tok", "intermediate_size"},
         forward,
         "router.weight",
         by_proj,
         "",
         {},
         R"(,"expert_layer_period":2,"expert_layer_offset":1)"},
        {"hunyuan_v1_moe",
         presets::hunyuan_v1,
         {"num_experts", "moe_topk", "moe_intermediate_size"},
         mlp,
         "gate.wg.weight",
         by_proj,
         "",
         shared_in("shared_mlp"),
         R"(,"num_shared_expert":[1,1])"},
        {"bailing_moe", presets::bailing_moe, own, mlp, gate, by_proj, "", shared_in("shared_experts"),
         R"(,"num_shared_experts":1,"first_k_dense_replace":1)"},
        {"deepseek_v2", presets::deepseek_v2, routed, mlp, gate, by_proj, "", shared_in("shared_experts"),
         one_shared +
             R"(,"n_group":4,"topk_group":3,"topk_method":"group_limited_greedy","routed_scaling_factor":16.0)"},
        {"mistral4", presets::mistral4, routed, mlp, gate, by_proj, "", shared_in("shared_experts"), one_shared},
        {"ernie4_5_moe",
         presets::ernie4_5_moe,
         {"moe_num_experts", "moe_k", "moe_intermediate_size"},
         mlp,
         gate,
         by_proj,
         "moe_statics.e_score_correction_bias",
         shared_in("shared_experts"),
         R"(,"moe_num_shared_experts":1,"moe_layer_start_index":1,"moe_layer_end_index":-1)"},
        {"llama4", presets::llama4, local, "language_model.model.layers.1.feed_forward.", "router.weight", fused, "",
         shared_in("shared_expert"), R"(,"interleave_moe_layer_step":2)"},
        {"gemma4",
         presets::gemma4,
         {"num_experts", "top_k_experts", "moe_intermediate_size"},
         "model.language_model.layers.1.",
         "router.proj.weight",
         fused},
        {"gpt_oss", presets::gpt_oss, local, mlp, "router.weight", fused},
        {"openai_privacy_filter", presets::openai_privacy_filter, local, mlp, "router.weight", fused},
        {"granitemoe",
         presets::granitemoe,
         local,
         sparse,
         "router.layer.weight",
         {"input_linear.weight", "output_linear.weight"}},
        {"granitemoehybrid",
         presets::granitemoehybrid,
         local,
         sparse,
         "router.layer.weight",
         {"input_linear.weight", "output_linear.weight"},
         "",
         {"model.layers.1.shared_mlp.input_linear.weight", "model.layers.1.shared_mlp.output_linear.weight"},
         R"(,"shared_intermediate_size":12)"},
        {"jetmoe",
         presets::jetmoe,
         local,
         mlp,
         "router.layer.weight",
         {"input_linear.weight", "output_linear.weight"},
         "bias"},
        {"aria",
         presets::aria,
         {"moe_num_experts", "moe_topk", "intermediate_size"},
         "language_model.model.layers.1.mlp.",
         "router.weight",
         {"experts.fc1.weight", "experts.fc2.weight"},
         "",
         shared_in("shared_experts"),
         R"(,"moe_num_shared_experts":1)"},
        {"cohere2_moe",
         presets::cohere2_moe,
         {"num_experts", "num_experts_per_tok", "intermediate_size"},
         mlp,
         gate,
         by_proj,
         "",
         shared_in("shared_experts"),
         R"(,"num_shared_experts":1)"},
        {"deepseek_v4",
         presets::deepseek_v4,
         routed,
         "layers.1.ffn.",
         gate,
         by_w,
         "gate.bias",
         {"shared_experts.w1.weight", "shared_experts.w3.weight", "shared_experts.w2.weight"},
         one_shared + R"(,"scoring_func":"sqrtsoftplus","swiglu_limit":10.0,"num_hash_layers":1)"},
        {"longcat_flash",
         presets::longcat_flash,
         {"n_routed_experts", "moe_topk", "expert_ffn_hidden_size"},
         mlp,
         "router.classifier.weight",
         by_proj,
         "router.e_score_correction_bias",
         {},
         R"(,"zero_expert_num":4)"},
        {"kimi_linear",
         presets::kimi_linear,
         {"num_experts", "num_experts_per_token", "moe_intermediate_size"},
         sparse,
         gate,
         by_w,
         correction,
         shared_in("shared_experts"),
         R"(,"num_shared_experts":1,"moe_renormalize":true,"moe_router_activation_func":"sigmoid")"},
        {"nemotron_h",
         presets::nemotron_h,
         routed,
         "backbone.layers.1.mixer.",
         gate,
         {"", "experts.#.up_proj", "experts.#.down_proj"},
         correction,
         {"", "shared_experts.up_proj.weight", "shared_experts.down_proj.weight"},
         R"(,"moe_shared_expert_intermediate_size":12,"hybrid_override_pattern":"ME","time_step_limit":[0,Infinity])"},
        {"bailing_moe_v2", presets::bailing_moe_v2, own, mlp, gate, by_proj, "gate.expert_bias",
         shared_in("shared_experts"), R"(,"num_shared_experts":1,"n_group":4,"topk_group":2)"},
        {"afmoe", presets::afmoe, own, mlp, "router.gate.weight", by_proj, "expert_bias", shared_in("shared_experts"),
         R"(,"num_shared_experts":1,"num_dense_layers":1,"route_scale":2.826,"score_func":"sigmoid")"},
        {"lfm2_moe", presets::lfm2_moe, own, forward, gate, by_w, "expert_bias"},
        {"minimax_m2", presets::minimax_m2, local, sparse, gate, by_w, "e_score_correction_bias"},
        {"minimax_m3_vl", presets::minimax_m3, local, sparse, gate, by_w, "e_score_correction_bias",
         shared_in("shared_experts"), one_shared + R"(,"swiglu_limit":7.0,"routed_scaling_factor":2.0)"},
        {"step3p7",
         presets::step3p7,
         {"moe_num_experts", "moe_top_k", "moe_intermediate_size"},
         "model.layers.1.moe.",
         gate,
         {"gate_proj.weight", "up_proj.weight", "down_proj.weight"},
         "router_bias",
         shared_in("model.layers.1.share_expert"),
         R"(,"share_expert_dim":12,"moe_layers_enum":"1","moe_router_scaling_factor":3.0)"},
        {"laguna", presets::laguna, own, mlp, gate, by_proj, correction, shared_in("shared_expert"), qwen_shared},
        {"exaone_moe", presets::exaone_moe, own, mlp, gate, by_proj, "e_score_correction_bias",
         shared_in("shared_experts"), R"(,"num_shared_experts":1)"},
        {"mimo_v2_flash",
         presets::mimo_v2_flash,
         routed,
         mlp,
         gate,
         by_proj,
         correction,
         {},
         R"(,"moe_layer_freq":[0,1])"},
        {"switch_transformers",
         presets::switch_transformer,
         {"num_experts", "k", "d_ff"},
         "encoder.block.1.layer.1.mlp.",
         "router.classifier.weight",
         {"", "experts.expert_#.wi", "experts.expert_#.wo"},
         "",
         {},
         R"(,"num_sparse_encoder_layers":1,"decoder_sparse_step":0)"},
        {"dbrx",
         presets::dbrx,
         {"moe_num_experts", "moe_top_k", "ffn_hidden_size"},
         "transformer.blocks.1.ffn.",
         "router.layer.weight",
         {"experts.mlp.w1", "experts.mlp.v1", "experts.mlp.w2"}},
    };
    for (const auto& [type, preset] :
         std::vector<std::pair<std::string, MoEConfig (*)()>>{{"deepseek_v3", presets::deepseek_v3},
                                                              {"kimi_k2", presets::deepseek_v3},
                                                              {"glm4_moe", presets::glm4_moe},
                                                              {"glm4_moe_lite", presets::glm4_moe_lite},
                                                              {"glm_moe_dsa", presets::glm_moe_dsa},
                                                              {"glm5_next", presets::glm5_next},
                                                              {"dots1", presets::dots1},
                                                              {"solar_open", presets::solar_open},
                                                              {"axk1", presets::axk1},
                                                              {"axk2", presets::axk2},
                                                              {"hy_v3", presets::hy_v3},
                                                              {"hy_v4", presets::hy_v4}}) {
        result.push_back({type, preset, routed, mlp, gate, by_proj, correction, shared_in("shared_experts"),
                          one_shared +
                              R"(,"n_group":4,"topk_group":2,"topk_method":"noaux_tc","scoring_func":"sigmoid",)" +
                              R"("first_k_dense_replace":1)"});
    }
    return result;
}

/// What the row says in words of this library.
MoEConfig expected_config(const Row& row) {
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

}  // namespace

TEST_CASE("a folder of each architecture is the layer that its weights compose", "[io][checkpoint]") {
    Draw draw(17);
    std::size_t n_rows = 0;
    for (const Row& row : rows()) {
        for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
            INFO(row.type << " " << moe::dtype_name(dtype));
            const Made made(row, dtype, draw);
            const moe_test::TemporaryDirectory folder;
            write_text(folder.file("config.json"), made.config_text());
            moe::write_safetensors(folder.file("model.safetensors"), made.tensors());
            const auto checkpoint = moe::Checkpoint::open(folder.file(""));
            const std::size_t layer = 1;
            REQUIRE(checkpoint.is_sparse(layer));
            const std::vector<float> x = values(draw, 5 * d_model);
            const std::vector<float> wanted = outputs_of(made.layer(), x);
            CHECK(moe_test::same_bits(outputs_of(checkpoint.layer(layer), x), wanted));
            CHECK(checkpoint.tensors(layer).size() == made.tensors().size());
            const moe::MoEConfig config = checkpoint.config(layer);
            const std::size_t n_matrices = config.form.gated() ? 3 : 2;
            CHECK(brings_experts(checkpoint, layer, x, wanted,
                                 n_matrices * config.d_ff * config.d_model * moe::dtype_size(dtype)));
            if (dtype == DType::bf16) {
                CHECK(moe_test::same_bits(outputs_of(checkpoint.pack(layer), x), wanted));
            }
        }
        ++n_rows;
    }
    CHECK(n_rows == 56);
}

TEST_CASE("a layer keeps the files of its checkpoint, a packed one does not need them", "[io][checkpoint]") {
    Draw draw(18);
    const Made made(rows().front(), DType::bf16, draw);
    const std::vector<float> x = values(draw, 3 * d_model);
    const std::vector<float> wanted = outputs_of(made.layer(), x);
    std::vector<moe::AnyLayer<float>> layers;
    {
        const moe_test::TemporaryDirectory folder;
        write_text(folder.file("config.json"), made.config_text());
        moe::write_safetensors(folder.file("model.safetensors"), made.tensors());
        const auto checkpoint = moe::Checkpoint::open(folder.file(""));
        layers.push_back(checkpoint.layer(1));
        layers.push_back(checkpoint.pack(1));
        layers.push_back(moe::pack(layers.front()));
    }
    for (const moe::AnyLayer<float>& layer : layers) {
        CHECK(moe_test::same_bits(outputs_of(layer, x), wanted));
    }
}

TEST_CASE("shards with an index are the layer of one file", "[io][checkpoint]") {
    Draw draw(20);
    const Made made(rows().front(), DType::f32, draw);
    const std::vector<float> x = values(draw, 3 * d_model);
    const moe_test::TemporaryDirectory folder;
    write_text(folder.file("config.json"), made.config_text());
    std::vector<moe::TensorToWrite> shards[2];
    std::string index = R"({"metadata":{"total_size":1},"weight_map":{)";
    for (std::size_t i = 0; i < made.tensors().size(); ++i) {
        shards[i % 2].push_back(made.tensors()[i]);
        index += (i > 0 ? ",\"" : "\"") + made.tensors()[i].name + "\":\"" + std::to_string(i % 2) + ".safetensors\"";
    }
    write_text(folder.file("model.safetensors.index.json"), index + "}}");
    for (std::size_t i = 0; i < 2; ++i) {
        moe::write_safetensors(folder.file(std::to_string(i) + ".safetensors"), shards[i]);
    }
    const std::vector<float> wanted = outputs_of(made.layer(), x);
    CHECK(moe_test::same_bits(outputs_of(moe::Checkpoint::open(folder.file("")).layer(1), x), wanted));

    shards[1].push_back(shards[0].back());  // in both
    moe::write_safetensors(folder.file("1.safetensors"), shards[1]);
    const auto open = [&](moe::Strictness strictness) {
        return moe_test::caught([&] { (void)moe::Checkpoint::open(folder.file(""), strictness); });
    };
    for (const moe::Strictness strictness : {moe::Strictness::strict, moe::Strictness::lenient}) {
        const auto error = open(strictness);
        REQUIRE(error.has_value());
        CHECK(error->code == moe::ErrorCode::duplicate);
    }
    shards[1].back().name = "other";  // which the index does not name
    moe::write_safetensors(folder.file("1.safetensors"), shards[1]);
    const auto error = open(moe::Strictness::strict);
    REQUIRE(error.has_value());
    CHECK(error->code == moe::ErrorCode::layout);
    CHECK_FALSE(open(moe::Strictness::lenient).has_value());
}

TEST_CASE("the demo model is read in one way by hand and by its folder", "[io][checkpoint]") {
    const std::string path = std::string(MOE_TEST_EXAMPLES_DIR) + "/models/tiny-mixtral";
    const auto checkpoint = moe::Checkpoint::open(path);
    CHECK(checkpoint.architecture() == "mixtral");
    REQUIRE(checkpoint.n_layers() == 4);
    const auto file = moe::SafetensorsFile::open(path + "/model.safetensors");
    Draw draw(19);
    const std::vector<float> x = values(draw, 7 * 128);
    for (std::size_t i = 0; i < 4; ++i) {
        const std::string room = "model.layers." + std::to_string(i) + ".block_sparse_moe.";
        MoEConfig config = checkpoint.config(i);
        CHECK(config.n_experts == 8);
        CHECK(config.d_ff == 192);
        const std::vector<float> router = file.at(room + "gate.weight").to_float_vector();
        std::vector<std::vector<float>> kept[3];
        std::vector<const float*> pointers[3];
        const char* const names[] = {".w1.weight", ".w3.weight", ".w2.weight"};
        for (std::size_t j = 0; j < 3; ++j) {
            for (std::size_t e = 0; e < 8; ++e) {
                kept[j].push_back(file.at(room + "experts." + std::to_string(e) + names[j]).to_float_vector());
                pointers[j].push_back(kept[j].back().data());
            }
        }
        moe::LayerWeights<float> weights;
        weights.router = moe::view(router.data(), 8, 128);
        weights.experts = moe::expert_weights<float>(config, {.gate = moe::separate(pointers[0], 192, 128),
                                                              .up = moe::separate(pointers[1], 192, 128),
                                                              .down = moe::separate(pointers[2], 128, 192)});
        const moe::AnyLayer<float> layer = moe::make_layer(config, weights);
        CHECK(moe_test::same_bits(outputs_of(checkpoint.layer(i), x), outputs_of(layer, x)));
    }
}

}  // namespace moe_test::hugging_face_test
