#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <moe/io.hpp>

#include "../../examples/generate/gguf_model.hpp"
#include "../../examples/generate/model.hpp"
#include "io/support.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"

/// The demo's model as a GGUF file: what is in it, and that it computes the same.
namespace moe_test::gguf_model_test {

namespace {

const std::string folder = std::string(MOE_TEST_EXAMPLES_DIR) + "/models/tiny-mixtral";

std::vector<float> flat(const generate::Matrix& matrix) { return {matrix.data(), matrix.data() + matrix.size()}; }

std::vector<float> logits_of(const std::string& path) {
    const generate::Model model(path);
    generate::Decoder decoder(model, generate::make_threads(1));
    std::vector<std::int32_t> tokens;
    for (const char c : std::string("First Citizen:\nBefore we proceed any further, hear me speak.\n")) {
        tokens.push_back(c);
    }
    std::vector<float> logits = flat(decoder.append(tokens));
    const std::vector<float> next = flat(decoder.append(std::vector<std::int32_t>{'A'}));
    logits.insert(logits.end(), next.begin(), next.end());
    return logits;
}

}  // namespace

TEST_CASE("the demo's model has the same logits out of its folder and out of a GGUF file", "[demo]") {
    const moe_test::TemporaryDirectory out;
    const std::string path = out.file("tiny.gguf");
    generate::write_gguf_model(folder, path);
    const std::vector<float> logits = logits_of(path);
    CHECK(logits.size() == 62 * 256);
    CHECK(moe_test::same_bits(logits, logits_of(folder)));
}

TEST_CASE("the GGUF file of the demo's model has what llama.cpp looks for", "[demo]") {
    const moe_test::TemporaryDirectory out;
    const std::string path = out.file("tiny.gguf");
    generate::write_gguf_model(folder, path);
    const auto file = moe::GgufFile::open(path);
    const auto stored = moe::SafetensorsFile::open(folder + "/model.safetensors");
    std::set<std::string> names{"token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"};
    for (const std::string block : {"blk.0.", "blk.1.", "blk.2.", "blk.3."}) {
        for (const char* const part : {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm",
                                       "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"}) {
            names.insert(block + part + ".weight");
        }
    }
    CHECK(file.tensors().size() == names.size());
    for (const moe::GgufTensor& tensor : file.tensors()) {
        INFO(tensor.name);
        CHECK(names.count(tensor.name) == 1);
        const bool small = tensor.name.find("norm") != std::string::npos ||
                           tensor.name.find("gate_inp") != std::string::npos || tensor.name == "rope_freqs.weight";
        CHECK(tensor.type->name == (small ? "F32" : "BF16"));
    }
    CHECK(file.metadata_at("llama.expert_count").as<std::uint32_t>() == 8);
    CHECK(file.metadata_at("llama.attention.head_count_kv").as<std::uint32_t>() == 2);
    CHECK(file.metadata_at("llama.rope.freq_base").as<float>() == 1e6F);

    // heads of 32: rows j and j + 16 of a head are neighbours there, and those of values stay
    const std::string attention = "model.layers.2.self_attn.";
    for (const auto& [there, here] : std::vector<std::pair<std::string, std::string>>{
             {"blk.2.attn_q.weight", "q_proj"}, {"blk.2.attn_k.weight", "k_proj"}, {"blk.2.attn_v.weight", "v_proj"}}) {
        INFO(there);
        const std::vector<float> a = file.at(there).to_float_vector();
        const std::vector<float> b = stored.at(attention + here + ".weight").to_float_vector();
        REQUIRE(a.size() == b.size());
        const std::size_t width = 128;
        for (std::size_t row = 0; row < b.size() / width; ++row) {
            const std::size_t i = row % 32;
            const std::size_t to = here == "v_proj" ? row : row - i + (i < 16 ? 2 * i : 2 * (i - 16) + 1);
            CHECK(std::equal(b.begin() + static_cast<std::ptrdiff_t>(row * width),
                             b.begin() + static_cast<std::ptrdiff_t>((row + 1) * width),
                             a.begin() + static_cast<std::ptrdiff_t>(to * width)));
        }
    }
    const auto checkpoint = moe::Checkpoint::open(path);
    CHECK(checkpoint.architecture() == "llama");
    CHECK(checkpoint.n_layers() == 4);
}

TEST_CASE("a GGUF file that the demo cannot compute is refused by name", "[demo]") {
    const moe_test::TemporaryDirectory out;
    const std::string path = out.file("tiny.gguf");
    generate::write_gguf_model(folder, path);
    const auto file = moe::GgufFile::open(path);
    /// The file with another number under `key`, or without it.
    const auto with = [&](const std::string& key, moe::GgufMetadataValue value, bool leave_out = false) {
        std::vector<moe::GgufTensorToWrite> tensors;
        for (const moe::GgufTensor& tensor : file.tensors()) {
            tensors.push_back({tensor.name, tensor.type, tensor.shape, tensor.bytes});
        }
        std::vector<moe::GgufValueToWrite> metadata;
        for (const moe::GgufValue& one : file.metadata()) {
            if (one.key == key) {
                continue;
            }
            if (one.type == moe::GgufType::string) {
                metadata.push_back({one.key, one.as<std::string>()});
            } else if (one.type == moe::GgufType::f32) {
                metadata.push_back({one.key, one.as<float>()});
            } else if (one.type == moe::GgufType::boolean) {
                metadata.push_back({one.key, one.as<bool>()});
            } else {
                metadata.push_back({one.key, one.as<std::uint32_t>()});
            }
        }
        if (!leave_out) {
            metadata.push_back({key, std::move(value)});
        }
        const std::string changed = out.file("changed.gguf");
        moe::write_gguf(changed, tensors, metadata);
        return changed;
    };
    const auto refused = [&](const std::string& changed, const std::string& part) {
        INFO(part);
        const auto error = moe_test::caught([&] { const generate::Model model(changed); });
        REQUIRE(error.has_value());
        CHECK(error->text.find(part) != std::string::npos);
    };
    refused(with("general.architecture", "qwen3moe"), "qwen3moe");
    refused(with("llama.vocab_size", std::uint32_t{255}), "255");
    refused(with("llama.context_length", std::uint32_t{0}), "llama.context_length");
    refused(with("llama.context_length", std::uint32_t{0}, true), "llama.context_length");
    refused(with("llama.attention.head_count_kv", std::uint32_t{3}), "3 heads");
    refused(with("llama.attention.key_length", std::uint32_t{64}), "part of a head");
    refused(with("llama.rope.scaling.type", "yarn"), "llama.rope.scaling.type");
    refused(with("llama.block_count", std::uint32_t{5}), "blk.4.");
    // without its own key it is llama.cpp's file, whose frequencies are rounded by what they are divided by
    const std::vector<float> exact = logits_of(folder);
    const std::vector<float> divided = logits_of(with("moe.rounded_frequencies", false, true));
    CHECK_FALSE(moe_test::same_bits(divided, exact));
    float difference = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
        difference = std::max(difference, std::abs(divided[i] - exact[i]));
    }
    CHECK(difference < 1e-3F);  // what the demo allows; with frequencies that are not rounded it is 1e-2
}

}  // namespace moe_test::gguf_model_test
