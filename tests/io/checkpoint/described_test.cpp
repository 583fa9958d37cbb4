#include <cstddef>
#include <string>
#include <vector>

#include "io/checkpoint/made_folder.hpp"
#include "io/checkpoint/made_gguf.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"

/// What a checkpoint says of its layers and files without computing anything: parts, tensors, the size of a packed
/// layer.
namespace moe_test::described_test {

namespace {

struct Sums {
    std::size_t tensors = 0;
    std::size_t bytes = 0;
    std::size_t weights = 0;

    friend bool operator==(const Sums&, const Sums&) = default;
};

template <class Items>
Sums sums_of(const Items& items) {
    Sums sums;
    for (const auto& one : items) {
        if constexpr (requires { one.tensors; }) {
            sums.tensors += one.tensors;
        } else {
            ++sums.tensors;
        }
        sums.bytes += one.bytes;
        sums.weights += one.weights;
    }
    return sums;
}

/// Of a checkpoint that consists of layer 1: every tensor is in one part, and the matrices of experts have the sizes of
/// the configuration.
void check_parts(const moe::Checkpoint& checkpoint) {
    const std::vector<moe::StoredPart> parts = checkpoint.parts(1);
    CHECK(sums_of(parts) == sums_of(checkpoint.all_tensors()));
    const moe::MoEConfig config = checkpoint.config(1);
    std::size_t routed = 0;
    std::size_t shared = 0;
    for (const moe::StoredPart& part : parts) {
        routed += part.routed ? part.weights : 0;
        shared += part.shared ? part.weights : 0;
    }
    CHECK(routed == config.n_experts * (config.form.gated() ? 3 : 2) * config.d_model * config.d_ff);
    CHECK(shared == (config.form_of_shared().gated() ? 3U : 2U) * config.d_model * config.shared_d_ff);
    REQUIRE_FALSE(parts.empty());
    CHECK(parts.front().name == "router");
}

/// What packing allocates is packed_bytes and what all formats need beside it.
void check_packed_bytes(const moe::Checkpoint& checkpoint, std::size_t layer) {
    const auto beside = [&](moe::Format format) {
        (void)checkpoint.pack(layer, format);  // what is allocated once in a program is there now
        const std::size_t all = moe_test::bytes_allocated_by([&] { (void)checkpoint.pack(layer, format); });
        const std::size_t panels = checkpoint.packed_bytes(layer, format);
        REQUIRE(all >= panels);
        return all - panels;
    };
    const std::size_t usual = beside(moe::Format::float32);
    for (const moe::Format format :
         {moe::Format::int8, moe::Format::int4, moe::Format::bfloat16, moe::Format::float16}) {
        INFO(moe::format_name(format));
        const std::size_t found = beside(format);
        CHECK(found <= usual + 4096);
        CHECK(found + 4096 >= usual);
    }
    CHECK(beside(moe::Format::as_stored) <= usual + 4096);
    const auto error = moe_test::caught([&] { (void)checkpoint.packed_bytes(layer, moe::Format::float64); });
    REQUIRE(error.has_value());
    CHECK(error->code == moe::ErrorCode::format);
}

}  // namespace

TEST_CASE("the parts of a folder are all of its tensors, whatever the architecture", "[io][checkpoint]") {
    namespace made = moe_test::made_folder;
    moe_test::Draw draw(41);
    std::size_t packed = 0;
    for (const made::Row& row : made::rows()) {
        INFO(row.type);
        const made::Made model(row, packed % 2 == 0 ? moe::DType::bf16 : moe::DType::f16, draw);
        const moe_test::TemporaryDirectory folder;
        moe_test::checkpoint::write_text(folder.file("config.json"), model.config_text());
        moe::write_safetensors(folder.file("model.safetensors"), model.tensors());
        const auto checkpoint = moe::Checkpoint::open(folder.file(""));
        check_parts(checkpoint);
        if (packed++ % 8 == 0) {
            check_packed_bytes(checkpoint, 1);
        }
    }
    CHECK(packed > 50);
}

TEST_CASE("the parts of a GGUF file are all of its tensors, in their types", "[io][checkpoint]") {
    namespace made = moe_test::made_gguf;
    moe_test::Draw draw(42);
    const moe_test::TemporaryDirectory folder;
    const std::string path = folder.file("model.gguf");
    for (const made::Row& row : made::rows()) {
        INFO(row.name);
        made::Made(row, "mixed", draw).write(path);
        const auto checkpoint = moe::Checkpoint::open(path);
        check_parts(checkpoint);
        for (const moe::StoredPart& part : checkpoint.parts(1)) {
            CHECK(part.type == (part.name == "gate"   ? "F16"
                                : part.name == "up"   ? "BF16"
                                : part.name == "down" ? "Q8_0"
                                                      : "F32"));
        }
    }
}

TEST_CASE("the size of a packed layer of blocks is known before it is packed", "[io][checkpoint]") {
    const std::string folder = std::string(MOE_TEST_DATA_DIR) + "/golden/quantised/layers/";
    for (const std::string name : {"mixtral_q4_k_m", "qwen3moe_q8_0", "gpt_oss_mxfp4"}) {
        INFO(name);
        const auto checkpoint = moe::Checkpoint::open(folder + name + ".gguf");
        for (std::size_t i = 0; i < checkpoint.n_layers(); ++i) {
            check_packed_bytes(checkpoint, i);
            CHECK(checkpoint.packed_bytes(i) < checkpoint.packed_bytes(i, moe::Format::bfloat16));
        }
    }
}

}  // namespace moe_test::described_test
