// Experts in 8 and 4 bits: packed from float weights, kept in a file, mapped from it, and how far each is from the
// layer it was made from. And how experts are read that are more than memory.

#include <cmath>
#include <cstdio>
#include <vector>

#include <moe/io.hpp>
#include <moe/moe.hpp>

namespace {

constexpr std::size_t n_experts = 8;
constexpr std::size_t d_model = 96;
constexpr std::size_t d_ff = 160;
constexpr std::size_t n_tokens = 50;

std::vector<float> random_values(std::size_t count, std::uint64_t seed) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = 2 * moe::random_uniform(seed, i) - 1;
    }
    return values;
}

template <class Layer>
std::vector<float> forward(const Layer& layer, const std::vector<float>& x) {
    std::vector<float> y(x.size());
    moe::Workspace workspace;
    layer.forward(moe::view(x.data(), n_tokens, d_model), moe::view(y.data(), n_tokens, d_model), workspace);
    return y;
}

/// Prints how far `y` is from `wanted`; true when that is at most `allowed`, of the mean square of `wanted`.
bool near(const char* name, const std::vector<float>& y, const std::vector<float>& wanted, double allowed) {
    double error = 0;
    double power = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        error += std::pow(static_cast<double>(y[i]) - static_cast<double>(wanted[i]), 2);
        power += std::pow(static_cast<double>(wanted[i]), 2);
    }
    std::printf("%-26s normalised mean squared error %.1e, allowed %.0e\n", name, error / power, allowed);
    return error <= allowed * power;
}

}  // namespace

int main() {
    const std::vector<float> router = random_values(n_experts * d_model, 1);
    const std::vector<float> gate = random_values(n_experts * d_ff * d_model, 2);
    const std::vector<float> up = random_values(n_experts * d_ff * d_model, 3);
    const std::vector<float> down = random_values(n_experts * d_model * d_ff, 4);
    const std::vector<float> x = random_values(n_tokens * d_model, 5);
    const moe::Router choose{moe::view(router.data(), n_experts, d_model),
                             moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true}};
    const moe::MoELayer layer{choose, moe::SwiGLU{moe::stacked(gate.data(), n_experts, d_ff, d_model),
                                                  moe::stacked(up.data(), n_experts, d_ff, d_model),
                                                  moe::stacked(down.data(), n_experts, d_model, d_ff)}};
    const char* const path = "quantized_experts.moe";

    // [readme]
    const auto integer = moe::pack<moe::Int8>(layer);
    const auto exact = moe::pack<moe::Int8>(layer, moe::SerialExecutor{}, moe::Compute::exact);
    moe::write_packed(path, integer.experts());     // once
    const auto file = moe::PackedFile::open(path);  // at every start: mapped and checked, not copied
    const moe::MoELayer mapped{choose.packed(), file.experts<moe::Int8>(moe::Gated<moe::Silu>{}, moe::Compute::int8)};
    // [/readme]
    const auto int4 = moe::pack<moe::Int4>(layer, moe::SerialExecutor{}, moe::Compute::int8);

    const std::vector<float> wanted = forward(layer, x);
    const std::vector<float> from_file = forward(mapped, x);
    bool right = near("int8 weights, float32", forward(exact, x), wanted, 2e-4);
    right = near("int8 weights, integers", from_file, wanted, 5e-4) && right;
    right = near("int4 weights, integers", forward(int4, x), wanted, 3e-2) && right;
    right = from_file == forward(integer, x) && right;

    std::vector<float> y(x.size());
    moe::Workspace workspace;
    // [readme]
    moe::write_packed(path, int4.experts(), moe::SerialExecutor{}, moe::PackedOrder::apart);
    const auto large = moe::PackedFile::open(path, moe::Verify::header);  // reads the header alone
    moe::ExpertResidency residency(large.expert_ranges());                // or checkpoint.expert_ranges(number)
    const moe::MoELayer in_part{choose, large.experts<moe::Int4>(moe::Gated<moe::Silu>{}, moe::Compute::int8)};
    in_part.forward(moe::view(x.data(), n_tokens, d_model), moe::view(y.data(), n_tokens, d_model), workspace,
                    moe::SerialExecutor{}, {.residency = &residency});
    // [/readme]
    right = y == forward(in_part, x) && right;
    std::printf("%s\n%s\n", mapped.describe().text().c_str(), right ? "ok" : "WRONG");
    std::remove(path);
    return right ? 0 : 1;
}
