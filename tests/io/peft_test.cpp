#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/support.hpp"
#include "moe/io/peft.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"

namespace moe_test::peft_test {

namespace {

using moe::PeftSide;
using moe::PeftTarget;

/// Elements that tell where they stand, exact in bfloat16.
std::vector<float> numbered(std::size_t count, float first) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = first + static_cast<float>(i);
    }
    return values;
}

const std::string prefix = "base_model.model.model.layers.0.mlp.experts";

struct File {
    std::vector<std::byte> bytes;

    File(const std::vector<float>& a, std::vector<std::size_t> a_shape, const std::vector<float>& b,
         std::vector<std::size_t> b_shape) {
        const std::vector<moe::TensorToWrite> tensors{
            moe::tensor_to_write<float>(prefix + ".lora_A.weight", std::move(a_shape), a),
            moe::tensor_to_write<float>(prefix + ".lora_B.weight", std::move(b_shape), b)};
        bytes = moe::safetensors_bytes(tensors);
    }
    [[nodiscard]] moe::SafetensorsFile open() const { return moe::SafetensorsFile::parse(bytes); }
};

/// What PEFT's ParamWrapper adds to an expert, (first, second), in plain loops: einsum("o r e, e r i -> e i o",
/// lora_B.reshape(out, r, n_experts), lora_A.reshape(n_experts, r, in)), `in` being what lora_A has and first.
std::vector<double> peft_update(const std::vector<float>& lora_a, const std::vector<float>& lora_b, std::size_t e,
                                std::size_t n_experts, std::size_t rank, std::size_t first, std::size_t second) {
    std::vector<double> update(first * second);
    for (std::size_t i = 0; i < first; ++i) {
        for (std::size_t o = 0; o < second; ++o) {
            for (std::size_t r = 0; r < rank; ++r) {
                update[i * second + o] += static_cast<double>(lora_b[(o * rank + r) * n_experts + e]) *
                                          static_cast<double>(lora_a[(e * rank + r) * first + i]);
            }
        }
    }
    return update;
}

/// B A (outputs, inputs) of an expert.
std::vector<double> product(const moe::PeftAdapter<double>& adapter, std::size_t e) {
    const auto [n, outputs, inputs, side] = adapter.target;
    std::vector<double> result(outputs * inputs);
    for (std::size_t o = 0; o < outputs; ++o) {
        for (std::size_t i = 0; i < inputs; ++i) {
            for (std::size_t r = 0; r < adapter.rank; ++r) {
                result[o * inputs + i] +=
                    adapter.b[(e * outputs + o) * adapter.rank + r] * adapter.a[(e * adapter.rank + r) * inputs + i];
            }
        }
    }
    return result;
}

}  // namespace

TEST_CASE("adapters of three experts, rank 2, are read as PEFT lays them out", "[peft]") {
    constexpr std::size_t n = 3;
    constexpr std::size_t rank = 2;
    for (const auto& [outputs, inputs] :
         std::vector<std::pair<std::size_t, std::size_t>>{{5, 4}, {4, 5}, {4, 4}, {1, 7}}) {
        for (const PeftSide side : {PeftSide::inputs, PeftSide::outputs}) {
            const bool swapped = side == PeftSide::outputs;
            const std::size_t first = swapped ? outputs : inputs;  // the second and third extent of the parameter
            const std::size_t second = swapped ? inputs : outputs;
            const std::vector<float> lora_a = numbered(n * rank * first, 1);
            const std::vector<float> lora_b = numbered(second * rank * n, -7);
            const File bytes(lora_a, {n * rank, first}, lora_b, {second, rank * n});
            const moe::SafetensorsFile file = bytes.open();
            const auto adapter = moe::read_peft<double>(file, prefix, {n, outputs, inputs, side});
            INFO(outputs << " x " << inputs << (swapped ? ", swapped" : ""));
            REQUIRE(adapter.rank == rank);
            for (std::size_t e = 0; e < n; ++e) {
                const std::vector<double> update = peft_update(lora_a, lora_b, e, n, rank, first, second);
                const std::vector<double> ours = product(adapter, e);
                for (std::size_t o = 0; o < outputs; ++o) {
                    for (std::size_t i = 0; i < inputs; ++i) {
                        REQUIRE(ours[o * inputs + i] == update[swapped ? o * inputs + i : i * outputs + o]);
                    }
                }
            }
        }
    }
}

TEST_CASE("single elements: the expert is slowest in lora_A and fastest in lora_B", "[peft]") {
    const std::vector<float> lora_a = numbered(3 * 2 * 4, 0);
    const std::vector<float> lora_b = numbered(5 * 2 * 3, 100);
    const File bytes(lora_a, {6, 4}, lora_b, {5, 6});
    const moe::SafetensorsFile file = bytes.open();
    const auto adapter = moe::read_peft(file, prefix, {3, 5, 4, PeftSide::inputs});
    const moe::LoraPair<float> pair = adapter.pair();
    CHECK(pair.a.block(2, 1, 1).data[3] == 4 * (2 * 2 + 1) + 3);      // expert 2, rank 1, input 3
    CHECK(pair.b.block(2, 4, 1).data[1] == 100 + 4 * 6 + 1 * 3 + 2);  // expert 2, output 4, rank 1
}

TEST_CASE("adapters are written as they were read, from any order in memory", "[peft]") {
    constexpr std::size_t n = 3;
    constexpr std::size_t rank = 2;
    for (const std::size_t inputs : {std::size_t{4}, std::size_t{5}}) {
        for (const PeftSide side : {PeftSide::inputs, PeftSide::outputs}) {
            const std::size_t outputs = 5;
            const bool swapped = side == PeftSide::outputs;
            const File bytes(
                numbered(n * rank * (swapped ? outputs : inputs), 1), {n * rank, swapped ? outputs : inputs},
                numbered((swapped ? inputs : outputs) * rank * n, 50), {swapped ? inputs : outputs, rank * n});
            const moe::SafetensorsFile file = bytes.open();
            const PeftTarget target{n, outputs, inputs, side};
            const auto adapter = moe::read_peft(file, prefix, target);
            const moe::PeftTensors<float> tensors(prefix, adapter.pair(), target);
            CHECK(moe::safetensors_bytes(tensors.tensors()) == bytes.bytes);

            std::vector<float> turned(adapter.a.size());  // A stored (inputs, rank)
            for (std::size_t e = 0; e < n; ++e) {
                for (std::size_t r = 0; r < rank; ++r) {
                    for (std::size_t i = 0; i < inputs; ++i) {
                        turned[(e * inputs + i) * rank + r] = adapter.a[(e * rank + r) * inputs + i];
                    }
                }
            }
            const moe::LoraPair<float> pair{moe::transpose(moe::stacked(turned.data(), n, inputs, rank)),
                                            adapter.pair().b};
            const moe::PeftTensors<float> of_turned(prefix, pair, target);
            CHECK(moe::safetensors_bytes(of_turned.tensors()) == bytes.bytes);
        }
    }
}

TEST_CASE("bfloat16 files are read", "[peft]") {
    std::vector<moe::bfloat16> a(3 * 2 * 4);
    std::vector<moe::bfloat16> b(5 * 2 * 3);
    for (std::size_t i = 0; i < a.size(); ++i) {
        a[i] = moe::to_bfloat16(static_cast<float>(i));
    }
    for (std::size_t i = 0; i < b.size(); ++i) {
        b[i] = moe::to_bfloat16(static_cast<float>(i));
    }
    const std::vector<moe::TensorToWrite> tensors{
        moe::tensor_to_write<moe::bfloat16>(prefix + ".lora_A.weight", {6, 4}, a),
        moe::tensor_to_write<moe::bfloat16>(prefix + ".lora_B.weight", {5, 6}, b)};
    const auto bytes = moe::safetensors_bytes(tensors);
    const moe::SafetensorsFile file = moe::SafetensorsFile::parse(bytes);
    const auto adapter = moe::read_peft(file, prefix, {3, 5, 4, PeftSide::inputs});
    CHECK(adapter.a == numbered(24, 0));
}

TEST_CASE("files of other shapes are refused, nothing is guessed", "[peft]") {
    const File bytes(numbered(24, 0), {6, 4}, numbered(30, 0), {5, 6});
    const moe::SafetensorsFile file = bytes.open();
    const auto refused = [&](const PeftTarget& target, moe::ErrorCode code, const char* text) {
        const CaughtError error = error_of([&] { (void)moe::read_peft(file, prefix, target); });
        INFO(error.text);
        CHECK(error.code == code);
        CHECK_THAT(error.text, contains(text));
    };
    refused({3, 5, 4, PeftSide::outputs}, moe::ErrorCode::shape, "is 6 x 4, it must be a multiple of 3 x 5");
    refused({4, 5, 4, PeftSide::inputs}, moe::ErrorCode::shape, "is 6 x 4, it must be a multiple of 4 x 4");
    refused({3, 6, 4, PeftSide::inputs}, moe::ErrorCode::shape, "is 5 x 6, it must be 6 x 6");
    refused({0, 5, 4, PeftSide::inputs}, moe::ErrorCode::shape, "every size must be at least 1");
    CHECK(error_of([&] {
              (void)moe::read_peft(file, "elsewhere", {3, 5, 4, PeftSide::inputs});
          }).code == moe::ErrorCode::not_found);
    const File flat(numbered(24, 0), {24}, numbered(30, 0), {5, 6});
    const moe::SafetensorsFile flat_file = flat.open();
    CHECK_THAT(error_of([&] {
                   (void)moe::read_peft(flat_file, prefix, {3, 5, 4, PeftSide::inputs});
               }).text,
               contains("1 and 2 dimensions"));
    const auto adapter = moe::read_peft(file, prefix, {3, 5, 4, PeftSide::inputs});
    CHECK(error_of([&] {
              (void)moe::PeftTensors<float>(prefix, adapter.pair(), {3, 4, 5, PeftSide::inputs});
          }).code == moe::ErrorCode::shape);
    CHECK(error_of([&] {
              (void)moe::PeftTensors<float>(prefix, {}, {3, 5, 4, PeftSide::inputs});
          }).code == moe::ErrorCode::missing);
}

}  // namespace moe_test::peft_test
