#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "support/errors.hpp"
#include "train/lora_case.hpp"

/// Adapters merged into weights, adapters of routers, frozen routers.
namespace moe_test::lora_merge_test {

namespace {

constexpr double double_bound = 1e-24;  // of layer_gradients_test

/// The weights of a bank, which may be changed, and where.
template <class W>
struct OpenBank {
    BankWeights<W> weights;
    moe::AnyForm form;

    [[nodiscard]] moe::ExpertBank<W, moe::AnyForm> bank() const { return {form, weights.stacks()}; }
    [[nodiscard]] moe::MutableStack<W> up() {
        return moe::stacked_gradients(weights.up.data(), weights.n_experts, weights.d_ff, weights.d_model);
    }
    [[nodiscard]] moe::MutableStack<W> gate() {
        return moe::stacked_gradients(weights.gate.data(), weights.n_experts, weights.d_ff, weights.d_model);
    }
    [[nodiscard]] moe::MutableStack<W> down() {
        return moe::stacked_gradients(weights.down.data(), weights.n_experts, weights.d_model, weights.d_ff);
    }
};

/// Merged weights of one stack against the definition, which has products and sums in double; W rounds once at the end.
template <class W>
void check_merge(std::uint64_t seed, bool transposed) {
    using T = moe::ComputeType<W>;
    Draw draw(seed);
    const std::size_t n = draw.size(1, 4);
    const std::size_t outputs = draw.size(1, 40);
    const std::size_t inputs = seed % 5 == 0 ? 300 : draw.size(1, 40);
    const Adapter<T> adapter(draw, n, draw.size(1, 9), outputs, inputs);
    const double scale = draw.coin() ? -0.75 : 2;
    std::vector<W> weights = random_elements<W>(draw, n * outputs * inputs, 1);
    const std::vector<W> before = weights;
    const auto at = [&](std::size_t e, std::size_t o, std::size_t i) {
        return e * outputs * inputs + (transposed ? i * outputs + o : o * inputs + i);
    };
    const auto stack = transposed ? moe::stacked_gradients(weights.data(), n, inputs, outputs).transposed()
                                  : moe::stacked_gradients(weights.data(), n, outputs, inputs);
    if (seed % 2 == 0) {
        moe::merge_lora(adapter.pair(), scale, stack);
    } else {
        moe::merge_lora(adapter.pair(), scale, stack, ThreadExecutor(3));
    }
    const double unit = static_cast<double>(std::numeric_limits<T>::epsilon());
    std::size_t wrong = 0;
    const double last = std::is_same_v<W, moe::bfloat16> ? 0x1p-8 : std::is_same_v<W, moe::float16> ? 0x1p-11 : 0;
    for (std::size_t e = 0; e < n; ++e) {
        for (std::size_t o = 0; o < outputs; ++o) {
            for (std::size_t i = 0; i < inputs; ++i) {
                double expected = static_cast<double>(moe::load_element(&before[at(e, o, i)]));
                double size = std::abs(expected);
                for (std::size_t j = 0; j < adapter.rank; ++j) {
                    const double term = scale * static_cast<double>(adapter.b[(e * outputs + o) * adapter.rank + j]) *
                                        static_cast<double>(adapter.a[(e * adapter.rank + j) * inputs + i]);
                    expected += term;
                    size += std::abs(term);
                }
                const double value = static_cast<double>(moe::load_element(&weights[at(e, o, i)]));
                // rank + 3 roundings of the sum, then one of the storage (subnormal halves: 2^-25)
                const double bound = static_cast<double>(adapter.rank + 3) * unit * size +
                                     last * (std::abs(expected) + unit * size) * 1.01 + (last > 0 ? 0x1p-25 : 0);
                wrong += std::abs(value - expected) <= bound ? 0U : 1U;
            }
        }
    }
    INFO("seed " << seed << ", " << n << " x " << outputs << " x " << inputs);
    REQUIRE(wrong == 0);
    REQUIRE(weights != before);
}

}  // namespace

TEMPLATE_TEST_CASE("an adapter is merged into weights in any order and format", "[lora]", float, double, moe::bfloat16,
                   moe::float16) {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        check_merge<TestType>(seed, false);
        check_merge<TestType>(1000 + seed, true);
    }
}

TEMPLATE_TEST_CASE("adapted layers are the merged ones but for rounding, y and dx", "[lora]", float, double) {
    using T = TestType;
    constexpr double bound = std::is_same_v<T, double> ? double_bound : 1e-11;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        Draw draw(seed);
        const std::size_t n_experts = draw.size(1, 6);
        const std::size_t d = draw.size(1, 40);
        const std::size_t d_ff = draw.size(1, 40);
        OpenBank<T> open{{draw, n_experts, d, d_ff, true, draw.coin()}, moe::AnyForm{}};
        BankAdapters<T> adapters(draw, n_experts, d, d_ff, true);
        const auto router = random_elements<T>(draw, n_experts * d, 1);
        const std::size_t n = draw.size(1, 9);
        const auto x = random_elements<T>(draw, n * d, 1);
        const auto dy = random_elements<T>(draw, n * d, 1);
        const auto run = [&](const auto& experts) {
            const moe::MoELayer layer{
                moe::Router{moe::view(router.data(), n_experts, d), moe::TokenChoice<>{.top_k = 1}}, experts};
            moe::Tape<T> tape;
            moe::Workspace workspace;
            std::vector<T> y(n * d);
            std::vector<T> dx(n * d);
            moe::forward(layer, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace);
            moe::backward(layer, tape, moe::view(dy.data(), n, d), moe::view(dx.data(), n, d), {}, workspace);
            y.insert(y.end(), dx.begin(), dx.end());
            return y;
        };
        const std::vector<T> adapted = run(moe::LoraExperts(open.bank(), adapters.views()));
        moe::merge_lora(adapters.gate.pair(), adapters.scale, open.gate());
        moe::merge_lora(adapters.up.pair(), adapters.scale, open.up());
        moe::merge_lora(adapters.down.pair(), adapters.scale, open.down());
        INFO("seed " << seed);
        REQUIRE(nmse(adapted, run(open.bank())) <= bound);
    }
}

TEST_CASE("an adapter of another shape is not merged", "[lora]") {
    Draw draw(1);
    const Adapter<float> adapter(draw, 2, 3, 5, 7);
    std::vector<float> weights(2 * 5 * 8, 1.0F);
    const CaughtError error =
        error_of([&] { moe::merge_lora(adapter.pair(), 1.0, moe::stacked_gradients(weights.data(), 2, 5, 8)); });
    CHECK(error.code == moe::ErrorCode::shape);
    CHECK_THAT(error.text, contains("2 x 3 x 7, it must be 2 x 3 x 8"));
    CHECK(weights == std::vector<float>(2 * 5 * 8, 1.0F));
    moe::merge_lora(moe::LoraPair<float>{}, 1.0, moe::stacked_gradients(weights.data(), 2, 5, 8));
    CHECK(weights == std::vector<float>(2 * 5 * 8, 1.0F));
}

TEST_CASE("a router with an adapter: gradients of A and B are those by differences, and a step is followed", "[lora]") {
    constexpr std::size_t n_experts = 5;
    constexpr std::size_t d = 7;
    constexpr std::size_t n = 11;
    Draw draw(5);
    OpenBank<double> open{{draw, n_experts, d, 3, true, false}, moe::AnyForm{}};
    const auto base = random_elements<double>(draw, n_experts * d, 1);
    Adapter<double> adapter(draw, 1, 2, n_experts, d);
    const double scale = 0.5;
    const auto x = random_elements<double>(draw, n * d, 1);
    const auto dy = random_elements<double>(draw, n * d, 1);
    moe::AdaptedMatrix<double> adapted(moe::view(base.data(), n_experts, d), adapter.pair(), scale);
    const moe::MoELayer layer{moe::Router{adapted.weights(), moe::TokenChoice<>{.top_k = 5}}, open.bank()};
    moe::Workspace workspace;
    const auto loss = [&] {
        adapted.update();
        std::vector<double> y(n * d);
        layer.forward(moe::view(x.data(), n, d), moe::view(y.data(), n, d), workspace);
        double sum = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            sum += y[i] * dy[i];
        }
        return sum;
    };
    moe::LayerGradients<double> to;
    to.router = adapted.gradient();
    for (int twice = 0; twice < 2; ++twice) {  // the gradient of the whole is zero again, A and B have the sum
        moe::Tape<double> tape;
        std::vector<double> y(n * d);
        moe::forward(layer, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace);
        moe::backward(layer, tape, moe::view(dy.data(), n, d), {}, to, workspace);
        adapted.add_gradients(adapter.gradients());
    }
    const auto check = [&](std::vector<double>& values, const std::vector<double>& gradient) {
        for (std::size_t i = 0; i < values.size(); ++i) {
            constexpr double h = 1e-6;
            const double at = values[i];
            values[i] = at + h;
            const double above = loss();
            values[i] = at - h;
            const double below = loss();
            values[i] = at;
            // the third derivative times h^2, and rounding of sums of some 10^2 over 2h
            CHECK(std::abs((above - below) / (2 * h) - gradient[i] / 2) <= 1e-7);
        }
    };
    check(adapter.a, adapter.da);
    check(adapter.b, adapter.db);
    CHECK(nmse(adapter.da, std::vector<double>(adapter.da.size(), 1.0)) != 1.0);  // they are not 0

    std::vector<double> merged(base);
    moe::merge_lora(adapter.pair(), scale, moe::stacked_gradients(merged.data(), 1, n_experts, d));
    adapted.update();
    CHECK(same_bits(std::vector<double>(adapted.weights().data(), adapted.weights().data() + n_experts * d), merged));
    CHECK_THAT(error_of([&] { adapted.add_gradients({.a = adapter.gradients().b}); }).text,
               contains("the gradients of a are 1 x 5 x 2, they must be 1 x 2 x 7"));
}

TEST_CASE("a frozen router: adapters keep their bits, dx passes it or not", "[lora]") {
    std::size_t differ = 0;
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        LoraCase<double> c(seed, 30);
        const auto layer = c.layer();
        std::vector<double> dx(c.x.size());
        const auto run = [&](bool train_router, bool through_router) {
            moe::Tape<double> tape;
            moe::Workspace workspace;
            std::vector<double> y(c.x.size());
            Gradients<double> all(c.base(), c.n);
            moe::LayerGradients<double> to = c.to(all, true);
            if (!train_router) {
                to.router = {};
                to.router_bias = {};
            }
            moe::ForwardOptions<double> options;
            options.valid = c.valid;
            moe::forward(layer, moe::view(c.x.data(), c.n, c.d()), moe::view(y.data(), c.n, c.d()), tape, workspace,
                         moe::SerialExecutor{}, options);
            moe::backward(layer, tape, moe::view(c.dy.data(), c.n, c.d()), moe::view(dx.data(), c.n, c.d()), to,
                          workspace, moe::SerialExecutor{}, {.through_router = through_router});
            const bool untouched = all.router == std::vector<double>(all.router.size());
            return std::pair(untouched, c.take_gradients());
        };
        INFO("seed " << seed);
        const auto trained = run(true, true);
        const std::vector<double> dx_trained = dx;
        const auto frozen = run(false, true);
        const std::vector<double> dx_frozen = dx;
        const auto detached = run(false, false);
        REQUIRE(same_bits(dx_frozen, dx_trained));
        REQUIRE(same_bits(frozen.second, trained.second));
        REQUIRE(same_bits(detached.second, trained.second));
        REQUIRE(frozen.first);
        differ += !trained.first && dx != dx_frozen ? 1U : 0U;
    }
    REQUIRE(differ > 10);
}

}  // namespace moe_test::lora_merge_test
