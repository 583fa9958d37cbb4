#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/guarded.hpp"
#include "train/gradients.hpp"
#include "train/open_layer.hpp"

/// Everything of the caller ends, or begins, at a page that may not be touched; what stands between the elements of a
/// gradient is NaN and stays so.
namespace moe_test::train_guard_pages_test {

namespace {

/// Memory of one gradient: a matrix an expert, in an order and with gaps drawn by lot, between guard pages. Elements
/// are 0 at first, gaps NaN.
template <class T>
class GuardedGradient {
public:
    GuardedGradient(Draw& draw, Side side, std::size_t n, std::size_t rows, std::size_t columns)
        : n_(n), rows_(rows), columns_(columns), transposed_(draw.coin()), gap_(draw.coin() ? 0 : draw.size(1, 9)) {
        const std::size_t outer = transposed_ ? columns : rows;
        const std::size_t inner = transposed_ ? rows : columns;
        std::vector<T> values(n * outer * (inner + gap_), std::numeric_limits<T>::quiet_NaN());
        for (std::size_t row = 0; row < n * outer; ++row) {
            std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(row * (inner + gap_)), inner, T(0));
        }
        memory_.emplace_back(values, side);
    }

    [[nodiscard]] moe::MutableStack<T> stack() const {
        T* const data = memory_[0].data();
        if (transposed_) {  // rows of (inner + gap) columns, turned over, are outputs of which some are left out
            return moe::transpose(moe::stacked_gradients(data, n_, columns_, rows_ + gap_)).outputs_slice(0, 1, rows_);
        }
        const auto padded = moe::transpose(moe::stacked_gradients(data, n_, rows_, columns_ + gap_));
        return moe::transpose(padded.outputs_slice(0, 1, columns_));
    }

    /// Whether it has the bits of `expected` (n, rows, columns), and NaN in all gaps.
    [[nodiscard]] bool holds(const std::vector<T>& expected) const {
        const std::size_t outer = transposed_ ? columns_ : rows_;
        const std::size_t inner = transposed_ ? rows_ : columns_;
        const std::span<const T> memory(memory_[0].data(), memory_[0].size());
        std::vector<T> found(expected.size());
        bool gaps_hold = true;
        for (std::size_t i = 0; i < memory.size(); ++i) {
            const std::size_t e = i / (inner + gap_) / outer;
            const std::size_t o = i / (inner + gap_) % outer;
            const std::size_t in = i % (inner + gap_);
            if (in < inner) {
                found[(e * rows_ + (transposed_ ? in : o)) * columns_ + (transposed_ ? o : in)] = memory[i];
            } else {
                gaps_hold = gaps_hold && std::isnan(memory[i]);
            }
        }
        return gaps_hold && same_bits(found, expected);
    }

private:
    std::size_t n_;
    std::size_t rows_;
    std::size_t columns_;
    bool transposed_;
    std::size_t gap_;
    std::vector<Guarded<T>> memory_;
};

/// Copies of vectors between guard pages.
template <class V>
class GuardedCopies {
public:
    explicit GuardedCopies(Side side) : side_(side) {}
    const V* copy(const std::vector<V>& values) {
        memory_.emplace_back(values, side_);
        return memory_.back().data();
    }

private:
    Side side_;
    std::deque<Guarded<V>> memory_;
};

template <class W>
moe::WeightStack<W> guarded(GuardedCopies<W>& copies, const std::vector<W>& values, std::size_t n, std::size_t rows,
                            std::size_t columns) {
    return values.empty() ? moe::WeightStack<W>() : moe::stacked(copies.copy(values), n, rows, columns);
}

/// The gradients of a layer all of whose memory is guarded have the bits that they have elsewhere.
template <class W>
bool runs_guarded(std::uint64_t seed, Side side) {
    using T = moe::ComputeType<W>;
    Draw draw(seed);
    LayerShape shape = random_layer_shape(draw, 70, 4);
    shape.biases = true;
    shape.shared_widths.clear();
    const OpenLayer<W> open(draw, shape);
    const std::size_t d = shape.d_model;
    const std::size_t n = draw.size(0, 9) == 0 ? 0 : draw.size(1, 14);
    const auto x = random_elements<T>(draw, n * d, 1);
    const auto dy = random_elements<T>(draw, n * d, 1);
    const moe::TokenChoice<> gate{.top_k = static_cast<int>(draw.size(1, shape.n_choices()))};
    const auto plain = open.layer(gate);
    Gradients<T> expected(plain, n);
    run_backward(plain, x, dy, expected);

    GuardedCopies<W> weights(side);
    GuardedCopies<T> values(side);
    const auto stack = [&](const std::vector<W>& part, std::size_t rows, std::size_t columns) {
        return guarded(weights, part, shape.n_experts, rows, columns);
    };
    const auto& w = open.experts;
    const moe::ExpertBank<W, moe::AnyForm> bank(
        shape.form, {stack(w.gate, shape.d_ff, d), stack(w.up, shape.d_ff, d), stack(w.down, d, shape.d_ff),
                     stack(w.gate_bias, shape.d_ff, 1), stack(w.up_bias, shape.d_ff, 1), stack(w.down_bias, d, 1)});
    moe::LayerOptions<T> options = open.options();
    options.output_bias = {values.copy(open.output_bias), open.output_bias.size()};
    options.null_experts.constants = moe::view(values.copy(open.constants), shape.n_constant, d);
    options.null_experts.mixes = moe::view(values.copy(open.mixes), open.mixes.size() / d, d);
    const moe::MoELayer layer(moe::Router<W, moe::TokenChoice<>>(
                                  moe::view(weights.copy(open.router), shape.n_choices(), d),
                                  std::span<const W>(weights.copy(open.router_bias), open.router_bias.size()), gate),
                              bank, options);

    const std::size_t gated = shape.form.gated() ? shape.n_experts : 0;
    GuardedGradient<T> router(draw, side, 1, shape.n_choices(), d);
    GuardedGradient<T> up(draw, side, shape.n_experts, shape.d_ff, d);
    GuardedGradient<T> down(draw, side, shape.n_experts, d, shape.d_ff);
    GuardedGradient<T> up_bias(draw, side, shape.n_experts, shape.d_ff, 1);
    GuardedGradient<T> down_bias(draw, side, shape.n_experts, d, 1);
    GuardedGradient<T> gate_projection(draw, side, shape.n_experts, shape.d_ff, d);
    const Guarded<T> router_bias(std::vector<T>(shape.n_choices()), side);
    const Guarded<T> output_bias(std::vector<T>(d), side);
    const Guarded<T> constants(std::vector<T>(open.constants.size()), side);
    const Guarded<T> mixes(std::vector<T>(open.mixes.size()), side);
    moe::LayerGradients<T> to;
    to.router = router.stack();
    to.router_bias = {router_bias.data(), router_bias.size()};
    to.experts.gate = gated > 0 ? gate_projection.stack() : moe::MutableStack<T>();
    to.experts.up = up.stack();
    to.experts.down = down.stack();
    to.experts.up_bias = up_bias.stack();
    to.experts.down_bias = down_bias.stack();
    to.output_bias = {output_bias.data(), output_bias.size()};
    to.constants = moe::view(constants.data(), shape.n_constant, d);
    to.mixes = moe::view(mixes.data(), mixes.size() / d, d);

    const Guarded<T> y(std::vector<T>(n * d), side);
    const Guarded<T> dx(std::vector<T>(n * d), side);
    const T* const guarded_x = values.copy(x);
    const auto guarded_dy = moe::view(values.copy(dy), n, d);
    moe::Tape<T> tape(draw.coin() ? moe::TapeKeeps::products : moe::TapeKeeps::routing);
    moe::Workspace elsewhere;
    moe::forward(layer, moe::view(guarded_x, n, d), moe::view(y.data(), n, d), tape, elsewhere);
    const moe::BackwardLayer<T> references(layer);
    const moe::BackwardPass<T> measured(references, tape, guarded_dy, moe::view(dx.data(), n, d), to, {});
    const std::size_t lines = moe::divide_up(measured.workspace_bytes(1), moe::buffer_alignment);
    const Guarded<std::byte> memory(std::vector<std::byte>(lines * moe::buffer_alignment), side);
    moe::Workspace workspace(std::span(memory.data(), memory.size()));
    moe::backward(layer, tape, guarded_dy, moe::view(dx.data(), n, d), to, workspace);

    const auto holds = [](const Guarded<T>& found, const std::vector<T>& values_expected) {
        return same_bits(std::span(found.data(), found.size()), values_expected);
    };
    return router.holds(expected.router) && up.holds(expected.up) && down.holds(expected.down) &&
           up_bias.holds(expected.up_bias) && down_bias.holds(expected.down_bias) &&
           (gated == 0 || gate_projection.holds(expected.gate)) && holds(router_bias, expected.router_bias) &&
           holds(output_bias, expected.output_bias) && holds(constants, expected.constants) &&
           holds(mixes, expected.mixes) && holds(dx, expected.dx);
}

template <class W>
void check_guarded() {
    for (std::uint64_t seed = 0; seed < 250; ++seed) {
        INFO("seed " << seed);
        REQUIRE(runs_guarded<W>(seed, Side::end));
        REQUIRE(runs_guarded<W>(seed, Side::begin));
    }
}

}  // namespace

TEST_CASE("nothing is touched beyond x, dy, dx, weights, gradients and workspace: float", "[guard]") {
    check_guarded<float>();
}
TEST_CASE("nothing is touched beyond x, dy, dx, weights, gradients and workspace: double", "[guard]") {
    check_guarded<double>();
}
TEST_CASE("nothing is touched beyond x, dy, dx, weights, gradients and workspace: bfloat16", "[guard]") {
    check_guarded<moe::bfloat16>();
}

TEST_CASE("gate and up in turn in one matrix, beside columns of somebody else's", "[guard]") {
    Draw draw(1);
    LayerShape shape{.n_experts = 3, .d_model = 7, .d_ff = 13};
    const OpenLayer<float> open(draw, shape);
    const auto layer = open.layer(moe::TokenChoice<>{.top_k = 2});
    const std::size_t n = 11;
    const auto x = random_elements<float>(draw, n * 7, 1);
    Gradients<float> expected(layer, n);
    run_backward(layer, x, x, expected);
    // (experts, d_ff * 2 + 3 rows, d_model + 2): gate and up in turn, NaN around
    constexpr std::size_t rows = 2 * 13 + 3;
    constexpr std::size_t columns = 7 + 2;
    std::vector<float> values(3 * rows * columns, std::numeric_limits<float>::quiet_NaN());
    const auto at = [&](std::size_t e, std::size_t row, std::size_t k) { return (e * rows + row) * columns + k; };
    for (std::size_t e = 0; e < 3; ++e) {
        for (std::size_t row = 0; row < 26; ++row) {
            std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(at(e, row, 0)), 7, 0.0F);
        }
    }
    const Guarded<float> memory(values, Side::end);
    const auto narrow =
        moe::transpose(moe::transpose(moe::stacked_gradients(memory.data(), 3, rows, columns)).outputs_slice(0, 1, 7));
    const auto halves = moe::interleaved(narrow.outputs_slice(0, 1, 26));
    Gradients<float> g(layer, n);
    g.to.experts.gate = halves.gate;
    g.to.experts.up = halves.up;
    run_backward(layer, x, x, g);
    std::vector<float> gate, up;
    std::size_t untouched = 0;
    for (std::size_t e = 0; e < 3; ++e) {
        for (std::size_t row = 0; row < rows; ++row) {
            for (std::size_t k = 0; k < columns; ++k) {
                const float value = memory.data()[at(e, row, k)];
                if (row < 26 && k < 7) {
                    (row % 2 == 0 ? gate : up).push_back(value);
                } else {
                    untouched += std::isnan(value) ? 1U : 0U;
                }
            }
        }
    }
    CHECK(same_bits(gate, expected.gate));
    CHECK(same_bits(up, expected.up));
    CHECK(untouched == 3 * (rows * columns - 26 * 7));
}

}  // namespace moe_test::train_guard_pages_test
