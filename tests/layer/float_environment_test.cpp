#include <algorithm>
#include <array>
#include <cfenv>
#include <cstddef>
#include <thread>
#include <utility>
#include <vector>

#include "moe/moe.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace moe_test::float_environment_test {

/// Bits do not depend on the floating-point environment of the caller, nor of the threads it brings, and nothing traps.
namespace {

constexpr std::size_t n = 21;

/// An environment for as long as it lives.
class Mode {
public:
    explicit Mode(int rounding, bool flush = false, bool traps = false) {
        std::fegetenv(&before_);
        std::fesetround(rounding);
#if defined(__SSE2__)
        if (flush) {
            _mm_setcsr(_mm_getcsr() | 0x8040U);  // flush to zero, denormals are zero
        }
#endif
#if defined(__GLIBC__)
        if (traps) {
            feenableexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW);
        }
#endif
        (void)flush, (void)traps;
    }
    Mode(const Mode&) = delete;
    Mode& operator=(const Mode&) = delete;
    ~Mode() { std::fesetenv(&before_); }

private:
    std::fenv_t before_{};
};

/// Calls test(name) in every environment; it makes no assertion of Catch2 there.
template <class Test>
void in_every_mode(Test&& test) {
    struct Named {
        const char* name;
        int rounding;
        bool flush;
        bool traps;
    };
    for (const Named& mode :
         {Named{"upward", FE_UPWARD, false, false}, Named{"downward", FE_DOWNWARD, false, false},
          Named{"toward zero", FE_TOWARDZERO, false, false}, Named{"flushed", FE_TONEAREST, true, false},
          Named{"traps", FE_TONEAREST, false, true}, Named{"upward, flushed", FE_UPWARD, true, false}}) {
        bool same = false;
        bool restored = false;
        {
            const Mode set(mode.rounding, mode.flush, mode.traps);
            same = test();
            restored = std::fegetround() == mode.rounding;
#if defined(__SSE2__)
            restored = restored && ((_mm_getcsr() & 0x8040U) != 0) == mode.flush;
#endif
        }
        INFO(mode.name);
        CHECK(same);
        CHECK(restored);
    }
}

/// Inputs of all sizes, some so small that their products are denormal, one group of zeros.
std::vector<float> inputs(std::size_t count) {
    moe_test::Draw draw(7);
    std::vector<float> x = moe_test::random_elements<float>(draw, count, 1);
    for (std::size_t i = 0; i < count; i += 3) {
        x[i] *= 1e-38F;
    }
    std::fill_n(x.begin(), std::min<std::size_t>(count, 40), 0.0F);
    return x;
}

template <class Layer>
std::vector<float> run(const Layer& layer, const std::vector<float>& x, const moe_test::ThreadExecutor& executor) {
    const std::size_t n_tokens = x.size() / layer.d_model();
    std::vector<float> y(x.size());
    moe::Workspace workspace;
    layer.forward(moe::view(x.data(), n_tokens, layer.d_model()), moe::view(y.data(), n_tokens, layer.d_model()),
                  workspace, executor);
    return y;
}

/// `make` packs, too: it runs in the environment that is tested.
template <class Make>
void check_layer(Make&& make) {
    for (const std::size_t n_tokens : {std::size_t{1}, n}) {
        const std::vector<float> x = inputs(n_tokens * 70);
        const std::vector<float> expected = run(make(), x, moe_test::ThreadExecutor(1));
        in_every_mode([&] {
            const auto layer = make();
            return moe_test::same_bits(run(layer, x, moe_test::ThreadExecutor(1)), expected) &&
                   moe_test::same_bits(run(layer, x, moe_test::ThreadExecutor(3)), expected);
        });
    }
}

moe_test::LayerShape shape() {
    moe_test::LayerShape result;
    result.n_experts = 5;
    result.d_model = 70;
    result.d_ff = 90;
    result.shared_widths = {33};
    return result;
}

}  // namespace

TEST_CASE("layers over views and packed in every format", "[float_environment]") {
    const moe_test::LayerCase<float> layer_case(shape(), 1);
    const auto layer = layer_case.layer(moe::TokenChoice<moe::Sigmoid>{.top_k = 2, .normalize = true});
    check_layer([&] { return layer_case.layer(moe::TokenChoice<moe::Sigmoid>{.top_k = 2, .normalize = true}); });
    check_layer([&] { return moe::pack(layer); });
    check_layer([&] { return moe::pack<moe::bfloat16>(layer); });
    check_layer([&] { return moe::pack<moe::float16>(layer); });
    check_layer([&] { return moe::pack<moe::Int8>(layer); });
    check_layer([&] { return moe::pack<moe::Int4>(layer); });
    check_layer([&] { return moe::pack<moe::Int8>(layer, moe::SerialExecutor{}, moe::Compute::int8); });
    check_layer([&] { return moe::pack<moe::Int4>(layer, moe::SerialExecutor{}, moe::Compute::int8); });
    if (moe::arch::MatrixUnit::request()) {
        check_layer([&] { return moe::pack<moe::bfloat16>(layer, moe::SerialExecutor{}, moe::Compute::bf16x3); });
    }
}

TEST_CASE("a pool of threads that were started before the caller changed its environment", "[float_environment]") {
    const moe_test::LayerCase<float> layer_case(shape(), 2);
    const auto layer = moe::pack(layer_case.layer(moe::TokenChoice<>{.top_k = 2}));
    // one thread, older than what the caller is set to
    struct Older {
        static std::size_t concurrency() { return 2; }
        void run(moe::ParallelWork work) const {
            std::thread second([&] {
                const Mode plain(FE_TONEAREST);
#if defined(__SSE2__)
                _mm_setcsr(0x1F80);
#endif
                work(1, 2);
            });
            work(0, 2);
            second.join();
        }
    };
    const std::vector<float> x = inputs(n * 70);
    const auto forward = [&](const auto& executor) {
        std::vector<float> y(x.size());
        moe::Workspace workspace;
        layer.forward(moe::view(x.data(), n, 70), moe::view(y.data(), n, 70), workspace, executor);
        return y;
    };
    const std::vector<float> expected = forward(moe::SerialExecutor{});
    in_every_mode([&] { return moe_test::same_bits(forward(Older{}), expected); });
}

TEST_CASE("phases that a host runs, single experts and layers that are no MoELayer", "[float_environment]") {
    const moe_test::LayerCase<float> layer_case(shape(), 3);
    const auto layer = layer_case.layer(moe::TokenChoice<>{.top_k = 2});
    const std::vector<float> x = inputs(n * 70);
    const auto x_view = moe::view(x.data(), n, 70);
    const auto phases = [&] {
        std::vector<float> y(x.size());
        moe::Workspace workspace;
        auto pass = layer.prepare(x_view, moe::view(y.data(), n, 70), workspace, 1);
        for (int phase = 0; phase < moe::n_phases; ++phase) {
            pass.run_phase(static_cast<moe::Phase>(phase), 0, 1);
        }
        return y;
    };
    const std::vector<float> expected = phases();
    in_every_mode([&] { return moe_test::same_bits(phases(), expected); });

    const moe::Expert expert{layer_case.bank().expert(1)};
    const auto alone = [&] {
        std::vector<float> y(x.size());
        moe::Workspace workspace;
        expert.forward(x_view, moe::view(y.data(), n, 70), workspace);
        return y;
    };
    const std::vector<float> of_one = alone();
    in_every_mode([&] { return moe_test::same_bits(alone(), of_one); });

    moe_test::Draw draw(4);
    const auto rows = moe_test::random_elements<float>(draw, 16 * 70, 1);
    check_layer([&] { return moe::SoftMoELayer{moe::view(rows.data(), 10, 70), layer_case.bank()}; });
    check_layer([&] {
        return moe::NeuronLayer{moe::ProductKeyRouter{moe::view(rows.data(), 8, 70), 1}, moe::ProductKeys{.top_k = 3},
                                moe::view(rows.data(), 16, 70), moe::view(rows.data(), 16, 70)};
    });
    check_layer([&] {
        std::vector<decltype(layer_case.layer(moe::TokenChoice<>{}))> groups;
        groups.push_back(layer_case.layer(moe::TokenChoice<>{.top_k = 2}));
        groups.push_back(layer_case.layer(moe::TokenChoice<>{}));
        return moe::HierarchicalLayer{moe::Router{moe::view(rows.data(), 2, 70), moe::TokenChoice<>{.top_k = 2}},
                                      std::move(groups)};
    });
}

TEST_CASE("a group of zeros is quantised without a trap, also outside of any call", "[float_environment]") {
    const std::array<float, moe::quantization_group> zeros{};
    std::array<float, moe::quantization_group> tiny{};
    tiny.fill(1e-42F);
    moe::QuantizedGroup eight;
    moe::QuantizedGroup four;
    std::vector<std::byte> row(moe::QuantizedRows{32}.stride());
    {
        const Mode traps(FE_TONEAREST, false, true);
        eight = moe::quantize_group(moe::Int8{}, zeros);
        four = moe::quantize_group(moe::Int4{}, tiny);
        moe::quantize_row(moe::QuantizedRows{32}, zeros.data(), 128, row.data());
    }
    CHECK(eight.scale == moe::float16{});
    CHECK(four.scale.bits % 0x8000 == 0);
    CHECK(row[0] == std::byte{0});
}

}  // namespace moe_test::float_environment_test
