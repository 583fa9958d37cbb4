#include <cstddef>
#include <deque>
#include <vector>

#include "layer/batch_runner.hpp"
#include "support/catch.hpp"
#include "support/guarded.hpp"

namespace moe_test::guard_pages_test {

/// Everything of the caller ends, or begins, at a page that may not be touched: a kernel that reads past it crashes.
namespace {

using moe_test::Guarded;
using moe_test::Side;

/// Weights between guard pages, in rows or transposed.
template <class W>
class GuardedBank {
public:
    GuardedBank(const moe_test::BankWeights<W>& w, Side side, bool transposed) : side_(side), n_(w.n_experts) {
        weights_ = {matrix(w.gate, w.d_ff, w.d_model, transposed), matrix(w.up, w.d_ff, w.d_model, transposed),
                    matrix(w.down, w.d_model, w.d_ff, transposed), matrix(w.gate_bias, w.d_ff, 1, false),
                    matrix(w.up_bias, w.d_ff, 1, false),           matrix(w.down_bias, w.d_model, 1, false)};
    }
    [[nodiscard]] const moe::ExpertWeights<W>& weights() const { return weights_; }

private:
    /// Transposed, the same bytes are read as the other order: other weights, as good for the purpose.
    moe::WeightStack<W> matrix(const std::vector<W>& values, std::size_t rows, std::size_t cols, bool transposed) {
        if (values.empty()) {
            return {};
        }
        memory_.emplace_back(values, side_);
        const W* const data = memory_.back().data();
        return transposed ? moe::transpose(moe::stacked(data, n_, cols, rows)) : moe::stacked(data, n_, rows, cols);
    }

    Side side_;
    std::size_t n_;
    std::deque<Guarded<W>> memory_;
    moe::ExpertWeights<W> weights_;
};

/// The outputs of a layer whose x, y and weights are all guarded, over views and packed, must agree.
template <class W>
bool runs_guarded(const moe_test::LayerShape& shape, std::size_t n_tokens, std::size_t gap, Side side,
                  std::uint64_t seed) {
    using T = moe::ComputeType<W>;
    moe_test::Draw draw(seed);
    const moe_test::BankWeights<W> plain(draw, shape.n_experts, shape.d_model, shape.d_ff, shape.form.gated(),
                                         shape.biases);
    const GuardedBank<W> guarded(plain, side, draw.coin());
    const moe::ExpertBank<W, moe::AnyForm> bank(shape.form, guarded.weights());
    const Guarded<W> router(moe_test::random_elements<W>(draw, shape.n_experts * shape.d_model, 1), side);
    const Guarded<W> router_bias(moe_test::random_elements<W>(draw, shape.n_experts, 1), side);
    const Guarded<T> output_bias(moe_test::random_elements<T>(draw, shape.d_model, 1), side);
    moe::LayerOptions<T> options;
    options.output_bias = {output_bias.data(), output_bias.size()};
    const auto make_router = [&] {
        return moe::Router<W, moe::Dense<moe::Softmax>>(
            moe::view(static_cast<const W*>(router.data()), shape.n_experts, shape.d_model),
            std::span<const W>(router_bias.data(), router_bias.size()), {});
    };
    const std::size_t stride = shape.d_model + gap;
    const std::size_t extent =
        n_tokens == 0 ? 0 : (n_tokens - 1) * stride + shape.d_model;  // no gap behind the last row
    const Guarded<T> x(moe_test::random_elements<T>(draw, extent, 1), side);
    const Guarded<T> y(std::vector<T>(extent), side);
    const Guarded<T> packed_y(std::vector<T>(extent), side);
    const auto input = moe::view(static_cast<const T*>(x.data()), n_tokens, shape.d_model, stride);
    const auto workspace_of = [&](const auto& layer) {
        return Guarded<std::byte>(std::vector<std::byte>(layer.workspace_bytes(n_tokens, 1)), side);
    };
    const moe::MoELayer layer(make_router(), bank, options);
    const auto memory = workspace_of(layer);
    moe::Workspace workspace(std::span(memory.data(), memory.size()));
    layer.forward(input, moe::view(y.data(), n_tokens, shape.d_model, stride), workspace);
    const moe::MoELayer packed(make_router(), moe::PackedExperts(bank), options);
    packed.forward(input, moe::view(packed_y.data(), n_tokens, shape.d_model, stride), workspace);
    return moe_test::same_bits(std::span(y.data(), y.size()), std::span(packed_y.data(), packed_y.size()));
}

template <class W>
void check_guarded() {
    for (std::uint64_t seed = 0; seed < 250; ++seed) {
        moe_test::Draw draw(seed);
        moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 70, 4);
        const std::size_t n_tokens = draw.size(0, 14);
        const std::size_t gap = draw.coin() ? 0 : draw.size(1, 9);
        INFO("seed " << seed);
        REQUIRE(runs_guarded<W>(shape, n_tokens, gap, Side::end, seed));
        REQUIRE(runs_guarded<W>(shape, n_tokens, gap, Side::begin, seed));
    }
}

}  // namespace

TEST_CASE("nothing is read or written beyond x, y, weights and workspace: float", "[guard]") { check_guarded<float>(); }
TEST_CASE("nothing is read or written beyond x, y, weights and workspace: double", "[guard]") {
    check_guarded<double>();
}
TEST_CASE("nothing is read or written beyond x, y, weights and workspace: bfloat16", "[guard]") {
    check_guarded<moe::bfloat16>();
}
TEST_CASE("nothing is read or written beyond x, y, weights and workspace: float16", "[guard]") {
    check_guarded<moe::float16>();
}

}  // namespace moe_test::guard_pages_test
