// Compiled once for each level (moe_add_dispatched in examples/CMakeLists.txt).

#include "layer.hpp"

#include <utility>

#include <moe/moe.hpp>

namespace {

auto build(const Weights& w) {
    const moe::Router router{moe::view(w.router, w.n_experts, w.d_model),
                             moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true}};
    const moe::SwiGLU experts{moe::stacked(w.gate, w.n_experts, w.d_ff, w.d_model),
                              moe::stacked(w.up, w.n_experts, w.d_ff, w.d_model),
                              moe::stacked(w.down, w.n_experts, w.d_model, w.d_ff)};
    return moe::pack(moe::MoELayer{router, experts});
}

class Packed final : public Layer {
public:
    explicit Packed(const Weights& weights) : d_model_(weights.d_model), layer_(build(weights)) {}

    void forward(const float* x, float* y, std::size_t n_tokens) override {
        layer_.forward(moe::view(x, n_tokens, d_model_), moe::view(y, n_tokens, d_model_), workspace_);
    }

    [[nodiscard]] std::string description() const override { return layer_.describe().text(); }

private:
    std::size_t d_model_;
    decltype(build(std::declval<const Weights&>())) layer_;
    moe::Workspace workspace_;
};

}  // namespace

std::unique_ptr<Layer> MOE_LEVEL::make_layer(const Weights& weights) { return std::make_unique<Packed>(weights); }
