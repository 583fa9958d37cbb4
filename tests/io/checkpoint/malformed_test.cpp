#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint/checkpoint_support.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"

/// Folders and files with one thing wrong each.
namespace moe_test::checkpoint_malformed_test {

namespace {

using namespace moe_test::checkpoint;
using moe::ErrorCode;
using Keys = std::map<std::string, std::string>;

/// A folder of one file that is right: two layers of two experts, the first of which is dense.
struct Parts {
    Keys config{{"model_type", "\"qwen2_moe\""},
                {"hidden_size", "4"},
                {"num_hidden_layers", "2"},
                {"num_experts", "2"},
                {"num_experts_per_tok", "1"},
                {"moe_intermediate_size", "3"},
                {"shared_expert_intermediate_size", "3"},
                {"mlp_only_layers", "[0]"}};
    std::map<std::string, std::vector<std::size_t>> shapes = all_shapes();
    std::map<std::string, moe::DType> dtypes{};
    std::string config_text{};  // instead of the keys
    std::string index{};        // model.safetensors.index.json, where there is one
    bool no_config = false;
    bool no_tensors = false;

    static std::map<std::string, std::vector<std::size_t>> all_shapes() {
        const std::string room = "model.layers.1.mlp.";
        std::map<std::string, std::vector<std::size_t>> shapes{{room + "gate.weight", {2, 4}},
                                                               {room + "shared_expert_gate.weight", {1, 4}}};
        for (const std::string expert : {"experts.0.", "experts.1.", "shared_expert."}) {
            shapes[room + expert + "gate_proj.weight"] = {3, 4};
            shapes[room + expert + "up_proj.weight"] = {3, 4};
            shapes[room + expert + "down_proj.weight"] = {4, 3};
        }
        return shapes;
    }
};

void write(const Parts& parts, const moe_test::TemporaryDirectory& folder) {
    if (!parts.no_config) {
        write_text(folder.file("config.json"), parts.config_text.empty() ? json_of(parts.config) : parts.config_text);
    }
    if (!parts.index.empty()) {
        write_text(folder.file("model.safetensors.index.json"), parts.index);
    }
    if (parts.no_tensors) {
        return;
    }
    MadeTensors made;
    for (const auto& [name, shape] : parts.shapes) {
        std::size_t count = 1;
        for (const std::size_t extent : shape) {
            count *= extent;
        }
        const auto dtype = parts.dtypes.find(name);
        made.add(name, shape, std::vector<float>(count, 0.5F),
                 dtype == parts.dtypes.end() ? moe::DType::f32 : dtype->second);
    }
    moe::write_safetensors(folder.file("model.safetensors"), made.tensors);
}

/// An index of all tensors in `file`, with one entry more.
std::string index_of(const std::string& file, const std::string& more = {}) {
    std::string text = R"({"metadata":{"total_size":1},"weight_map":{)";
    for (const auto& [name, shape] : Parts::all_shapes()) {
        text += (text.back() == '{' ? "\"" : ",\"") + name + "\":\"" + file + "\"";
    }
    return text + more + "}}";
}

void open_and_use(const std::string& path) {
    const auto checkpoint = moe::Checkpoint::open(path);
    std::size_t n_sparse = 0;
    for (std::size_t i = 0; i < checkpoint.n_layers(); ++i) {
        if (checkpoint.is_sparse(i)) {
            (void)checkpoint.layer(i);
            ++n_sparse;
        }
    }
    CHECK(n_sparse > 0);
}

struct Case {
    std::string name;
    ErrorCode code;
    std::function<void(Parts&)> break_it;
    std::string text;  // what the message must hold
};

Case key(const std::string& name, const std::string& value, ErrorCode code, const std::string& text = {}) {
    return {name + " = " + value, code,
            [=](Parts& parts) {
                if (value.empty()) {
                    parts.config.erase(name);
                } else {
                    parts.config[name] = value;
                }
            },
            text.empty() ? name : text};
}

Case config_text(const std::string& text, ErrorCode code, const std::string& message) {
    return {text.substr(0, 40), code, [=](Parts& parts) { parts.config_text = text; }, message};
}

Case index(const std::string& text, ErrorCode code, const std::string& message) {
    return {text.substr(0, 60), code, [=](Parts& parts) { parts.index = text; }, message};
}

Case shape(const std::string& name, std::vector<std::size_t> to, ErrorCode code) {
    const std::string whole = "model.layers.1.mlp." + name;
    return {name, code,
            [=](Parts& parts) {
                if (to.empty()) {
                    parts.shapes.erase(whole);
                } else {
                    parts.shapes[whole] = to;
                }
            },
            name.substr(0, name.rfind('.'))};
}

std::vector<Case> cases() {
    std::vector<Case> result{
        {"no config", ErrorCode::missing, [](Parts& parts) { parts.no_config = true; }, "config.json"},
        {"no tensors", ErrorCode::missing, [](Parts& parts) { parts.no_tensors = true; }, "model.safetensors"},
        config_text("{}", ErrorCode::missing, "model_type"),
        config_text(" ", ErrorCode::syntax, "config.json"),
        config_text("{", ErrorCode::syntax, "config.json"),
        config_text("[]", ErrorCode::header, "no JSON object"),
        config_text("3", ErrorCode::header, "no JSON object"),
        config_text("{\"a\":1,}", ErrorCode::syntax, "config.json"),
        config_text("{\"a\":1,\"a\":1}", ErrorCode::duplicate, "'a'"),
        config_text("{\"a\":\"\xFF\"}", ErrorCode::header, "UTF-8"),
        config_text("{\"a\":" + std::string(40, '[') + std::string(40, ']') + "}", ErrorCode::header, "32 levels"),
        config_text("{\"a\":1}\n{}", ErrorCode::syntax, "config.json"),
        config_text("{\"a\":1e999}", ErrorCode::overflow, "1e999"),
        config_text("{\"text_config\":3}", ErrorCode::header, "text_config"),
        key("model_type", "", ErrorCode::missing),
        key("model_type", "3", ErrorCode::header),
        key("model_type", "\"qwen9_moe\"", ErrorCode::range, "qwen2_moe"),
        key("architectures", "[3]", ErrorCode::header),
        key("hidden_size", "", ErrorCode::missing),
        key("hidden_size", "null", ErrorCode::missing),
        key("hidden_size", "0", ErrorCode::range, "d_model"),
        key("hidden_size", "-4", ErrorCode::range, "'-4'"),
        key("hidden_size", "4.0", ErrorCode::header, "'4.0'"),
        key("hidden_size", "\"4\"", ErrorCode::header, "'4'"),
        key("hidden_size", "[4]", ErrorCode::header),
        key("hidden_size", "4294967296", ErrorCode::range, "4294967296"),
        key("hidden_size", "99999999999999999999", ErrorCode::range, "99999999999999999999"),
        key("hidden_size", "5", ErrorCode::shape, "2 x 5"),
        key("num_hidden_layers", "", ErrorCode::missing),
        key("num_hidden_layers", "0", ErrorCode::range, "layers"),
        key("num_hidden_layers", "4097", ErrorCode::range, "4097"),
        key("num_hidden_layers", "3", ErrorCode::not_found, "layer 2"),
        key("num_hidden_layers", "{}", ErrorCode::header),
        key("num_experts", "", ErrorCode::missing),
        key("num_experts", "0", ErrorCode::range, "n_experts"),
        key("num_experts", "true", ErrorCode::header),
        key("num_experts", "1", ErrorCode::shape, "expert"),
        key("num_experts", "3", ErrorCode::not_found, "experts.2"),
        key("num_experts", "[2]", ErrorCode::layout, "before layer 1"),
        key("num_experts", "2147483648", ErrorCode::overflow, "2147483648"),
        key("num_experts_per_tok", "", ErrorCode::missing),
        key("num_experts_per_tok", "0", ErrorCode::range, "top_k"),
        key("num_experts_per_tok", "3", ErrorCode::range, "top_k"),
        key("num_experts_per_tok", "-1", ErrorCode::range),
        key("moe_intermediate_size", "", ErrorCode::missing),
        key("moe_intermediate_size", "4", ErrorCode::shape, "4 x 4"),
        key("moe_intermediate_size", "\"wide\"", ErrorCode::header, "'wide'"),
        key("shared_expert_intermediate_size", "", ErrorCode::missing),
        key("shared_expert_intermediate_size", "4", ErrorCode::shape, "shared_expert"),
        key("shared_expert_intermediate_size", "false", ErrorCode::header),
        key("norm_topk_prob", "1", ErrorCode::header),
        key("scoring_func", "\"tanh\"", ErrorCode::range, "'tanh'"),
        key("topk_method", "\"best\"", ErrorCode::range, "'best'"),
        key("n_group", "3", ErrorCode::range, "groups"),
        key("routed_scaling_factor", "\"2\"", ErrorCode::header),
        key("routed_scaling_factor", "1e200", ErrorCode::range),
        key("hidden_act", "\"tanh\"", ErrorCode::range, "'tanh'"),
        key("decoder_sparse_step", "0", ErrorCode::range),
        key("decoder_sparse_step", "-1", ErrorCode::range),
        key("mlp_only_layers", "[2]", ErrorCode::range),
        key("mlp_only_layers", "0", ErrorCode::header),
        key("mlp_only_layers", "[]", ErrorCode::not_found, "layer 0"),
        key("moe_layer_freq", "[1]", ErrorCode::layout),
        key("moe_layers", "[9]", ErrorCode::range),
        key("moe_layers_enum", "\"1,x\"", ErrorCode::header),
        key("mlp_layer_types", "[\"sparse\"]", ErrorCode::layout),
        key("moe_latent_size", "2", ErrorCode::range),
        index("{}", ErrorCode::missing, "weight_map"),
        index("{\"weight_map\":[]}", ErrorCode::header, "weight_map"),
        index("{\"weight_map\":{}}", ErrorCode::header, "weight_map"),
        index("{\"weight_map\":{\"a\":1}}", ErrorCode::header, "'a'"),
        index("{\"weight_map\":{\"a\":\"x\",\"a\":\"x\"}}", ErrorCode::duplicate, "'a'"),
        index("{\"weight_map\":", ErrorCode::syntax, "index"),
        index("{\"weight_map\":{\"a\":\"\"}}", ErrorCode::range, "'a'"),
        index("{\"weight_map\":{\"a\":\"..\"}}", ErrorCode::range, "'..'"),
        index("{\"weight_map\":{\"a\":\"../model.safetensors\"}}", ErrorCode::range, "'../model.safetensors'"),
        index("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", ErrorCode::range, "'/etc/passwd'"),
        index("{\"weight_map\":{\"a\":\"b\\u0000\"}}", ErrorCode::range, "'b\\x00'"),
        index("{\"weight_map\":{\"a\":\"absent.safetensors\"}}", ErrorCode::file, "absent.safetensors"),
        index("{\"weight_map\":{\"a\":\"config.json\"}}", ErrorCode::header, "config.json"),
        index(index_of("model.safetensors", ",\"b\":\"model.safetensors\""), ErrorCode::not_found, "'b'"),
        index("{\"weight_map\":{\"model.layers.1.mlp.gate.weight\":\"model.safetensors\"}}", ErrorCode::layout,
              "not in weight_map"),
        shape("gate.weight", {}, ErrorCode::not_found),
        shape("gate.weight", {4, 2}, ErrorCode::shape),
        shape("gate.weight", {3, 4}, ErrorCode::shape),
        shape("gate.weight", {8}, ErrorCode::shape),
        shape("experts.0.up_proj.weight", {4, 3}, ErrorCode::shape),
        shape("experts.1.up_proj.weight", {}, ErrorCode::not_found),
        shape("experts.1.up_proj.weight", {3, 5}, ErrorCode::shape),
        shape("experts.1.down_proj.weight", {4, 3, 1}, ErrorCode::shape),
        shape("experts.1.gate_proj.weight", {12}, ErrorCode::shape),
        shape("experts.2.up_proj.weight", {3, 4}, ErrorCode::shape),
        shape("shared_expert.up_proj.weight", {}, ErrorCode::not_found),
        shape("shared_expert.down_proj.weight", {3, 4}, ErrorCode::shape),
        shape("shared_expert_gate.weight", {}, ErrorCode::not_found),
        shape("shared_expert_gate.weight", {5}, ErrorCode::shape),
        {"two types", ErrorCode::layout,
         [](Parts& parts) { parts.dtypes["model.layers.1.mlp.experts.1.up_proj.weight"] = moe::DType::bf16; },
         "experts.1.up_proj.weight"},
    };
    result.back().text = "BF16";
    result.push_back({"many keys", ErrorCode::range,
                      [](Parts& parts) {
                          for (int i = 0; i < 1025; ++i) {
                              parts.config["key" + std::to_string(i)] = "0";
                          }
                      },
                      "keys, more than 1024"});
    for (Case& one : result) {
        if (one.name == "experts.2.up_proj.weight") {
            one.text = "expert 2";
        }
    }
    return result;
}

moe::GgufValueToWrite number(const std::string& name, std::uint32_t value) { return {"llama." + name, value}; }

/// A GGUF file of one layer of Mixtral, whose metadata `change` may break.
void write_gguf(const std::string& path, const std::function<void(std::vector<moe::GgufValueToWrite>&)>& change,
                const std::string& without) {
    std::vector<moe::GgufValueToWrite> metadata{{"general.architecture", std::string("llama")},
                                                number("block_count", 1),
                                                number("embedding_length", 4),
                                                number("feed_forward_length", 3),
                                                number("expert_count", 2),
                                                number("expert_used_count", 1)};
    change(metadata);
    const std::vector<float> data(24, 0.5F);
    std::vector<moe::GgufTensorToWrite> tensors;
    const auto add = [&](const std::string& name, std::vector<std::size_t> shape, std::size_t count) {
        if (name != without) {
            tensors.push_back(moe::gguf_tensor_to_write<float>(name, std::move(shape), std::span(data).first(count)));
        }
    };
    add("blk.0.ffn_gate_inp.weight", {2, 4}, 8);
    add("blk.0.ffn_gate_exps.weight", {2, 3, 4}, 24);
    add("blk.0.ffn_up_exps.weight", {2, 3, 4}, 24);
    add("blk.0.ffn_down_exps.weight", {2, 4, 3}, 24);
    if (without == "scale") {
        add("blk.0.ffn_up_exps.scale", {2}, 2);
    }
    moe::write_gguf(path, tensors, metadata);
}

}  // namespace

TEST_CASE("what is wrong with a folder is named by type, key and value", "[io][checkpoint]") {
    {
        const moe_test::TemporaryDirectory folder;
        write({}, folder);
        CHECK_FALSE(moe_test::caught([&] { open_and_use(folder.file("")); }).has_value());
    }
    std::size_t n_cases = 0;
    for (const Case& one : cases()) {
        INFO(one.name);
        Parts parts;
        one.break_it(parts);
        const moe_test::TemporaryDirectory folder;
        write(parts, folder);
        const auto error = moe_test::caught([&] { open_and_use(folder.file("")); });
        REQUIRE(error.has_value());
        INFO(error->text);
        CHECK(static_cast<int>(error->code) == static_cast<int>(one.code));
        CHECK(error->text.find(one.text) != std::string::npos);
        ++n_cases;
    }
    CHECK(n_cases >= 90);
}

TEST_CASE("what is wrong with a GGUF file of a model is named", "[io][checkpoint]") {
    using Values = std::vector<moe::GgufValueToWrite>;
    const auto set = [](std::size_t i, moe::GgufMetadataValue value) {
        return [i, value = std::move(value)](Values& values) { values[i].value = value; };
    };
    const auto drop = [](std::size_t i) {
        return [i](Values& values) { values.erase(values.begin() + static_cast<std::ptrdiff_t>(i)); };
    };
    const auto nothing = [](Values&) {};
    struct GgufCase {
        std::function<void(Values&)> change;
        std::string without;
        ErrorCode code;
        std::string text;
    };
    const std::vector<GgufCase> all{
        {drop(0), "", ErrorCode::not_found, "general.architecture"},
        {set(0, std::string("lama")), "", ErrorCode::range, "llama"},
        {set(0, std::uint32_t{1}), "", ErrorCode::unknown_type, "general.architecture"},
        {drop(1), "", ErrorCode::missing, "block_count"},
        {set(1, std::uint32_t{0}), "", ErrorCode::range, "layers"},
        {set(1, std::uint32_t{5000}), "", ErrorCode::range, "5000"},
        {set(1, std::uint32_t{2}), "", ErrorCode::not_found, "blk.1"},
        {set(2, std::int32_t{-4}), "", ErrorCode::range, "-4"},
        {set(2, std::uint64_t{1} << 40U), "", ErrorCode::range, "1099511627776"},
        {set(2, 4.0F), "", ErrorCode::unknown_type, "embedding_length"},
        {set(2, std::uint32_t{5}), "", ErrorCode::shape, "2 x 5"},
        {drop(3), "", ErrorCode::missing, "feed_forward_length"},
        {set(3, std::vector<std::uint32_t>{}), "", ErrorCode::layout, "feed_forward_length"},
        {set(3, std::vector<std::string>{"3"}), "", ErrorCode::unknown_type, "feed_forward_length"},
        {set(4, std::uint32_t{0}), "", ErrorCode::missing, "expert_count"},
        {set(4, std::uint32_t{3}), "", ErrorCode::shape, "3 x 4"},
        {set(5, std::uint32_t{3}), "", ErrorCode::range, "top_k"},
        {drop(5), "", ErrorCode::missing, "expert_used_count"},
        {nothing, "blk.0.ffn_gate_inp.weight", ErrorCode::not_found, "ffn_gate_inp"},
        {nothing, "blk.0.ffn_up_exps.weight", ErrorCode::not_found, "ffn_up_exps"},
        {nothing, "scale", ErrorCode::unknown_type, "ffn_up_exps.scale"},
        {[](Values& values) { values.push_back(number("expert_shared_count", 1)); }, "", ErrorCode::not_found,
         "ffn_up_shexp"},
    };
    const moe_test::TemporaryDirectory folder;
    const std::string path = folder.file("model.gguf");
    write_gguf(path, nothing, "");
    CHECK_FALSE(moe_test::caught([&] { open_and_use(path); }).has_value());
    for (const GgufCase& one : all) {
        write_gguf(path, one.change, one.without);
        const auto error = moe_test::caught([&] { open_and_use(path); });
        INFO(one.text);
        REQUIRE(error.has_value());
        INFO(error->text);
        CHECK(static_cast<int>(error->code) == static_cast<int>(one.code));
        CHECK(error->text.find(one.text) != std::string::npos);
    }
}

TEST_CASE("a config.json or index below a mebibyte makes nobody allocate 64", "[io][checkpoint]") {
    constexpr std::size_t mebibyte = std::size_t{1} << 20U;
    std::string zeros = "{\"a\":[0";
    std::string keys = "{\"weight_map\":{\"a\":\"b\"";
    while (zeros.size() < mebibyte - 10) {
        zeros += ",0";
    }
    for (std::size_t i = 0; keys.size() < mebibyte - 30; ++i) {
        keys += ",\"" + std::to_string(i) + "\":\"b\"";
    }
    for (const bool index : {false, true}) {
        Parts parts;
        parts.no_tensors = true;
        (index ? parts.index : parts.config_text) = index ? keys + "}}" : zeros + "]}";
        const moe_test::TemporaryDirectory folder;
        write(parts, folder);
        const std::size_t before = moe_test::allocated_bytes();
        const auto error = moe_test::caught([&] { open_and_use(folder.file("")); });
        CHECK(moe_test::allocated_bytes() - before < 64 * mebibyte);
        REQUIRE(error.has_value());
        CHECK(static_cast<int>(error->code) == static_cast<int>(index ? ErrorCode::file : ErrorCode::missing));
    }
}

}  // namespace moe_test::checkpoint_malformed_test
