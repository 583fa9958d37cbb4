#include <moe/io/peft.hpp>

#include <cstdint>
#include <vector>

#include "fuzz/support.hpp"

// An input is four bytes, the sizes of the experts and which side lora_A is on, and then a file of safetensors.

namespace {

using namespace moe_test::fuzz;

constexpr const char* prefix = "p";

bool is_stored_as(const moe::SafetensorsFile& file, const char* name, std::span<const double> values) {
    const std::vector<double> stored = file.at(name).to_double_vector();
    for (std::size_t i = 0; i < stored.size(); ++i) {
        // NaN are compared as such: a conversion may make them quiet
        if (std::bit_cast<std::uint64_t>(stored[i]) != std::bit_cast<std::uint64_t>(values[i]) &&
            (stored[i] == stored[i] || values[i] == values[i])) {
            return false;
        }
    }
    return stored.size() == values.size();
}

void check_adapter(const moe::SafetensorsFile& file, const moe::PeftTarget& target) {
    const moe::PeftAdapter<double> adapter = moe::read_peft<double>(file, prefix, target);
    confirm(adapter.rank > 0, "an adapter has a rank");
    confirm(adapter.a.size() == target.n_experts * adapter.rank * target.inputs &&
                adapter.b.size() == target.n_experts * adapter.rank * target.outputs,
            "an adapter has the sizes of its experts");
    const moe::PeftTensors<double> tensors(prefix, adapter.pair(), target);
    const std::vector<std::byte> bytes = moe::safetensors_bytes(tensors.tensors());
    const moe::SafetensorsFile again = moe::SafetensorsFile::parse(bytes);
    for (const char* name : {"p.lora_A.weight", "p.lora_B.weight"}) {
        confirm(again.at(name).shape == file.at(name).shape, "tensors written have the shapes that were read");
        confirm(is_stored_as(file, name, again.at(name).to_double_vector()), "tensors written are those read");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input = input_of(data, size);
    moe::PeftTarget target;
    target.n_experts = take<std::uint8_t>(input);
    target.outputs = take<std::uint8_t>(input);
    target.inputs = take<std::uint8_t>(input);
    target.side = take<std::uint8_t>(input) % 2 == 0 ? moe::PeftSide::inputs : moe::PeftSide::outputs;
    (void)accepted([&] {
        const moe::SafetensorsFile file = moe::SafetensorsFile::parse(input, moe::Strictness::lenient);
        if (accepted([&] { (void)moe::read_peft<float>(file, prefix, target); })) {
            taken = true;
            confirm(accepted([&] { check_adapter(file, target); }), "what is read as floats is read as doubles");
        }
        // sizes that no file has
        moe::PeftTarget huge = target;
        huge.n_experts = ~target.n_experts;
        (void)accepted([&] { check_adapter(file, huge); });
    });
    return 0;
}
