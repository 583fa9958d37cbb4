// Trains one layer by gradient descent, in double with Eigen, after a check of its gradients against differences.

#include <cmath>
#include <cstdio>
#include <vector>

// [readme]
#include <moe/eigen_train.hpp>
// [/readme]

using Matrix = Eigen::MatrixXd;

int main() {
    constexpr int n_experts = 4, d_model = 8, d_ff = 16, n_tokens = 64;
    constexpr double rate = 0.1;
    const auto random = [](int rows, int cols) -> Matrix { return Matrix::Random(rows, cols) / std::sqrt(cols / 3.0); };
    Matrix router = random(n_experts, d_model);
    std::vector<Matrix> gate, up, down;
    for (int e = 0; e < n_experts; ++e) {
        gate.push_back(random(d_ff, d_model));
        up.push_back(random(d_ff, d_model));
        down.push_back(random(d_model, d_ff));
    }
    const Matrix x = Matrix::Random(n_tokens, d_model);
    const Matrix target = (2 * x * random(d_model, d_model)).array().sin();
    std::vector<double> losses;

    // [readme]
    const moe::MoELayer layer{moe::Router{moe::weights(router), moe::TokenChoice<>{.top_k = 2, .normalize = true}},
                              moe::SwiGLU{moe::stacked(gate), moe::stacked(up), moe::stacked(down)}};
    const moe::GradientCheck check = moe::check_gradients(layer, x);
    std::printf("%s", check.text().c_str());

    moe::Tape<double> tape;
    moe::OwnedGradients gradients = moe::gradients_of(layer);  // zeros, in the shapes of the layer
    for (int step = 0; step <= 500; ++step) {
        const Matrix difference = moe::forward(layer, x, tape) - target;
        gradients.zero();
        moe::backward(layer, tape, 2 * difference / n_tokens, gradients);  // returns the gradient of x
        router -= rate * moe::map(gradients.router());                     // the layer views these weights
        for (std::size_t e = 0; e < gate.size(); ++e) {
            gate[e] -= rate * moe::map(gradients.gate(e));
            up[e] -= rate * moe::map(gradients.up(e));
            down[e] -= rate * moe::map(gradients.down(e));
        }
        losses.push_back(difference.squaredNorm() / n_tokens);
    }
    // [/readme]
    for (std::size_t step = 0; step < losses.size(); step += 100) {
        std::printf("step %3zu: loss %.4f\n", step, losses[step]);
    }
    const bool right = check.passed() && losses.back() < losses.front() / 5;
    std::printf("%s\n", right ? "ok" : "WRONG");
    return right ? 0 : 1;
}
