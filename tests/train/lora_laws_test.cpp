#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/counting_allocator.hpp"
#include "support/errors.hpp"
#include "train/lora_case.hpp"

/// What LoRA layers have in common with their base, with the merged layer, and with themselves in another batch.
namespace moe_test::lora_laws_test {

namespace {

/// y, dx, and the gradients of all adapters behind each other.
template <class T>
struct Results {
    std::vector<T> y, dx, adapters;
};

/// Tokens [first, first + count) of the case; the gradients of adapters are added to and stay in the case.
template <class W, class Layer, class Executor = moe::SerialExecutor>
void run_part(LoraCase<W>& c, const Layer& layer, std::size_t first, std::size_t count,
              Results<typename LoraCase<W>::T>& to, const Executor& executor = {}) {
    using T = typename LoraCase<W>::T;
    moe::Tape<T> tape;
    moe::Workspace workspace;
    moe::LayerGradients<T> gradients;
    if constexpr (requires { layer.experts().adapters(); }) {
        gradients.experts.lora = c.routed.gradients();
        for (BankAdapters<T>& bank : c.always) {
            gradients.shared.emplace_back().lora = bank.gradients();
        }
    }
    const std::size_t d = c.d();
    moe::ForwardOptions<T> options;
    options.valid = std::span(c.valid).subspan(first, count);
    moe::forward(layer, moe::view(c.x.data() + first * d, count, d), moe::view(to.y.data() + first * d, count, d), tape,
                 workspace, executor, options);
    moe::backward(layer, tape, moe::view(c.dy.data() + first * d, count, d),
                  moe::view(to.dx.data() + first * d, count, d), gradients, workspace, executor);
}

template <class W, class Layer, class Executor = moe::SerialExecutor>
auto run(LoraCase<W>& c, const Layer& layer, const Executor& executor = {}) {
    Results<typename LoraCase<W>::T> results{c.x, c.x, {}};
    run_part(c, layer, 0, c.n, results, executor);
    results.adapters = c.take_gradients();
    return results;
}

template <class W>
void for_each_bank(LoraCase<W>& c, const auto& use) {
    use(c.routed);
    std::for_each(c.always.begin(), c.always.end(), use);
}

template <class T>
std::vector<T> adapters_of(LoraCase<T>& c) {
    std::vector<T> all;
    for_each_bank(c, [&](BankAdapters<T>& bank) {
        for (const std::vector<T>* part : bank.memory()) {
            all.insert(all.end(), part->begin(), part->end());
        }
    });
    return all;
}

}  // namespace

TEMPLATE_TEST_CASE("with B = 0 an adapted layer has the bits of its base, y and dx", "[lora]", float, double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        LoraCase<T> c(seed);
        for_each_bank(c, [](BankAdapters<T>& bank) {
            for (std::vector<T>* b : {&bank.gate.b, &bank.up.b, &bank.down.b}) {
                std::fill(b->begin(), b->end(), T(0));
            }
        });
        const auto expected = run(c, c.base());
        const auto adapted = run(c, c.layer());
        INFO("seed " << seed);
        REQUIRE(same_bits(adapted.y, expected.y));
        REQUIRE(same_bits(adapted.dx, expected.dx));
    }
}

TEMPLATE_TEST_CASE("rows have equal bits in any batch, gradients in any cut of it and for any threads", "[lora]", float,
                   double) {
    using T = TestType;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        LoraCase<T> c(seed);
        const auto layer = c.template packed<T>();
        const auto whole = run(c, layer);
        const auto in_threads = run(c, c.layer(), ThreadExecutor(3));
        Results<T> parts{c.x, c.x, {}};
        for (std::size_t first = 0; first < c.n;) {
            const std::size_t count = c.draw.size(1, c.n - first);
            run_part(c, layer, first, count, parts, ReversedExecutor(2));
            first += count;
        }
        parts.adapters = c.take_gradients();
        INFO("seed " << seed);
        for (const Results<T>* other : {&in_threads, &std::as_const(parts)}) {
            REQUIRE(same_bits(other->y, whole.y));
            REQUIRE(same_bits(other->dx, whole.dx));
            REQUIRE(same_bits(other->adapters, whole.adapters));
        }
    }
}

TEST_CASE("more rows than a task takes have the bits of each alone", "[lora]") {
    LoraCase<float> c(3, 24);
    c.adapt_all();
    const std::size_t many = 2 * moe::max_task_rows + 17;
    c.n = many;
    c.x = random_elements<float>(c.draw, many * c.d(), 1);
    c.dy = random_elements<float>(c.draw, many * c.d(), 1);
    c.valid.assign(many, 1);
    const auto layer = c.layer();
    const auto whole = run(c, layer, ThreadExecutor(2));
    Results<float> parts{c.x, c.x, {}};
    for (std::size_t t = 0; t < many; ++t) {
        run_part(c, layer, t, 1, parts);
    }
    REQUIRE(same_bits(parts.y, whole.y));
    REQUIRE(same_bits(parts.dx, whole.dx));
    REQUIRE(same_bits(c.take_gradients(), whole.adapters));
}

TEST_CASE("NaN stays in its token", "[lora]") {
    LoraCase<float> c(8, 40);
    c.adapt_all();
    c.n = 7;
    c.x = random_elements<float>(c.draw, c.n * c.d(), 1);
    c.dy = random_elements<float>(c.draw, c.n * c.d(), 1);
    c.valid.assign(c.n, 1);
    const auto layer = c.layer();
    const auto clean = run(c, layer);
    c.x[3 * c.d()] = std::numeric_limits<float>::quiet_NaN();
    const auto poisoned = run(c, layer);
    for (std::size_t t = 0; t < c.n; ++t) {
        if (t != 3) {
            const auto row = [&](const std::vector<float>& all) {
                return std::vector<float>(all.begin() + static_cast<std::ptrdiff_t>(t * c.d()),
                                          all.begin() + static_cast<std::ptrdiff_t>((t + 1) * c.d()));
            };
            REQUIRE(same_bits(row(poisoned.y), row(clean.y)));
            REQUIRE(same_bits(row(poisoned.dx), row(clean.dx)));
        }
    }
}

TEST_CASE("one A for gate and up has the sum of both gradients, in one memory", "[lora]") {
    std::size_t compared = 0;
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        LoraCase<double> c(seed);
        auto& gate = c.routed.gate;
        auto& up = c.routed.up;
        if (gate.rank == 0 || up.rank == 0) {
            continue;
        }
        up = Adapter<double>(c.draw, up.n_experts, gate.rank, up.outputs, up.inputs);
        up.a = gate.a;
        const auto apart = run(c, c.layer());
        std::vector<double> expected(gate.a.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
            expected[i] = apart.adapters[i] + apart.adapters[gate.a.size() + gate.b.size() + i];
        }
        const auto layer = c.layer();
        moe::Tape<double> tape;
        moe::Workspace workspace;
        std::vector<double> y(c.x.size());
        moe::LayerGradients<double> to;
        to.experts.lora = c.routed.gradients();
        to.experts.lora.up.a = to.experts.lora.gate.a;
        moe::ForwardOptions<double> options;
        options.valid = c.valid;
        moe::forward(layer, moe::view(c.x.data(), c.n, c.d()), moe::view(y.data(), c.n, c.d()), tape, workspace,
                     ThreadExecutor(3), options);
        moe::backward(layer, tape, moe::view(c.dy.data(), c.n, c.d()), {}, to, workspace, ThreadExecutor(3));
        INFO("seed " << seed);
        REQUIRE(nmse(gate.da, expected) <= 1e-24);
        compared += c.n > 0 ? 1U : 0U;
    }
    REQUIRE(compared > 5);
}

TEST_CASE("gradients_of has those of all adapters and not of the base, and a step moves each", "[lora]") {
    LoraCase<float> c(21, 40);
    c.adapt_all();
    c.n = 40;
    c.x = random_elements<float>(c.draw, c.n * c.d(), 1);
    c.dy = random_elements<float>(c.draw, c.n * c.d(), 1);
    c.valid.assign(c.n, 1);
    c.gate = {.top_k = static_cast<int>(c.shape.n_choices())};  // every expert has tokens
    const auto layer = c.layer();
    CHECK(layer.describe().hidden.weights == "float32 views with LoRA adapters");
    CHECK(layer.describe().shared.weights == (c.always.empty() ? "none" : "float32 views with LoRA adapters"));
    CHECK(layer.experts().adapters().n_matrices() == (c.shape.form.gated() ? 6U : 4U));
    moe::OwnedGradients<float> gradients = moe::gradients_of(layer);
    std::size_t adapters = 0;
    for (const moe::ParameterGroup& group : gradients.groups()) {
        const bool of_experts = group.name.starts_with("experts") || group.name.starts_with("shared[");
        const bool of_adapters = group.name.find(".lora_") != std::string::npos;
        CHECK(of_experts == of_adapters);
        adapters += of_adapters ? 1U : 0U;
    }
    std::size_t expected = 0;
    for_each_bank(c, [&](BankAdapters<float>& bank) { expected += bank.views().n_matrices(); });
    CHECK(adapters == expected);

    const auto whole = run(c, layer);
    moe::Tape<float> tape;
    moe::Workspace workspace;
    std::vector<float> y(c.x.size());
    moe::forward(layer, moe::view(c.x.data(), c.n, c.d()), moe::view(y.data(), c.n, c.d()), tape, workspace);
    moe::backward(layer, tape, moe::view(c.dy.data(), c.n, c.d()), {}, gradients, workspace);
    std::vector<float> owned;
    for (const moe::ParameterGroup& group : gradients.groups()) {
        if (group.name.find(".lora_") != std::string::npos) {
            const auto values = gradients.all().subspan(group.first, group.size());
            owned.insert(owned.end(), values.begin(), values.end());
            CHECK(std::any_of(values.begin(), values.end(), [](float value) { return value != 0; }));
        }
    }
    REQUIRE(same_bits(owned, whole.adapters));
    CHECK(moe::GradientViews<float>(gradients.views()).size() == gradients.all().size());

    const std::vector<float> before = adapters_of(c);
    std::size_t at = 0;
    for_each_bank(c, [&](BankAdapters<float>& bank) {
        for (std::vector<float>* part : bank.memory()) {
            moe::Sgd{.rate = 0.1}.update<float>(
                {.value = *part, .gradient = std::span(owned).subspan(at, part->size())});
            at += part->size();
        }
    });
    const std::vector<float> after = adapters_of(c);
    std::size_t moved = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
        moved += before[i] != after[i] ? 1U : 0U;
    }
    CHECK(moved > before.size() * 9 / 10);
    const auto stepped = run(c, layer);  // views of the same memory
    CHECK_FALSE(same_bits(stepped.y, whole.y));
}

TEST_CASE("nothing is allocated once tape and workspace have grown", "[lora]") {
    LoraCase<float> c(8, 40);
    c.adapt_all();
    c.n = 7;
    c.x = random_elements<float>(c.draw, c.n * c.d(), 1);
    c.dy = random_elements<float>(c.draw, c.n * c.d(), 1);
    const auto layer = c.layer();
    moe::OwnedGradients<float> gradients = moe::gradients_of(layer);
    moe::Tape<float> tape;
    moe::Workspace workspace;
    std::vector<float> y(c.x.size());
    const auto step = [&] {
        moe::forward(layer, moe::view(c.x.data(), c.n, c.d()), moe::view(y.data(), c.n, c.d()), tape, workspace);
        moe::backward(layer, tape, moe::view(c.dy.data(), c.n, c.d()), {}, gradients.views(), workspace);
    };
    step();
    const std::size_t before = allocations();
    step();
    CHECK(allocations() == before);
}

TEST_CASE("adapters of the wrong shape are refused, naming both", "[lora]") {
    Draw draw(1);
    const BankWeights<float> weights(draw, 3, 5, 7, true, false);
    const moe::ExpertBank<float, moe::AnyForm> bank(moe::AnyForm{}, weights.stacks());
    REQUIRE(moe::AnyForm{}.gated());
    const std::vector<float> values(1000, 1.0F);
    const auto stack = [&](std::size_t n, std::size_t rows, std::size_t cols) {
        return moe::stacked(values.data(), n, rows, cols);
    };
    const auto refused = [&](moe::LoraAdapters<float> adapters, moe::ErrorCode code, const char* text) {
        const CaughtError error = error_of([&] { (void)moe::LoraExperts(bank, std::move(adapters)); });
        INFO(error.text);
        CHECK(error.code == code);
        CHECK_THAT(error.text, contains(text));
    };
    refused({.up = {stack(3, 2, 6), stack(3, 7, 2)}}, moe::ErrorCode::shape,
            "a of the up projections is 3 x 2 x 6, it must be 3 x 2 x 5");
    refused({.up = {stack(3, 2, 5), stack(3, 7, 1)}}, moe::ErrorCode::shape,
            "b of the up projections is 3 x 7 x 1, it must be 3 x 7 x 2");
    refused({.gate = {stack(2, 2, 5), stack(3, 7, 2)}}, moe::ErrorCode::shape, "2 x 2 x 5, it must be 3 x 2 x 5");
    refused({.down = {stack(3, 2, 5), stack(3, 7, 2)}}, moe::ErrorCode::shape,
            "a of the down projections is 3 x 2 x 5, it must be 3 x 2 x 7");
    refused({.down = {stack(3, 2, 7), {}}}, moe::ErrorCode::missing, "only a was given");
    refused({.down = {{}, stack(3, 5, 2)}}, moe::ErrorCode::missing, "only b was given");
    refused({.scale = std::numeric_limits<double>::quiet_NaN()}, moe::ErrorCode::range, "scale is");
    refused({.scale = 1e300}, moe::ErrorCode::range, "scale is");

    const moe::PackedExperts<moe::Int8, moe::AnyForm> integer(bank, moe::SerialExecutor{}, moe::Compute::int8);
    CHECK_THAT(error_of([&] { (void)moe::LoraExperts(integer.with_compute(moe::Compute::int8), {}); }).text,
               contains("adapters need Compute::exact"));
    moe::AnyForm plain;
    plain.kind = moe::FormKind::relu;
    const BankWeights<float> of_plain(draw, 3, 5, 7, false, false);
    const moe::ExpertBank<float, moe::AnyForm> plain_bank(plain, of_plain.stacks());
    CHECK_THAT(error_of([&] {
                   (void)moe::LoraExperts(plain_bank, {.gate = {stack(3, 2, 5), stack(3, 7, 2)}});
               }).text,
               contains("whose form is plain"));
}

TEST_CASE("gradients of adapters of the wrong shape, or of none, are refused before anything is written", "[lora]") {
    LoraCase<float> c(21, 40);
    c.routed.up = Adapter<float>(c.draw, c.shape.n_experts, 3, c.shape.d_ff, c.d());
    c.routed.down = Adapter<float>();
    const auto layer = c.layer();
    std::vector<float> y(c.x.size());
    std::vector<float> memory(c.shape.n_experts * 4 * (c.d() + c.shape.d_ff), 5.0F);
    const std::size_t n = c.shape.n_experts;
    const auto refused = [&](const moe::LoraGradients<float>& lora, moe::ErrorCode code, const char* text) {
        moe::Tape<float> tape;
        moe::Workspace workspace;
        moe::forward(layer, moe::view(c.x.data(), c.n, c.d()), moe::view(y.data(), c.n, c.d()), tape, workspace);
        moe::LayerGradients<float> to;
        to.experts.lora = lora;
        const CaughtError error =
            error_of([&] { moe::backward(layer, tape, moe::view(c.dy.data(), c.n, c.d()), {}, to, workspace); });
        INFO(error.text);
        CHECK(error.code == code);
        CHECK_THAT(error.text, contains(text));
        CHECK(std::all_of(memory.begin(), memory.end(), [](float value) { return value == 5.0F; }));
    };
    refused({.up = {.a = moe::stacked_gradients(memory.data(), n, 2, c.d())}}, moe::ErrorCode::shape,
            "LoRA adapters of the up projections are");
    refused({.up = {.b = moe::stacked_gradients(memory.data(), n, 3, c.shape.d_ff)}}, moe::ErrorCode::shape,
            "LoRA adapters of the up projections are");
    refused({.down = {.a = moe::stacked_gradients(memory.data(), n, 3, c.shape.d_ff)}}, moe::ErrorCode::missing,
            "have no such adapter");
}

}  // namespace moe_test::lora_laws_test
