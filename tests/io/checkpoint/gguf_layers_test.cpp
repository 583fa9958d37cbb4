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

#include "io/checkpoint/made_gguf.hpp"
#include "io/gguf_support.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"

/// GGUF files as checkpoints: those that ggml has written, and one made up for each architecture.
namespace moe_test::checkpoint_gguf_test {

using namespace moe_test::made_gguf;

namespace {

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
