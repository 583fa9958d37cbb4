#include "library_arm.hpp"

#include <algorithm>
#include <utility>

#include <moe/instantiate.hpp>
#include <moe/train.hpp>

namespace bench::backward {

namespace {

/// DrawnChoice, but the drawn experts have the weights that the logits give them, and those a gradient.
struct LearnedChoice {
    DrawnChoice drawn{};

    [[nodiscard]] int max_per_token() const { return drawn.max_per_token(); }
    [[nodiscard]] int select(std::span<const float> logits, moe::TokenContext context, moe::Selection out) const {
        const int n = drawn.select(logits, context, out);
        const auto experts = out.experts.first(static_cast<std::size_t>(n));
        moe::weigh_experts<float>(drawn.choice, logits, experts, out);
        return n;
    }
    void backward(std::span<const float> logits, const moe::Chosen<float>& chosen, std::span<const float> d_weights,
                  std::span<float> d_logits) const {
        moe::gate_backward<float>(drawn.choice, logits, chosen, d_weights, d_logits);
    }
};

using Bank = moe::SwiGLU<float>;
using Layer = moe::MoELayer<moe::Router<float, LearnedChoice>, Bank>;

Bank bank_of(const Parameters& weights, std::size_t first, std::size_t n, std::size_t d_model, std::size_t d_ff) {
    const auto stack = [&](Matrix which, std::size_t outputs, std::size_t inputs) {
        return moe::stacked(static_cast<const float*>(weights.matrix(which, first)), n, outputs, inputs);
    };
    return {stack(Matrix::gate, d_ff, d_model), stack(Matrix::up, d_ff, d_model), stack(Matrix::down, d_model, d_ff)};
}

moe::ExpertGradients<float> gradients_of(const Parameters& gradients, std::size_t first, std::size_t n,
                                         std::size_t d_model, std::size_t d_ff) {
    const auto stack = [&](Matrix which, std::size_t outputs, std::size_t inputs) {
        return moe::stacked_gradients(gradients.matrix(which, first), n, outputs, inputs);
    };
    moe::ExpertGradients<float> to;
    to.gate = stack(Matrix::gate, d_ff, d_model);
    to.up = stack(Matrix::up, d_ff, d_model);
    to.down = stack(Matrix::down, d_model, d_ff);
    return to;
}

class ViewArm final : public LibraryArm {
public:
    ViewArm(const Shape& shape, const Parameters& weights, const Parameters& gradients, const Threads& threads)
        : threads_(threads), layer_(make_layer(shape, weights)) {
        to_.router = moe::stacked_gradients(gradients.matrix(Matrix::router, 0), 1, shape.n_experts, shape.d_model);
        to_.experts = gradients_of(gradients, 0, shape.n_experts, shape.d_model, shape.d_ff);
        if (shape.shared_d_ff > 0) {
            to_.shared.push_back(gradients_of(gradients, shape.n_experts, 1, shape.d_model, shape.shared_d_ff));
        }
    }

    void prepare(const Batch& batch) override { table_ = batch.table->experts(); }

    void route(Batch& batch, std::size_t variants) override {
        batch.plans.resize(variants);
        for (std::size_t variant = 0; variant < variants; ++variant) {
            layer_.route(batch.x, batch.plans[variant], workspace_, threads_, options_of(batch, variant));
        }
    }
    void infer(const Batch& batch, std::size_t variant, moe::MatrixView<float> y) override {
        layer_.forward(batch.x, y, workspace_, threads_, options_of(batch, variant));
    }
    void forward(const Batch& batch, std::size_t variant, moe::MatrixView<float> y) override {
        moe::forward(layer_, batch.x, y, tape_, workspace_, threads_, options_of(batch, variant));
    }
    void backward(const Batch&, std::size_t, moe::MatrixView<const float> dy, moe::MatrixView<float> dx) override {
        moe::backward(layer_, tape_, dy, dx, to_, workspace_, threads_);
    }
    void backward_experts(const Batch&, std::size_t, moe::MatrixView<const float> dy,
                          moe::MatrixView<float> dx) override {
        moe::backward(layer_, tape_, dy, dx, to_, workspace_, threads_, {.through_router = false});
    }
    void use(const Threads& threads) override { threads_ = threads; }

    [[nodiscard]] std::span<const float> d_weights() const override { return tape_.d_weights(); }
    [[nodiscard]] std::size_t workspace_bytes() const override { return workspace_.memory().size(); }
    [[nodiscard]] std::string kernel() const override {
        const moe::LayerDescription description = layer_.describe();
        return description.isa + ", " + description.hidden.text();
    }

private:
    [[nodiscard]] Layer make_layer(const Shape& shape, const Parameters& weights) {
        LearnedChoice gate;
        gate.drawn.choice.top_k = static_cast<int>(shape.top_k);
        gate.drawn.choice.normalize = true;
        gate.drawn.table = &table_;
        const float* const router = weights.matrix(Matrix::router, 0);
        moe::SharedExperts<Bank> shared;
        if (shape.shared_d_ff > 0) {
            shared = moe::SharedExperts<Bank>(bank_of(weights, shape.n_experts, 1, shape.d_model, shape.shared_d_ff));
        }
        return Layer(moe::Router{moe::view(router, shape.n_experts, shape.d_model), gate},
                     bank_of(weights, 0, shape.n_experts, shape.d_model, shape.d_ff), std::move(shared));
    }
    [[nodiscard]] static moe::ForwardOptions<float> options_of(const Batch& batch, std::size_t variant) {
        moe::ForwardOptions<float> options;
        options.token_ids = batch.table->ids(variant);
        return options;
    }

    Threads threads_;
    std::span<const std::int32_t> table_;
    Layer layer_;
    moe::LayerGradients<float> to_;
    moe::Tape<float> tape_;
    moe::Workspace workspace_;
};

}  // namespace

std::unique_ptr<LibraryArm> make_library_arm(const Shape& shape, const Parameters& weights, const Parameters& gradients,
                                             const Threads& threads) {
    return std::make_unique<ViewArm>(shape, weights, gradients, threads);
}

}  // namespace bench::backward
