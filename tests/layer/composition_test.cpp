#include <vector>

#include <moe/eigen.hpp>
#include <moe/moe.hpp>

#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::composition_test {

namespace {

template <class T>
using Matrices = std::vector<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>>;  // column-major, Eigen's default

template <class Matrix>
std::span<const typename Matrix::Scalar> values(const Matrix& matrix) {
    return {matrix.data(), static_cast<std::size_t>(matrix.size())};
}

template <class T>
Matrices<T> random_matrices(std::uint64_t seed, int n, int rows, int cols) {
    Matrices<T> result;
    std::uint64_t counter = 0;
    for (int i = 0; i < n; ++i) {
        result.emplace_back(rows, cols);
        for (T& value : result.back().reshaped()) {
            value = static_cast<T>(moe::random_uniform(seed, counter++) - 0.5F);
        }
    }
    return result;
}

template <class T>
void check_one_expert(int n_tokens, int d_model, int d_ff) {
    INFO(n_tokens << " tokens, d_model " << d_model << ", d_ff " << d_ff);
    const Matrices<T> gate = random_matrices<T>(1, 1, d_ff, d_model);
    const Matrices<T> up = random_matrices<T>(2, 1, d_ff, d_model);
    const Matrices<T> down = random_matrices<T>(3, 1, d_model, d_ff);
    const Matrices<T> router = random_matrices<T>(4, 1, 1, d_model);
    const moe::RowMatrix<T> x = random_matrices<T>(5, 1, n_tokens, d_model).front();

    const moe::SwiGLU bank{moe::stacked(gate), moe::stacked(up), moe::stacked(down)};
    const moe::Expert expert{moe::ExpertBank(bank.expert(0))};
    moe::RowMatrix<T> y = moe::RowMatrix<T>::Constant(n_tokens, d_model, T(7));
    moe::Workspace workspace;
    expert.forward(moe::view(x), moe::view(y), workspace);

    const auto g = (x.template cast<double>() * gate[0].transpose().template cast<double>()).eval();
    const auto u = (x.template cast<double>() * up[0].transpose().template cast<double>()).eval();
    const moe::RowMatrix<double> hidden = (g.array() / (1.0 + (-g.array()).exp()) * u.array()).matrix();
    const moe::RowMatrix<double> wanted = hidden * down[0].transpose().template cast<double>();
    CHECK(moe_test::nmse(values(y), values(wanted)) <= (sizeof(T) == 8 ? 1e-24 : 1e-12));

    // A layer of that one expert, through an Eigen expression, has the same bits: its weight is exactly 1.
    const moe::MoELayer layer{moe::Router{moe::weights(router[0]), moe::TokenChoice<>{.top_k = 1}}, bank};
    const moe::RowMatrix<T> same = moe::forward(layer, x * T(1));
    CHECK(moe_test::same_bits(values(same), values(y)));
    const moe::RowMatrix<T> packed = moe::forward(moe::pack(layer), x);
    CHECK(moe_test::same_bits(values(packed), values(y)));
}

}  // namespace

TEST_CASE("one expert by itself, and a layer of it through Eigen") {
    for (const int n_tokens : {1, 7, 193}) {
        check_one_expert<float>(n_tokens, 19, 33);
        check_one_expert<double>(n_tokens, 40, 5);
    }
    check_one_expert<float>(0, 3, 2);
}

TEST_CASE("an expert refuses what does not fit") {
    const Matrices<float> in = random_matrices<float>(1, 2, 3, 4);
    const Matrices<float> out = random_matrices<float>(2, 2, 4, 3);
    const moe::SwiGLU bank{moe::stacked(in), moe::stacked(in), moe::stacked(out)};
    CHECK_THROWS_WITH(moe::Expert{moe::ExpertBank(bank)}, moe_test::contains("not of 2"));
    const moe::Expert expert{bank.expert(1)};
    std::vector<float> x(20);
    std::vector<float> y(20);
    moe::Workspace workspace;
    CHECK_THROWS_WITH(expert.forward(moe::view(x.data(), 4, 5), moe::view(y.data(), 4, 5), workspace),
                      moe_test::contains("x is 4 x 5") && moe_test::contains("n_tokens x 4"));
    CHECK_THROWS_WITH(expert.forward(moe::view(x.data(), 5, 4), moe::view(x.data(), 5, 4), workspace),
                      moe_test::contains("in place"));
}

TEST_CASE("presets are valid and are found by name") {
    for (moe::MoEConfig (*preset)() : moe::presets::all) {
        const moe::MoEConfig config = preset();
        CHECK_NOTHROW(config.validate());
        CHECK(moe::presets::find(config.name).n_experts == config.n_experts);
    }
    CHECK_THROWS_WITH(moe::presets::find("mixtrall"), moe_test::contains("mixtrall") && moe_test::contains("mixtral,"));
}

TEST_CASE("a configuration refuses what cannot be, and names it") {
    const auto refused = [](auto&& change, const char* text) {
        moe::MoEConfig config = moe::presets::mixtral();
        change(config);
        CHECK_THROWS_WITH(config.validate(), moe_test::contains(text));
    };
    refused([](moe::MoEConfig& c) { c.n_experts = 0; }, "n_experts is 0");
    refused([](moe::MoEConfig& c) { c.d_ff = 0; }, "d_ff is 0");
    refused([](moe::MoEConfig& c) { c.routing.top_k = 9; }, "top_k 9 exceeds the 8 experts");
    refused([](moe::MoEConfig& c) { c.d_model = std::size_t{1} << 62U; }, "does not fit");
    refused([](moe::MoEConfig& c) { c.shared_mode = moe::SharedMode::gated; }, "shared_d_ff is 0");
    refused([](moe::MoEConfig& c) { c.routed_scale = std::numeric_limits<double>::infinity(); }, "routed_scale is inf");
    refused([](moe::MoEConfig& c) { c.form.kind = moe::FormKind::relu; }, "plain form has no gate");
    refused(
        [](moe::MoEConfig& c) {
            c.gate = moe::GateKind::sparse_mixer;
            c.selection_bias = true;
        },
        "only token choice has one");
}

TEST_CASE("a layer is not made of weights that do not fit its configuration") {
    moe::MoEConfig config = moe::presets::mixtral();
    config.n_experts = 3;
    config.d_model = 4;
    config.d_ff = 5;
    const std::vector<float> values(3 * 10 * 4);
    moe::LayerWeights<float> weights;
    weights.router = moe::view(values.data(), 3, 4);
    weights.experts = moe::expert_weights<float>(
        config, {.gate_up = moe::stacked(values.data(), 3, 10, 4), .down = moe::stacked(values.data(), 3, 4, 5)});
    CHECK_NOTHROW(moe::make_layer(config, weights));
    const std::vector<float> bias(3);
    weights.selection_bias = bias;
    CHECK_THROWS_WITH(moe::make_layer(config, weights), moe_test::contains("mixtral has no selection bias"));
    config.selection_bias = true;
    config.n_experts = 2;
    CHECK_THROWS_WITH(moe::make_layer(config, weights), moe_test::contains("the experts are 3"));
    config.n_experts = 3;
    config.shared_d_ff = 5;
    CHECK_THROWS_WITH(moe::make_layer(config, weights), moe_test::contains("needs shared expert"));
}

}  // namespace moe_test::composition_test
