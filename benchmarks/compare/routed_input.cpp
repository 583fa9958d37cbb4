#include "routed_input.hpp"

#include <memory>
#include <utility>

#include <moe/instantiate.hpp>
#include <moe/stats.hpp>

#include "logits.hpp"

namespace compare {

namespace {

/// Routes `x` through a layer with the gate; its experts compute nothing.
template <class Layer>
void route(const Layer& layer, const moe::AnyGate& gate, moe::MatrixView<const float> x,
           std::span<const std::int32_t> ids, moe::Observer<float>& observer) {
    moe::ForwardOptions<float> options;
    options.token_ids = ids;
    options.observer = &observer;
    moe::RoutingPlan<float> plan;
    moe::Workspace workspace;
    layer.with_gate(gate).route(x, plan, workspace, moe::SerialExecutor{}, options);
}

/// A layer whose router is the identity, so that its inputs are the logits.
class LogitLayer {
public:
    explicit LogitLayer(std::size_t n)
        : identity_(n * n),
          experts_(n * n),
          layer_(moe::Router{moe::view(std::as_const(identity_).data(), n, n), moe::Dense<>{}},
                 moe::SwiGLU<float>{stack(n, 1, n), stack(n, 1, n), stack(n, n, 1)}) {
        for (std::size_t e = 0; e < n; ++e) {
            identity_[e * n + e] = 1;
        }
    }
    LogitLayer(const LogitLayer&) = delete;
    LogitLayer& operator=(const LogitLayer&) = delete;

    [[nodiscard]] const auto& layer() const { return layer_; }

private:
    using Layer = moe::MoELayer<moe::Router<float, moe::Dense<>>, moe::SwiGLU<float>>;

    [[nodiscard]] moe::WeightStack<float> stack(std::size_t n, std::size_t rows, std::size_t cols) const {
        return moe::stacked<float>(experts_.data(), n, rows, cols);
    }

    std::vector<float> identity_;
    std::vector<float> experts_;
    Layer layer_;
};

RoutedInput skewed_input(Distribution distribution, std::size_t tokens, std::uint64_t seed) {
    constexpr std::size_t n_experts = 64;
    constexpr std::size_t top_k = 8;
    const auto layer = std::make_shared<const LogitLayer>(n_experts);
    const auto logits =
        std::make_shared<const std::vector<float>>(random_logits(distribution, tokens, n_experts, seed));
    std::vector<std::int32_t> ids(tokens);
    for (std::size_t t = 0; t < tokens; ++t) {
        ids[t] = static_cast<std::int32_t>(moe::random_bits(seed + 1, t) % 256);
    }
    return {std::string(distribution_name(distribution)),
            -1,
            tokens,
            n_experts,
            top_k,
            [layer, logits, ids, tokens](const moe::AnyGate& gate, moe::Observer<float>& observer) {
                route(layer->layer(), gate, moe::view(logits->data(), tokens, n_experts), ids, observer);
            }};
}

/// Hands the softmax of the logits it sees to moe::ThresholdBalancer.
class ThresholdFinder final : public moe::Observer<float> {
public:
    ThresholdFinder(std::size_t n_experts, int top_k) : balancer_{.top_k = top_k} { balancer_.reset(n_experts); }

    void on_plan(const moe::RoutingRecord<float>& record) override {
        std::vector<float> scores(record.logits.rows() * record.logits.cols());
        const auto all = moe::view(scores.data(), record.logits.rows(), record.logits.cols());
        for (std::size_t t = 0; t < all.rows(); ++t) {
            moe::Softmax{}(record.logits.row_span(t), all.row_span(t));
        }
        balancer_.update(all);
    }

    [[nodiscard]] const std::vector<float>& thresholds() const { return balancer_.thresholds; }

private:
    moe::ThresholdBalancer balancer_;
};

}  // namespace

std::vector<RoutedInput> model_inputs(const generate::Model& model, const std::string& directory) {
    const generate::Checkpoint stored(directory + "/reference.safetensors");
    const std::vector<std::int32_t> ids = stored.tokens("text", model.config().vocab_size);
    std::vector<RoutedInput> inputs;
    for (std::size_t i = 0; i < model.layers().size(); ++i) {
        const auto x = std::make_shared<const generate::Matrix>(
            stored.matrix("moe_input." + std::to_string(i), static_cast<Eigen::Index>(ids.size()),
                          static_cast<Eigen::Index>(model.config().d_model)));
        const generate::MoEBlock* block = &model.layers()[i].moe;
        inputs.push_back({"tiny-mixtral", static_cast<int>(i), ids.size(), block->n_experts(),
                          static_cast<std::size_t>(model.config().top_k),
                          [block, x, ids](const moe::AnyGate& gate, moe::Observer<float>& observer) {
                              route(*block, gate, moe::view(*x), ids, observer);
                          }});
    }
    return inputs;
}

std::vector<RoutedInput> skewed_inputs(std::size_t tokens, std::uint64_t seed) {
    return {skewed_input(Distribution::zipf, tokens, moe::random_bits(seed, 1)),
            skewed_input(Distribution::one_hot, tokens, moe::random_bits(seed, 2))};
}

Calibration calibrate(const RoutedInput& input) {
    const auto top_k = static_cast<int>(input.top_k);
    moe::SignBalancer balancer;
    balancer.reset(input.experts);
    for (int step = 0; step < 200; ++step) {
        balancer.rate = step < 100 ? 0.02 : 0.002;  // far first, then near
        moe::RouterStats<float> stats(input.experts);
        input.route(moe::TokenChoice<moe::Sigmoid>{.top_k = top_k, .normalize = true, .selection_bias = balancer.bias},
                    stats);
        balancer.update(stats.load());
    }
    ThresholdFinder finder(input.experts, top_k);
    input.route(moe::Dense<>{}, finder);
    return {std::move(balancer.bias), finder.thresholds()};
}

}  // namespace compare
