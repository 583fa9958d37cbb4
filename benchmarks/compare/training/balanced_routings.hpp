#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <moe/train.hpp>

#include "routing.hpp"

namespace compare {

/// Loads are kept even by a bias of each expert's choice, without a loss (DeepSeek-V3).
class BiasRouting final : public GateRouting {
public:
    BiasRouting(int top_k, double rate, std::size_t n_layers, std::size_t n_experts)
        : GateRouting([this, top_k](const GateState& state) {
              return moe::TokenChoice<moe::Sigmoid>{
                  .top_k = top_k, .normalize = top_k > 1, .selection_bias = balancers_[state.layer].bias};
          }),
          balancers_(n_layers, moe::SignBalancer{.rate = rate}) {
        for (moe::SignBalancer& balancer : balancers_) {
            balancer.reset(n_experts);
        }
    }

    void end_step(const trainer::Step& step) override {
        for (std::size_t i = 0; i < balancers_.size(); ++i) {
            balancers_[i].update(step.counts[i].counts);
        }
    }

private:
    std::vector<moe::SignBalancer> balancers_;
};

/// ReMoE: every expert with a positive logit, whose number an adaptive penalty brings down to top_k on average.
class ReluRouting final : public GateRouting {
public:
    explicit ReluRouting(int top_k)
        : GateRouting([](const GateState&) { return moe::Threshold<moe::ReluScore>{}; }), controller_{.top_k = top_k} {}

    void add_losses(const trainer::RoutedBatch<float>& batch, trainer::Step& step) override {
        for (moe::Tape<float>* const tape : batch.tapes) {
            const moe::L1Loss options{
                .coefficient = controller_.lambda, .scale = batch.share, .top_k = controller_.top_k};
            step.aux += batch.share * moe::add_l1(*tape, options, batch.workspace);
        }
    }
    void end_step(const trainer::Step& step) override {
        std::uint64_t n_active = 0;
        std::uint64_t n_tokens = 0;
        for (const moe::RoutingCounts& counts : step.counts) {
            n_active += counts.total();
            n_tokens += counts.n_tokens;
        }
        (void)controller_.update(n_active, n_tokens);
    }

private:
    moe::SparsityController controller_;
};

/// Every expert whose own threshold, which top_k experts a token pass on average, is exceeded.
class ThresholdRouting final : public GateRouting {
public:
    ThresholdRouting(int top_k, std::size_t n_layers, std::size_t n_experts)
        : GateRouting([this](const GateState& state) {
              return moe::Threshold<moe::Sigmoid>{.thresholds = balancers_[state.layer].thresholds};
          }),
          balancers_(n_layers, moe::ThresholdBalancer{.top_k = top_k, .momentum = momentum}) {
        for (moe::ThresholdBalancer& balancer : balancers_) {
            balancer.reset(n_experts, 0.5F);
        }
    }

    void add_losses(const trainer::RoutedBatch<float>& batch, trainer::Step& /*step*/) override {
        for (std::size_t i = 0; i < batch.tapes.size(); ++i) {
            const moe::MatrixView<const float> logits = batch.tapes[i]->logits();
            scores_.resize(logits.rows() * logits.cols());
            for (std::size_t t = 0; t < logits.rows(); ++t) {
                moe::Sigmoid{}(logits.row_span(t), std::span(scores_).subspan(t * logits.cols(), logits.cols()));
            }
            balancers_[i].update(moe::view(std::as_const(scores_).data(), logits.rows(), logits.cols()));
        }
    }

private:
    /// The scores of a small model move within tens of steps; 0.99 lags behind them.
    static constexpr double momentum = 0.9;

    std::vector<moe::ThresholdBalancer> balancers_;
    std::vector<float> scores_;
};

}  // namespace compare
