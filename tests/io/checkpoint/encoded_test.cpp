#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint/checkpoint_support.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

/// Folders whose weights are codes, against layers over their decoded values.
namespace moe_test::checkpoint_encoded_test {

namespace {

using namespace moe_test::checkpoint;
namespace enc = moe::encodings;
using moe::DType;

constexpr std::size_t n_experts = 3;
constexpr std::size_t d_model = 64;
constexpr std::size_t d_ff = 32;

/// Tensors of any types, and values of projections.
class Model {
public:
    std::vector<moe::TensorToWrite> tensors;
    std::array<std::vector<float>, 3> decoded;  // gate, up, down of all experts

    std::span<const std::byte> add(const std::string& name, DType dtype, std::vector<std::size_t> shape,
                                   std::vector<std::byte> bytes) {
        const std::vector<std::byte>& kept = memory_.emplace_back(std::move(bytes));
        tensors.push_back({name, dtype, std::move(shape), kept});
        return kept;
    }
    /// Bytes without the patterns of NaN and infinity.
    std::span<const std::byte> codes(const std::string& name, DType dtype, std::vector<std::size_t> shape, Draw& draw,
                                     unsigned mask = 0xFFU) {
        std::size_t count = moe::dtype_size(dtype);
        for (const std::size_t extent : shape) {
            count *= extent;
        }
        std::vector<std::byte> bytes(count);
        const std::vector<float> random = random_elements<float>(draw, count, 1);
        for (std::size_t i = 0; i < count; ++i) {
            bytes[i] = static_cast<std::byte>(static_cast<unsigned>((random[i] + 1) * 127) & mask);
        }
        return add(name, dtype, std::move(shape), std::move(bytes));
    }
    /// Scales 1/4, 1/2, 1, one after the other.
    enc::Scales scales(const std::string& name, std::vector<std::size_t> shape) {
        std::size_t count = 1;
        for (const std::size_t extent : shape) {
            count *= extent;
        }
        std::vector<std::byte> bytes(count * sizeof(float));
        for (std::size_t i = 0; i < count; ++i) {
            const float value = 0.25F * static_cast<float>(1U << i % 3);
            std::memcpy(bytes.data() + i * sizeof value, &value, sizeof value);
        }
        return {add(name, DType::f32, std::move(shape), std::move(bytes)), enc::ScaleType::float32};
    }

private:
    std::deque<std::vector<std::byte>> memory_;
};

template <class Matrix>
void decode(const Matrix& matrix, std::vector<float>& values) {
    for (std::size_t o = 0; o < matrix.outputs(); ++o) {
        values.resize(values.size() + matrix.inputs());
        matrix.decode(o, 0, matrix.inputs(), values.data() + values.size() - matrix.inputs());
    }
}

/// One projection of one expert in an encoding, written and decoded.
void add_projection(Model& model, const std::string& encoding, const std::string& name, std::size_t out, std::size_t in,
                    std::vector<float>& values, Draw& draw) {
    if (encoding == "fp8 blocks") {
        const auto codes = model.codes(name + ".weight", DType::f8_e4m3, {out, in}, draw, 0x3FU);
        const auto scales = model.scales(name + ".weight_scale_inv", {1, 1});
        decode(enc::Fp8Matrix(enc::Float8::e4m3, codes, scales, out, in, 128, 128), values);
    } else if (encoding == "fp8 outputs") {
        const auto codes = model.codes(name + ".weight", DType::f8_e4m3, {out, in}, draw, 0x3FU);
        const auto scales = model.scales(name + ".weight_scale", {out, 1});
        decode(enc::Fp8Matrix(enc::Float8::e4m3, codes, scales, out, in, 1, in), values);
    } else if (encoding == "fp8 tensor") {
        const auto codes = model.codes(name + ".weight", DType::f8_e5m2, {out, in}, draw, 0x3FU);
        const auto scales = model.scales(name + ".weight_scale", {});
        decode(enc::Fp8Matrix(enc::Float8::e5m2, codes, scales, out, in, out, in), values);
    } else if (encoding.starts_with("gptq")) {
        const auto codes = model.codes(name + ".qweight", DType::i32, {in / 8, out}, draw);
        const auto zeros = model.codes(name + ".qzeros", DType::i32, {in / 16, out / 8}, draw);
        const auto scales = model.scales(name + ".scales", {in / 16, out});
        decode(enc::GptqMatrix({codes, zeros, scales}, out, in, 16,
                               encoding == "gptq" ? enc::GptqZeros::less_one : enc::GptqZeros::as_they_are),
               values);
    } else if (encoding == "awq") {
        const auto codes = model.codes(name + ".qweight", DType::i32, {in, out / 8}, draw);
        const auto zeros = model.codes(name + ".qzeros", DType::i32, {in / 16, out / 8}, draw);
        const auto scales = model.scales(name + ".scales", {in / 16, out});
        decode(enc::AwqMatrix({codes, zeros, scales}, out, in, 16), values);
    } else if (encoding == "int4") {
        const auto codes = model.codes(name + ".weight_packed", DType::i32, {out, in / 8}, draw);
        const auto scales = model.scales(name + ".weight_scale", {out, in / 32});
        decode(enc::CompressedInt4Matrix({codes, scales}, out, in, 32), values);
    } else {
        const bool divides = encoding == "nvfp4 divided";
        const auto codes = model.codes(name + (divides ? ".weight_packed" : ".weight"), DType::u8, {out, in / 2}, draw);
        const auto scales = model.codes(name + ".weight_scale", DType::f8_e4m3, {out, in / 16}, draw, 0x3FU);
        (void)model.scales(name + (divides ? ".weight_global_scale" : ".weight_scale_2"), {});
        decode(enc::Nvfp4Matrix(codes, scales, 0.25F,
                                divides ? enc::GlobalScale::divides : enc::GlobalScale::multiplies, out, in),
               values);
    }
}

moe::AnyLayer<float> composed(const moe::MoEConfig& config, const Model& model, const std::vector<float>& router) {
    moe::LayerWeights<float> weights;
    weights.router = moe::view(router.data(), n_experts, d_model);
    weights.experts.gate = moe::stacked(model.decoded[0].data(), n_experts, d_ff, d_model);
    weights.experts.up = moe::stacked(model.decoded[1].data(), n_experts, d_ff, d_model);
    weights.experts.down = moe::stacked(model.decoded[2].data(), n_experts, d_model, d_ff);
    return moe::make_layer(config, weights);
}

/// Codes are as many weights as they decode to, and what stands beside them is none, in names and numbers of bytes.
void check_described(const moe::Checkpoint& checkpoint, const std::string& encoding) {
    std::size_t weights = 0;
    std::size_t bytes = 0;
    for (const moe::CheckpointTensor& tensor : checkpoint.all_tensors()) {
        weights += tensor.weights;
        bytes += tensor.bytes;
    }
    const std::size_t router = n_experts * d_model;
    CHECK(weights == n_experts * 3 * d_model * d_ff + router);
    std::size_t of_parts = 0;
    for (const moe::StoredPart& part : checkpoint.parts(0)) {
        of_parts += part.bytes;
        const std::string name = encoding.starts_with("fp8")     ? "FP8"
                                 : encoding.starts_with("gptq")  ? "GPTQ"
                                 : encoding.starts_with("nvfp4") ? "NVFP4"
                                 : encoding == "awq"             ? "AWQ"
                                                                 : "INT4";
        CHECK(part.type == (part.routed ? name : "F32"));
        CHECK(part.weights == (part.routed ? n_experts * d_model * d_ff : router));
    }
    CHECK(of_parts == bytes);
}

}  // namespace

TEST_CASE("weights in the encodings of published folders are those of their decoded values", "[io][checkpoint]") {
    Draw draw(29);
    for (const std::string encoding :
         {"fp8 blocks", "fp8 outputs", "fp8 tensor", "gptq", "gptq_v2", "awq", "int4", "nvfp4", "nvfp4 divided"}) {
        INFO(encoding);
        Model model;
        const std::string room = "model.layers.0.mlp.";
        const char* const names[] = {".gate_proj", ".up_proj", ".down_proj"};
        for (std::size_t e = 0; e < n_experts; ++e) {
            for (std::size_t j = 0; j < 3; ++j) {
                add_projection(model, encoding, room + "experts." + std::to_string(e) + names[j],
                               j == 2 ? d_model : d_ff, j == 2 ? d_ff : d_model, model.decoded[j], draw);
            }
        }
        const std::vector<float> router = values(draw, n_experts * d_model);
        model.tensors.push_back(
            {room + "gate.weight", DType::f32, {n_experts, d_model}, std::as_bytes(std::span<const float>(router))});
        const moe_test::TemporaryDirectory folder;
        write_text(
            folder.file("config.json"),
            R"({"model_type":"qwen3_moe","hidden_size":64,"num_hidden_layers":1,"num_experts":3,)"
            R"("num_experts_per_tok":2,"moe_intermediate_size":32,"quantization_config":{"checkpoint_format":")" +
                encoding + "\"}}");
        moe::write_safetensors(folder.file("model.safetensors"), model.tensors);
        const auto checkpoint = moe::Checkpoint::open(folder.file(""));
        const std::vector<float> x = values(draw, 5 * d_model);
        const std::vector<float> wanted = outputs_of(composed(checkpoint.config(0), model, router), x);
        CHECK(moe_test::same_bits(outputs_of(checkpoint.layer(0), x), wanted));
        CHECK(checkpoint.tensors(0).size() == model.tensors.size());
        std::size_t bytes = 0;
        for (const moe::TensorToWrite& tensor : std::span(model.tensors).first(model.tensors.size() - 1)) {
            bytes += tensor.bytes.size();  // of all but the router
        }
        CHECK(brings_experts(checkpoint, 0, x, wanted, bytes / n_experts));
        check_described(checkpoint, encoding);
        model.tensors.erase(model.tensors.begin() + 1);  // what stands beside the first codes
        moe::write_safetensors(folder.file("model.safetensors"), model.tensors);
        const auto error = moe_test::caught([&] { (void)moe::Checkpoint::open(folder.file("")).layer(0); });
        REQUIRE(error.has_value());
        CHECK(error->code == moe::ErrorCode::not_found);
        CHECK(error->text.find("experts.0.gate_proj") != std::string::npos);
    }
}

TEST_CASE("GPT-OSS as it is published is the layer of its decoded values", "[io][checkpoint]") {
    Draw draw(31);
    Model model;
    const std::string room = "model.layers.0.mlp.";
    const auto add = [&](const std::string& name, std::size_t out, std::size_t in) {
        const auto blocks = model.codes(room + name + "_blocks", DType::u8, {n_experts, out, in / 32, 16}, draw);
        const auto scales = model.codes(room + name + "_scales", DType::u8, {n_experts, out, in / 32}, draw, 0x7FU);
        std::vector<float> decoded;
        decode(enc::Mxfp4Matrix(blocks, scales, n_experts * out, in), decoded);
        return decoded;
    };
    const std::vector<float> gate_up = add("experts.gate_up_proj", 2 * d_ff, d_model);
    const std::vector<float> down = add("experts.down_proj", d_model, d_ff);
    const std::vector<float> router = values(draw, n_experts * d_model);
    const std::vector<float> router_bias = values(draw, n_experts);
    const std::vector<float> gate_up_bias = values(draw, n_experts * 2 * d_ff);
    const std::vector<float> down_bias = values(draw, n_experts * d_model);
    MadeTensors made;  // what is not in codes, in BF16
    made.tensors = model.tensors;
    made.add(room + "router.weight", {n_experts, d_model}, router, DType::bf16);
    made.add(room + "router.bias", {n_experts}, router_bias, DType::bf16);
    made.add(room + "experts.gate_up_proj_bias", {n_experts, 2 * d_ff}, gate_up_bias, DType::bf16);
    made.add(room + "experts.down_proj_bias", {n_experts, d_model}, down_bias, DType::bf16);
    const moe_test::TemporaryDirectory folder;
    write_text(folder.file("config.json"),
               R"({"architectures":["GptOssForCausalLM"],"hidden_size":64,"num_hidden_layers":1,"num_local_experts":3,)"
               R"("num_experts_per_tok":2,"intermediate_size":32,"swiglu_limit":7.0})");
    moe::write_safetensors(folder.file("model.safetensors"), made.tensors);
    const auto checkpoint = moe::Checkpoint::open(folder.file(""));
    const moe::MoEConfig config = checkpoint.config(0);
    CHECK(config.storage == moe::StorageOrder{moe::JoinedAs::interleaved, false, false});
    const std::vector<moe::StoredPart> parts = checkpoint.parts(0);
    REQUIRE(parts.size() == 4);
    CHECK(parts[1] == moe::StoredPart{.name = "gate and up",
                                      .type = "MXFP4",
                                      .tensors = 1,
                                      .bytes = n_experts * 2 * d_ff * d_model * 17 / 32,
                                      .weights = n_experts * 2 * d_ff * d_model,
                                      .routed = true});
    const auto blocks_layout = [](std::size_t format_bytes) { return n_experts * 3 * d_ff * d_model * format_bytes; };
    CHECK(checkpoint.packed_bytes(0) < blocks_layout(1));
    CHECK(checkpoint.packed_bytes(0, moe::Format::bfloat16) > blocks_layout(2) - 1);
    moe::LayerWeights<float> weights;
    weights.router = moe::view(router.data(), n_experts, d_model);
    weights.router_bias = router_bias;
    weights.experts =
        moe::expert_weights<float>(config, {.gate_up = moe::stacked(gate_up.data(), n_experts, 2 * d_ff, d_model),
                                            .down = moe::stacked(down.data(), n_experts, d_model, d_ff),
                                            .gate_up_bias = moe::stacked(gate_up_bias.data(), n_experts, 2 * d_ff, 1),
                                            .down_bias = moe::stacked(down_bias.data(), n_experts, d_model, 1)});
    const std::vector<float> x = values(draw, 5 * d_model);
    const std::vector<float> wanted = outputs_of(moe::make_layer(config, weights), x);
    CHECK(moe_test::same_bits(outputs_of(checkpoint.layer(0), x), wanted));
    CHECK(checkpoint.tensors(0).size() == made.tensors.size());
    std::size_t bytes = 0;
    for (const moe::TensorToWrite& tensor : model.tensors) {
        bytes += tensor.bytes.size();
    }
    CHECK(brings_experts(checkpoint, 0, x, wanted, bytes / n_experts));
    const auto packed = checkpoint.pack(0, moe::Format::as_stored, moe::SerialExecutor{}, moe::Compute::exact);
    CHECK(moe_test::same_bits(outputs_of(packed, x), wanted));
    CHECK(packed.describe().hidden.weights == "packed blocks of MXFP4");
}

}  // namespace moe_test::checkpoint_encoded_test
