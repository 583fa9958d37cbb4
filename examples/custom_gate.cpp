// A researcher's own gate and its gradient: a plain struct, with Eigen matrices in float or double.

#include <algorithm>
#include <cstdio>
#include <vector>

// [readme]
#include <moe/eigen.hpp>
// [/readme]
#include <moe/eigen_train.hpp>

// As many experts as gather `mass` of the softmax, at most `limit` (the idea of Huang et al. 2024, 2403.07652).
// [readme]
struct TopP {
    float mass = 0.8F;
    int limit = 4;

    int max_per_token() const { return limit; }
    int select(std::span<const float> logits, moe::Selection out) const;  // returns how many it chose
    void backward(std::span<const float> logits, const moe::Chosen<float>& chosen, std::span<const float> d_weights,
                  std::span<float> d_logits) const;  // only to train with it
};
// [/readme]
static_assert(moe::TokenGate<TopP> && moe::DifferentiableGate<TopP>);

int TopP::select(std::span<const float> logits, moe::Selection out) const {
    const auto probabilities = out.scratch.first(logits.size());
    moe::Softmax{}(logits, probabilities);
    std::size_t n = 0;
    for (float sum = 0; n < out.experts.size() && sum < mass; ++n) {
        const auto best = std::max_element(probabilities.begin(), probabilities.end());
        out.experts[n] = static_cast<moe::ExpertId>(best - probabilities.begin());
        out.weights[n] = *best;
        sum += *best;
        *best = -1;  // taken
    }
    return static_cast<int>(n);
}

// To train with it: from the gradients of the weights it chose to those of the logits.
// [readme]
void TopP::backward(std::span<const float> logits, const moe::Chosen<float>& chosen, std::span<const float> d_weights,
                    std::span<float> d_logits) const {
    moe::softmax_backward(logits, chosen, d_weights, d_logits);  // the weights are those of a softmax, as they are
}
// [/readme]

/// Runs the layer in T and holds it against the formula written out; returns the largest difference, or 1 where its
/// gradients are not those of differences.
template <class T>
double largest_difference() {
    using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;  // Eigen's default order, by columns
    constexpr int n_experts = 6;
    constexpr int d_model = 40;
    constexpr int d_ff = 72;
    constexpr int n_tokens = 30;
    std::vector<Matrix> gate;
    std::vector<Matrix> up;
    std::vector<Matrix> down;
    for (int e = 0; e < n_experts; ++e) {
        gate.push_back(Matrix::Random(d_ff, d_model) / 4);
        up.push_back(Matrix::Random(d_ff, d_model) / 4);
        down.push_back(Matrix::Random(d_model, d_ff) / 4);
    }
    const moe::RowMatrix<T> router = Matrix::Random(n_experts, d_model) / 2;
    const moe::RowMatrix<T> x = Matrix::Random(n_tokens, d_model);

    // [readme]
    const moe::MoELayer layer{moe::Router{moe::view(router), TopP{.mass = 0.7F}},
                              moe::SwiGLU{moe::stacked(gate), moe::stacked(up), moe::stacked(down)}};
    const auto y = moe::forward(layer, x);  // Eigen in, Eigen out, float or double
    // [/readme]

    const moe::RoutingPlan<T> plan = moe::route(layer, x);
    Matrix wanted = Matrix::Zero(n_tokens, d_model);
    for (int t = 0; t < n_tokens; ++t) {
        const auto experts = plan.view().experts_of(static_cast<std::size_t>(t));
        const auto weights = plan.view().weights_of(static_cast<std::size_t>(t));
        for (std::size_t slot = 0; slot < experts.size(); ++slot) {
            const auto e = static_cast<std::size_t>(experts[slot]);
            const Eigen::Array<T, Eigen::Dynamic, 1> g = gate[e] * x.row(t).transpose();
            const Matrix hidden = (g / (1 + (-g).exp()) * (up[e] * x.row(t).transpose()).array()).matrix();
            wanted.row(t) += weights[slot] * (down[e] * hidden).transpose();
        }
    }
    std::printf("%zu bytes a number: %.2f experts a token\n", sizeof(T),
                static_cast<double>(plan.view().n_assignments()) / n_tokens);
    if constexpr (sizeof(T) == sizeof(double)) {  // differences in float would tell nothing
        const moe::GradientCheck check = moe::check_gradients(layer, x);
        std::printf("%s", check.text().c_str());
        if (!check.passed()) {
            return 1;
        }
    }
    return y.allFinite() ? static_cast<double>((y - wanted).cwiseAbs().maxCoeff()) : 1;
}

int main() {
    const bool right = largest_difference<float>() < 1e-4 && largest_difference<double>() < 1e-12;
    std::printf("%s\n", right ? "ok" : "WRONG");
    return right ? 0 : 1;
}
